// Package explorertest has what tests of the explorer and of its viewers need: a [Backend] that computes deterministic
// make-believe in microseconds, a [Clock] that moves only when told, and [Filled], an exploration in which everything a
// screen can show is there.
//
// A test that must hold a job still sets [Backend].Pace, which is called before every unit of work and may block.
package explorertest
