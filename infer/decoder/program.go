package decoder

import (
	"errors"
	"fmt"
	"strings"
)

// ErrMemory means that the memory of a device is full.
var ErrMemory = errors.New("the device's memory is full")

// A device with XLA also runs programs that GoMLX's graphs cannot express, in StableHLO text: matrices of 64-bit floats, their
// factors and triangular solutions.

// client is the part of XLA that programs need; see program_xla.go.
type client interface {
	compile(text string) (executable, error)
	put(data []float64, dims []int) (buffer, error)
}

type executable interface {
	run(in []buffer) ([]buffer, error)
	free()
}

type buffer interface {
	get(to []float64) error
	free()
}

// Array is a dense, row-major array of 64-bit floats on a device.
type Array struct {
	d   *Device
	buf buffer
}

// RunsPrograms reports whether [Device.Program] works.
func (d *Device) RunsPrograms() bool { return d.client != nil }

// Put copies an array to the device, a single number for no dimensions. The caller must Close it.
func (d *Device) Put(data []float64, dims ...int) (*Array, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.programmable(); err != nil {
		return nil, err
	}
	buf, err := d.client.put(data, dims)
	if err != nil {
		return nil, failed(fmt.Sprintf("copy %v to the device", dims), err)
	}
	return &Array{d, buf}, nil
}

// Get copies the array to the host.
func (a *Array) Get(to []float64) error {
	a.d.mu.Lock()
	defer a.d.mu.Unlock()
	if a.d.closed || a.buf == nil {
		return ErrClosed
	}
	if err := a.buf.get(to); err != nil {
		return failed("read from the device", err)
	}
	return nil
}

// Close frees the array; a nil one is skipped.
func (a *Array) Close() {
	if a == nil {
		return
	}
	a.d.mu.Lock()
	defer a.d.mu.Unlock()
	if a.buf != nil && !a.d.closed {
		a.buf.free()
	}
	a.buf = nil
}

// Program runs a program on arrays. Its name must determine its text, which is compiled at the first use. The outputs belong to the
// caller.
func (d *Device) Program(name string, text func() string, args ...*Array) ([]*Array, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.programmable(); err != nil {
		return nil, err
	}
	in := make([]buffer, len(args))
	for i, a := range args {
		if in[i] = a.buf; in[i] == nil {
			return nil, ErrClosed
		}
	}
	p := d.programs[name]
	if p == nil {
		var err error
		if p, err = d.client.compile(text()); err != nil {
			return nil, failed("compile "+name, err)
		}
		if d.programs == nil {
			d.programs = make(map[string]executable)
		}
		d.programs[name] = p
	}
	bufs, err := p.run(in)
	if err != nil {
		return nil, failed(name, err)
	}
	out := make([]*Array, len(bufs))
	for i, b := range bufs {
		out[i] = &Array{d, b}
	}
	return out, nil
}

// programmable returns an error where programs cannot run. The lock is held.
func (d *Device) programmable() error {
	switch {
	case d.closed:
		return ErrClosed
	case d.client == nil:
		return fmt.Errorf("decoder: %s runs no programs", d.name)
	}
	return nil
}

// failed is an error of a device: what was computed, and ErrMemory where its memory was full.
func failed(what string, err error) error {
	if isFull(err.Error()) {
		return fmt.Errorf("decoder: %s: %w: %w", what, ErrMemory, err)
	}
	return fmt.Errorf("decoder: %s: %w", what, err)
}

// isFull reports whether a message of a device is about its memory: XLA's have the name or the number of that status.
func isFull(message string) bool {
	return strings.Contains(message, "RESOURCE_EXHAUSTED") || strings.Contains(message, "PJRT error (code=8)") || strings.Contains(message, "Out of memory")
}
