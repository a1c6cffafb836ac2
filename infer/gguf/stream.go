package gguf

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// streamElements is about how many numbers one goroutine converts at a time.
const streamElements = 1 << 18

// write appends a tensor to the file. It converts a few ranges of rows at a time, on all cores.
func (p *plan) write(ctx context.Context, w *Writer, j target, progress func(bytes int)) error {
	workers := runtime.GOMAXPROCS(0)
	for _, piece := range j.pieces {
		step := max(1, streamElements/max(piece.width, piece.outWidth()))
		for lo := 0; lo < len(piece.rows); lo += workers * step {
			if err := ctx.Err(); err != nil {
				return err
			}
			out := make([][]byte, workers)
			var g errgroup.Group
			for i := range out {
				first, last := min(lo+i*step, len(piece.rows)), min(lo+(i+1)*step, len(piece.rows))
				g.Go(func() (err error) {
					out[i], err = p.rows(j.Type, piece, piece.rows[first:last])
					return err
				})
			}
			if err := g.Wait(); err != nil {
				return err
			}
			for _, b := range out {
				if err := w.Append(j.Name, b); err != nil {
					return err
				}
				progress(len(b))
			}
		}
	}
	return nil
}

// rows returns rows of a piece as stored in type out.
func (p *plan) rows(out Type, piece piece, rows []int) ([]byte, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	src, _ := p.src.Tensor(piece.src)
	if piece.verbatim(src.Type, out) {
		return p.copyRows(src, rows)
	}
	values, err := p.values(piece, src, rows)
	if err != nil {
		return nil, err
	}
	b, err := EncodeWeighted(out, values, piece.outWidth(), p.importance(piece))
	if err != nil && piece.src != "" {
		return nil, fmt.Errorf("gguf: %s: tensor %q: %w", p.src.path, piece.src, err)
	}
	return b, err
}

// values returns rows of a piece as numbers.
func (p *plan) values(piece piece, src Tensor, rows []int) ([]float32, error) {
	width := piece.outWidth()
	values := make([]float32, len(rows)*width)
	err := eachRun(rows, func(at, row, n int) error {
		from, err := p.sourceRows(piece, src, row, n)
		if err != nil || from == nil {
			return err
		}
		to := values[at*width : (at+n)*width]
		if piece.cols == nil {
			copy(to, from)
		} else {
			for r := range n {
				for i, column := range piece.cols {
					if column != subnet.Zero {
						to[r*width+i] = from[r*piece.width+column]
					}
				}
			}
		}
		if piece.scale != 1 {
			for i := range to {
				to[i] *= piece.scale
			}
		}
		return nil
	})
	return values, err
}

// widen gives tensors with numbers beyond the range of their type one that holds them. It reads those that are converted from a type of a
// wider range.
func (p *plan) widen(ctx context.Context) error {
	changed := false
	for i := range p.targets {
		j := &p.targets[i]
		for _, piece := range j.pieces {
			wider, reason, err := p.outOfRange(ctx, j.Type, piece)
			if err != nil {
				return err
			}
			if reason == "" {
				continue
			}
			p.report.Fallbacks = append(p.report.Fallbacks, Fallback{Tensor: j.Name, Want: j.Type.String(), Got: wider.String(), Reason: reason})
			j.Type, changed = wider, true
		}
	}
	if changed {
		p.report = Report{Fallbacks: p.report.Fallbacks}
		p.account()
	}
	return nil
}

// outOfRange returns a type for a piece whose numbers do not fit the range of a type, and the reason, "" where they fit.
func (p *plan) outOfRange(ctx context.Context, t Type, piece piece) (wider Type, reason string, err error) {
	check := func(values []float32) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return CheckRange(t, values)
	}
	src, stored := p.src.Tensor(piece.src)
	switch {
	case !stored:
		src.Type, err = F32, check(piece.values)
	case piece.verbatim(src.Type, t), limit(src.Type) <= limit(t), src.Type != F32 && src.Type != BF16:
		return t, "", nil
	default:
		err = p.src.eachChunk(src, check)
	}
	if errors.Is(err, ErrRange) {
		return WiderType(src.Type), err.Error(), nil
	}
	if err != nil && stored {
		err = fmt.Errorf("gguf: %s: tensor %q: %w", p.src.path, piece.src, err)
	}
	return t, "", err
}

// sourceRows returns n rows of the matrix that a piece gathers from, nil for zeros.
func (p *plan) sourceRows(piece piece, src Tensor, row, n int) ([]float32, error) {
	if piece.src == "" {
		if piece.values == nil {
			return nil, nil
		}
		return piece.values[row*piece.width : (row+n)*piece.width], nil
	}
	rowSize, _ := src.Type.RowSize(piece.width)
	b := make([]byte, int64(n)*rowSize)
	if err := p.src.readAt(src, b, int64(row)*rowSize); err != nil {
		return nil, err
	}
	return Decode(src.Type, b)
}

// copyRows copies stored rows. Zero bytes are zeros in every type.
func (p *plan) copyRows(src Tensor, rows []int) ([]byte, error) {
	rowSize, _ := src.Type.RowSize(src.Dims[len(src.Dims)-1])
	b := make([]byte, int64(len(rows))*rowSize)
	err := eachRun(rows, func(at, row, n int) error {
		return p.src.readAt(src, b[int64(at)*rowSize:int64(at+n)*rowSize], int64(row)*rowSize)
	})
	return b, err
}

// eachRun calls visit for every longest run of consecutive rows: n rows from row on, at positions from at on. It skips zeros.
func eachRun(rows []int, visit func(at, row, n int) error) error {
	for at := 0; at < len(rows); {
		n := 1
		for at+n < len(rows) && rows[at] != subnet.Zero && rows[at+n] == rows[at]+n {
			n++
		}
		if rows[at] != subnet.Zero {
			if err := visit(at, rows[at], n); err != nil {
				return err
			}
		}
		at += n
	}
	return nil
}
