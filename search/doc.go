// Package search looks for the subnets that lose least at a given size.
//
// A [Strategy] is a seeded, pure function from one [State] to the next: all it
// knows is in the state, all its chance comes from the seed and the generation's
// number, and all it learns comes from an [Evaluator] that scores candidates. So
// a search can be stopped anywhere, and goes on to the same end. There are three:
//
//   - [Ladder], the default: choices of prepared levels under a fixed budget,
//     few moves per child, most children scored on little text;
//   - [Paper]: the evolution of Shen et al., arXiv 2409.17372, over masks;
//   - [Random]: choices of levels drawn at random, the baseline.
//
// A [Job] runs a strategy: it keeps budgets, takes orders while it runs (pause,
// stop, another target, subnets made by hand), publishes [Snapshot] values for
// viewers that poll, and writes a checkpoint after every generation.
//
// Fitness is what is minimised, in nats per token of calibration text: the
// negative log-likelihood, or the divergence from the dense model. Tokens always
// means tokens computed.
//
// Errors that callers branch on are the sentinels in errors.go; everything else
// says in words what was wrong. A candidate whose fitness is no number is dropped
// and counted, never an error.
package search
