//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64)) && !noxla

package decoder

import (
	"fmt"
	"reflect"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/go-xla/compute/xla"
	"github.com/gomlx/go-xla/pjrt"
)

// clientOf returns the client of GoMLX's XLA backend, which it keeps to itself, nil where there is none. A second client would have
// a second pool of the GPU's memory, and on a processor a second pool of threads. A test fails if the field is no longer there.
func clientOf(dev compute.Backend) client {
	backend, ok := dev.(*xla.Backend)
	if !ok {
		return nil
	}
	field := reflect.ValueOf(backend).Elem().FieldByName("client")
	if !field.IsValid() || field.Type() != reflect.TypeFor[*pjrt.Client]() || field.IsNil() {
		return nil
	}
	return pjrtClient{(*pjrt.Client)(field.UnsafePointer())}
}

type pjrtClient struct{ c *pjrt.Client }

func (c pjrtClient) compile(text string) (executable, error) {
	e, err := c.c.Compile().WithStableHLO([]byte(text)).Done()
	if err != nil {
		return nil, err
	}
	return pjrtExecutable{e}, nil
}

func (c pjrtClient) put(data []float64, dims []int) (buffer, error) {
	b, err := c.c.BufferFromHost().FromRawData(dtypes.UnsafeByteSlice(data), dtypes.Float64, dims).Done()
	if err != nil {
		return nil, err
	}
	return pjrtBuffer{b}, nil
}

type pjrtExecutable struct{ e *pjrt.LoadedExecutable }

func (e pjrtExecutable) run(in []buffer) ([]buffer, error) {
	args := make([]*pjrt.Buffer, len(in))
	for i, b := range in {
		args[i] = b.(pjrtBuffer).b
	}
	out, err := e.e.Execute(args...).Done()
	if err != nil {
		return nil, err
	}
	bufs := make([]buffer, len(out))
	for i, b := range out {
		bufs[i] = pjrtBuffer{b}
	}
	return bufs, nil
}

// A failure to free leaks memory and nothing else.

func (e pjrtExecutable) free() { _ = e.e.Destroy() }

type pjrtBuffer struct{ b *pjrt.Buffer }

func (b pjrtBuffer) get(to []float64) error {
	if size, err := b.b.Size(); err != nil || size != 8*len(to) {
		return fmt.Errorf("an array of %d bytes, want %d numbers (%w)", size, len(to), err)
	}
	return b.b.ToHost(dtypes.UnsafeByteSlice(to))
}

func (b pjrtBuffer) free() { _ = b.b.Destroy() }
