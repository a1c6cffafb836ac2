package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/scratch"
)

// piece does a piece of work and sends what it results in.
func (w *worker) piece(ctx context.Context, s Spec, scorer Scorer, p Piece, m jetstream.Msg) {
	key := keyOfPiece(s.identity(), p)
	defer func() {
		for _, f := range p.Files[:p.Spent] {
			w.o.Files.discard(f) // nobody needs it, or it is downloaded again
		}
	}()
	r, put, err := w.do(ctx, s, scorer, p, key)
	taken := false
	defer func() {
		for _, path := range put {
			if !taken {
				_ = os.Remove(path) // nobody hears of it
			}
		}
	}()
	if ctx.Err() != nil {
		_ = m.Nak() // to another worker, at once
		return
	}
	if errors.Is(err, errUnwanted) { // another worker was faster
		_ = m.DoubleAck(ctx) // it would be terminated later
		return
	}
	if err != nil {
		w.fail(s, key, err)
		_ = m.DoubleAck(ctx) // the search hands it out again
		return
	}
	data, err := json.Marshal(r)
	if err != nil {
		w.fail(s, key, err)
		return
	}
	if w.keep(ctx, resultSubject(s.Search, key), data) != nil {
		return // the task is delivered again
	}
	taken = true
	_ = m.DoubleAck(ctx) // the same
}

// do does a piece of work. put are the files that it has put into a shared folder, also after an error.
func (w *worker) do(ctx context.Context, s Spec, scorer Scorer, p Piece, key string) (_ product, put []string, _ error) {
	var paths []string
	for i, f := range p.Files {
		path, err := w.o.Files.get(ctx, w.o.Conn, w.js, s.Search, f, func(int64) {})
		if err != nil {
			return product{}, nil, fmt.Errorf("file %d: %w", i, err)
		}
		paths = append(paths, path)
	}
	folder, err := scratch.New(w.o.Scratch, "piece")
	if err != nil {
		return product{}, nil, err
	}
	defer func() { _ = folder.Remove() }() // what is in it was sent
	began := time.Now()
	got, err := scorer.Do(ctx, p, paths, folder.Path())
	if err != nil {
		return product{}, nil, err
	}
	w.took(time.Since(began), scorer)
	if len(got.Value) > maxValue || len(got.Files) > maxPieceFiles {
		return product{}, nil, fmt.Errorf("%w: its product has a value of %d bytes and %d files", errMessage, len(got.Value), len(got.Files))
	}
	r := product{Worker: w.o.ID, Value: got.Value}
	for _, path := range got.Files {
		f, err := HashFile(ctx, path)
		if err != nil {
			return product{}, put, err
		}
		at := w.put(path, productName(key, w.o.ID, f))
		if at != "" {
			put = append(put, at)
		} else if err := w.send(ctx, s, key, path, f); err != nil {
			return product{}, put, err
		}
		r.Files = append(r.Files, f)
	}
	return r, put, nil
}

// put moves a file into a shared folder, where this process may write to one, and returns its path there.
func (w *worker) put(path, name string) string {
	for _, dir := range w.o.Files.Shared {
		if to := filepath.Join(dir, name); dir != "" && move(path, to) == nil {
			return to
		}
	}
	return ""
}

// send sends a file to the search, part after part.
func (w *worker) send(ctx context.Context, s Spec, key, path string, f File) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read from
	part := make([]byte, sliceBytes)
	for at, tries := int64(0), 0; ; {
		n, err := from.ReadAt(part[:min(sliceBytes, f.Bytes-at)], at)
		if err != nil && (!errors.Is(err, io.EOF) || int64(n) < min(sliceBytes, f.Bytes-at)) {
			return err
		}
		have, err := w.sendSlice(ctx, s, partOfProduct{w.o.ID, key, f, at}, part[:n])
		switch {
		case errors.Is(err, errRefusedPart), errors.Is(err, errUnwanted):
			return err
		case err != nil:
			if tries++; tries >= partTries {
				return fmt.Errorf("file %.12s: %w", f.SHA256, err)
			}
			if err := pause(ctx, 500*time.Millisecond); err != nil {
				return err
			}
		case have < 0 || have > f.Bytes:
			return fmt.Errorf("%w: %d bytes of %d", errMessage, have, f.Bytes)
		case have == f.Bytes:
			return nil
		case have <= at: // it has lost some
			if tries++; tries >= partTries {
				return fmt.Errorf("file %.12s: it goes on from %d again and again", f.SHA256, have)
			}
			at = have
		default:
			at = have
		}
	}
}

// sendSlice sends a part of a file, and returns how many bytes of it the search has.
func (w *worker) sendSlice(ctx context.Context, s Spec, p partOfProduct, data []byte) (int64, error) {
	message, err := encodeSlice(p, data)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, partWait)
	defer cancel()
	m, err := w.o.Conn.RequestWithContext(ctx, productSubject(s.Search), message)
	if err != nil {
		return 0, err
	}
	var reply sliceReply
	if err := decode(m.Data, maxStatus, &reply); err != nil {
		return 0, err
	}
	if reply.Unwanted {
		return 0, errUnwanted
	}
	if reply.Error != "" {
		return 0, fmt.Errorf("%w: %s", errRefusedPart, line(reply.Error))
	}
	return reply.Have, nil
}

// move puts a file under another name, on another file system by a copy.
func move(from, to string) error {
	if err := os.Rename(from, to); err == nil {
		return nil
	}
	return durable.Copy(from, to, 0o600)
}
