package sshserver

import (
	"bytes"
	"context"
	"io"
	"slices"
)

// Limits of what a terminal may send, in bytes.
const (
	keysPerSecond = 16 << 10
	keysAtOnce    = 64 << 10
	maxPaste      = 256 << 10
	// maxRead is the size of a read. At the sustained rate reads are more than 50 ms apart, after which the event reader
	// discards an unfinished sequence, so that it never buffers more than a few reads.
	maxRead = 2 << 10
)

// The marks of a bracketed paste.
var (
	pasteBegins = []byte("\x1b[200~")
	pasteEnds   = []byte("\x1b[201~")
)

// input reads what a terminal sends, at a limited rate, and truncates pastes that are too long, because the event reader
// buffers a paste until its end mark.
type input struct {
	ctx    context.Context
	r      io.Reader
	budget *throttle

	pasting bool
	pasted  int    // bytes since the paste began, or since the last end mark
	tail    []byte // the last bytes read, which may be the beginning of a mark
	ready   []byte // to return from Read
}

func newInput(ctx context.Context, r io.Reader) *input {
	return &input{ctx: ctx, r: r, budget: newThrottle(keysPerSecond, keysAtOnce)}
}

// Read returns what was received.
func (i *input) Read(b []byte) (int, error) {
	for len(i.ready) == 0 {
		var chunk [maxRead]byte
		n, err := i.r.Read(chunk[:])
		if n > 0 {
			if !i.budget.take(i.ctx, n) {
				return 0, io.EOF
			}
			i.take(chunk[:n])
		}
		if err != nil && len(i.ready) == 0 {
			return 0, err
		}
	}
	n := copy(b, i.ready)
	i.ready = i.ready[n:]
	return n, nil
}

// take appends chunk to ready, without the bytes beyond the limit of a paste. Outside a paste it inserts an end mark after as
// many bytes, in case the event reader sees a paste where this function does not; a single end mark is not an event.
func (i *input) take(chunk []byte) {
	i.ready = i.ready[:0]
	for len(chunk) > 0 {
		mark := pasteBegins
		if i.pasting {
			mark = pasteEnds
		}
		n, found := i.seek(chunk, mark)
		part := chunk[:n]
		chunk = chunk[n:]
		switch {
		case i.pasted < maxPaste:
			i.ready = append(i.ready, part...)
		case i.pasting && found:
			i.ready = append(i.ready, pasteEnds...)
		case !i.pasting:
			i.ready = append(append(i.ready, pasteEnds...), part...)
			i.pasted = 0
		}
		if i.pasted += n; found {
			i.pasting, i.pasted = !i.pasting, 0
			i.tail = i.tail[:0]
		}
	}
}

// seek returns the number of bytes up to the end of the first mark, which may have begun in an earlier chunk.
func (i *input) seek(chunk, mark []byte) (n int, found bool) {
	text := slices.Concat(i.tail, chunk)
	if at := bytes.Index(text, mark); at >= 0 {
		return at + len(mark) - len(i.tail), true
	}
	i.tail = append(i.tail[:0], text[max(0, len(text)-len(mark)+1):]...)
	return len(chunk), false
}
