package decodertest

import (
	"errors"
	"sync/atomic"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
)

// Full is a backend of GoMLX whose memory gets full: after so many graphs that ran, it fails as XLA does.
type Full struct {
	compute.Backend
	Left atomic.Int64 // graphs that may still run
}

// errFull is what XLA's plug-in for CUDA reports.
var errFull = errors.New("PJRT error (code=8): RESOURCE_EXHAUSTED: Out of memory while trying to allocate 402653184 bytes")

// HasSharedBuffers implements [compute.Backend]: the memory of a GPU is not the machine's.
func (*Full) HasSharedBuffers() bool { return false }

// Builder implements [compute.Backend].
func (f *Full) Builder(name string) compute.Builder { return fullBuilder{f.Backend.Builder(name), f} }

// BufferFromFlatData implements [compute.Backend].
func (f *Full) BufferFromFlatData(n compute.DeviceNum, flat any, shape shapes.Shape) (compute.Buffer, error) {
	if f.Left.Load() <= 0 {
		return nil, errFull
	}
	b, err := f.Backend.BufferFromFlatData(n, flat, shape)
	return fullBuffer{b, f}, err
}

// fullBuffer is a buffer of the backend within.
type fullBuffer struct {
	compute.Buffer
	f *Full
}

func (b fullBuffer) Backend() compute.Backend { return b.f }

type fullBuilder struct {
	compute.Builder
	f *Full
}

func (b fullBuilder) Compile() (compute.Executable, error) {
	e, err := b.Builder.Compile()
	if err != nil {
		return nil, err
	}
	return fullExecutable{e, b.f}, nil
}

type fullExecutable struct {
	compute.Executable
	f *Full
}

func (e fullExecutable) Execute(inputs []compute.Buffer, donate []bool, device compute.DeviceNum) ([]compute.Buffer, error) {
	if e.f.Left.Add(-1) < 0 {
		return nil, errFull
	}
	own := make([]compute.Buffer, len(inputs))
	for i, b := range inputs {
		own[i] = b.(fullBuffer).Buffer
	}
	out, err := e.Executable.Execute(own, donate, device)
	for i, b := range out {
		out[i] = fullBuffer{b, e.f}
	}
	return out, err
}
