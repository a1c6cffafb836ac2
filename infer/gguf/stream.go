package gguf

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// streamElements is about how many numbers one goroutine converts at a time.
const streamElements = 1 << 18

// write makes the numbers of a job and appends them to the file, a few runs of rows at a time on all cores.
func (p *plan) write(ctx context.Context, w *Writer, j job, progress func(bytes int)) error {
	workers := runtime.GOMAXPROCS(0)
	for _, part := range j.parts {
		step := max(1, streamElements/max(part.width, part.outWidth()))
		for lo := 0; lo < len(part.rows); lo += workers * step {
			if err := ctx.Err(); err != nil {
				return err
			}
			out := make([][]byte, workers)
			var g errgroup.Group
			for i := range out {
				first, last := min(lo+i*step, len(part.rows)), min(lo+(i+1)*step, len(part.rows))
				g.Go(func() (err error) {
					out[i], err = p.rows(j.Type, part, part.rows[first:last])
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

// rows makes some rows of a part in the stored form of type out.
func (p *plan) rows(out Type, part part, rows []int) ([]byte, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	src, _ := p.src.Tensor(part.src)
	if part.verbatim(src.Type, out) {
		return p.copyRows(src, rows)
	}
	width := part.outWidth()
	values := make([]float32, len(rows)*width)
	err := eachRun(rows, func(place, row, n int) error {
		from, err := p.sourceRows(part, src, row, n)
		if err != nil || from == nil {
			return err
		}
		to := values[place*width : (place+n)*width]
		if part.cols == nil {
			copy(to, from)
		} else {
			for r := range n {
				for i, column := range part.cols {
					if column != subnet.Zero {
						to[r*width+i] = from[r*part.width+column]
					}
				}
			}
		}
		if part.scale != 1 {
			for i := range to {
				to[i] *= part.scale
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return Encode(out, values, width)
}

// sourceRows returns n rows of the matrix that a part gathers from, nil for zeros.
func (p *plan) sourceRows(part part, src Tensor, row, n int) ([]float32, error) {
	if part.src == "" {
		if part.values == nil {
			return nil, nil
		}
		return part.values[row*part.width : (row+n)*part.width], nil
	}
	rowSize, _ := src.Type.RowSize(part.width)
	b := make([]byte, int64(n)*rowSize)
	if err := p.src.readAt(src, b, int64(row)*rowSize); err != nil {
		return nil, err
	}
	return Decode(src.Type, b)
}

// copyRows copies stored rows. Bytes of zero are numbers of zero in every type.
func (p *plan) copyRows(src Tensor, rows []int) ([]byte, error) {
	rowSize, _ := src.Type.RowSize(src.Dims[len(src.Dims)-1])
	b := make([]byte, int64(len(rows))*rowSize)
	err := eachRun(rows, func(place, row, n int) error {
		return p.src.readAt(src, b[int64(place)*rowSize:int64(place+n)*rowSize], int64(row)*rowSize)
	})
	return b, err
}

// eachRun visits the longest runs of consecutive rows: n of them from row on, at place and after. Zeros are passed over.
func eachRun(rows []int, visit func(place, row, n int) error) error {
	for place := 0; place < len(rows); {
		n := 1
		for place+n < len(rows) && rows[place] != subnet.Zero && rows[place+n] == rows[place]+n {
			n++
		}
		if rows[place] != subnet.Zero {
			if err := visit(place, rows[place], n); err != nil {
				return err
			}
		}
		place += n
	}
	return nil
}
