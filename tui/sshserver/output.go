package sshserver

import (
	"io"
	"time"
)

// writeStep is the size of the writes that Limits.Stall applies to, so that a slow client is not taken for a stalled one.
const writeStep = 16 << 10

// output writes to a client. A write blocks while the client's window is full, which affects its own session only. After
// timeout without progress it calls stalled, which must close the connection so that the write returns an error.
type output struct {
	w       io.Writer
	timeout time.Duration
	stalled func()
}

// Write writes all of b.
func (o *output) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) || len(b) == 0 {
		step := b[written:min(len(b), written+writeStep)]
		alarm := time.AfterFunc(o.timeout, o.stalled)
		n, err := o.w.Write(step)
		alarm.Stop()
		written += n
		if err != nil || len(b) == 0 {
			return written, err
		}
	}
	return written, nil
}
