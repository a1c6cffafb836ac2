package sshserver

import (
	"io"
	"time"
)

// writeStep bounds what counts as one write against Limits.Stall: a slow line that takes some bytes a second is slow, not
// stalled.
const writeStep = 16 << 10

// output writes to a client. A write waits for as long as the client's window is full, which holds up nobody but its own
// session; when nothing moves for the time given, stalled is called, which is expected to close the connection and so to
// end the write with an error.
type output struct {
	w       io.Writer
	patient time.Duration
	stalled func()
}

// Write writes all of b.
func (o *output) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) || len(b) == 0 {
		step := b[written:min(len(b), written+writeStep)]
		alarm := time.AfterFunc(o.patient, o.stalled)
		n, err := o.w.Write(step)
		alarm.Stop()
		written += n
		if err != nil || len(b) == 0 {
			return written, err
		}
	}
	return written, nil
}
