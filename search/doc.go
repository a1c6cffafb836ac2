// Package search searches for the subnets of the lowest loss at a given size.
//
// A [Strategy] is a seeded, pure function from one [State] to the next: everything
// it has learned is in the state, its random numbers depend on the seed and the
// generation alone, and an [Evaluator] scores its candidates. A search can
// therefore be interrupted at any point and still ends in the same state. The
// strategies, with their names in [New]:
//
//   - [Ladder], ladder, the default: choices of prepared levels under a fixed budget,
//     few moves per child, most children scored on little text;
//   - [Uniform], uniform: the same widths in all layers, for model families whose files
//     hold no others;
//   - [Paper]: the evolution of Shen et al., arXiv 2409.17372, over masks: paper,
//     whose result its ADMM re-fits; paper+, re-fitted as after ladder; paper-laptop,
//     with a smaller population, fewer epochs and less text;
//   - [Random], random: random choices of levels, the baseline.
//
// A [Job] runs a strategy: it enforces budgets, accepts commands while it runs
// (stop, another target, subnets made by hand), pauses, publishes [Snapshot]
// values for viewers that poll, and writes a checkpoint after every generation.
//
// Some words:
//
//   - fitness: what is minimised, in nats per token of calibration text: the
//     negative log-likelihood, or the divergence from the dense model;
//   - tokens: always tokens computed;
//   - level, ladder, choice: a prepared cut of one module, the levels of one module,
//     and one level for each module (package space). The strategy [Ladder] has its
//     name, also on the command line, from searching those;
//   - tier: one of several amounts of text, rising, on which candidates are scored;
//   - front: the subnets that no smaller one beats.
//
// Errors that callers branch on are the sentinels in errors.go. A candidate whose
// fitness is NaN or infinite is dropped and counted; it is not an error.
package search
