package gguf

import (
	"fmt"
	"io"
	"slices"
)

// chunkElements is about how many numbers are converted at a time, so that converting a large tensor takes little memory besides the result.
const chunkElements = 1 << 20

// Read returns the stored bytes of a tensor. It wraps [ErrMissing] where there is no such tensor.
func (f *File) Read(name string) ([]byte, error) {
	t, err := f.tensor(name)
	if err != nil {
		return nil, err
	}
	b := make([]byte, t.Size)
	return b, f.readAt(t, b, 0)
}

// Float32 returns the numbers of a tensor, row-major, and its extents, [out, in] for a matrix. It wraps
// [ErrMissing] where there is no such tensor and [ErrType] where its type cannot be converted.
func (f *File) Float32(name string) (data []float32, dims []int, err error) {
	t, err := f.tensor(name)
	if err != nil {
		return nil, nil, err
	}
	data = make([]float32, t.Elements())
	if err := f.fill(t, data); err != nil {
		return nil, nil, err
	}
	return data, slices.Clone(t.Dims), nil
}

// ReadFloat32 reads the numbers of a tensor into a slice of the same length, see [File.Float32].
func (f *File) ReadFloat32(name string, to []float32) error {
	t, err := f.tensor(name)
	if err != nil {
		return err
	}
	if int64(len(to)) != t.Elements() {
		return fmt.Errorf("gguf: %s: tensor %q has %d numbers, not %d", f.path, name, t.Elements(), len(to))
	}
	return f.fill(t, to)
}

func (f *File) fill(t Tensor, to []float32) error {
	return f.eachChunk(t, func(rows []float32) error {
		to = to[copy(to, rows):]
		return nil
	})
}

// eachChunk calls visit with the numbers of a tensor, some whole rows at a time. The slice is valid until visit returns.
func (f *File) eachChunk(t Tensor, visit func(rows []float32) error) error {
	row := t.Dims[len(t.Dims)-1]
	rows := int(t.Elements() / int64(row))
	rowSize, _ := t.Type.RowSize(row)
	step := max(1, chunkElements/row)
	buf := make([]byte, int64(min(step, rows))*rowSize)
	for lo := 0; lo < rows; lo += step {
		n := min(step, rows-lo)
		b := buf[:int64(n)*rowSize]
		if err := f.readAt(t, b, int64(lo)*rowSize); err != nil {
			return err
		}
		values, err := Decode(t.Type, b)
		if err != nil {
			return fmt.Errorf("gguf: %s: tensor %q: %w", f.path, t.Name, err)
		}
		if err := visit(values); err != nil {
			return err
		}
	}
	return nil
}

func (f *File) tensor(name string) (Tensor, error) {
	t, ok := f.byName[name]
	if !ok {
		return Tensor{}, fmt.Errorf("gguf: %s: tensor %q: %w", f.path, name, ErrMissing)
	}
	return t, nil
}

// readAt fills b from the bytes of t that start at offset.
func (f *File) readAt(t Tensor, b []byte, offset int64) error {
	_, err := f.r.ReadAt(b, t.Offset+offset)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("gguf: %s: tensor %q: %w", f.path, t.Name, err)
	}
	return nil
}
