package sshserver

import (
	"bytes"
	"context"
	"io"
)

// Bounds of what a terminal may send, in bytes.
const (
	keysPerSecond = 16 << 10
	keysAtOnce    = 64 << 10
	maxPaste      = 256 << 10
	// maxRead is handed on at once. At the sustained rate that leaves gaps longer than the 50 ms after which the event
	// reader gives up on a sequence that does not end, so that it never holds more than a few reads of one.
	maxRead = 2 << 10
)

// Bracketed paste, as terminals mark it.
var (
	pasteBegins = []byte("\x1b[200~")
	pasteEnds   = []byte("\x1b[201~")
)

// input reads what a terminal sends, at a bounded rate, and ends pastes that are too long: the event reader keeps a paste
// until its end has come.
type input struct {
	ctx    context.Context
	r      io.Reader
	budget *throttle

	pasting bool
	pasted  int    // bytes since the paste began, or since the last end mark
	tail    []byte // what was read last, as much as a mark may have begun in
	ready   []byte // to be handed on
}

func newInput(ctx context.Context, r io.Reader) *input {
	return &input{ctx: ctx, r: r, budget: newThrottle(keysPerSecond, keysAtOnce)}
}

// Read hands on what has come.
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

// take appends chunk to ready, without what is beyond the limit of a paste. An end mark is also put in where none has come
// for as long outside of a paste, in case the event reader sees one where this does not; it is no event of its own.
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

// seek returns how much of chunk to take: up to the end of the first mark, which may have begun in an earlier one.
func (i *input) seek(chunk, mark []byte) (n int, found bool) {
	text := append(i.tail, chunk...)
	if at := bytes.Index(text, mark); at >= 0 {
		return at + len(mark) - len(i.tail), true
	}
	i.tail = append(i.tail[:0], text[max(0, len(text)-len(mark)+1):]...)
	return len(chunk), false
}
