// Package explorertest supports tests of the explorer and of its viewers: a fake [Backend] whose deterministic results take
// microseconds, a [Clock] that moves only when advanced, [Filled], an exploration that contains everything a screen can
// show, and [Contract], which checks what every backend has to keep.
//
// A test that must hold a job sets [Backend].Pace, which is called before every unit of work and may block.
package explorertest
