package engine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/memory"
)

// settings are how a model is loaded.
type settings struct {
	half   bool
	atOnce int
}

// settings are those of the options.
func (e *Engine) settings() settings { return settings{half: e.options.Half, atOnce: e.options.AtOnce} }

// weights is the type of weights on the device.
func (s settings) weights() string {
	if s.half {
		return explorer.HalfFloats
	}
	return explorer.Floats
}

// options are those of the decoder.
func (s settings) options(ctx context.Context, d *decoder.Device) []decoder.Option {
	out := []decoder.Option{decoder.WithBatches(s.batches(ctx, d))}
	if s.half {
		out = append(out, decoder.WithHalf())
	}
	return out
}

// A room is how a computation has the model loaded.
type room struct {
	calibration explorer.Calibration
	// shared has the model stay as another computation that has not ended has it.
	shared bool
	// once is why a computation that has lost its model does not run again, "" where it does.
	once string
}

// withRoom runs a computation on the model as it is to be loaded. Where the memory of a GPU that nobody named was full, or another job
// has loaded the model in another way while this one was paused, it runs again, in the first case on the processor; again is then
// set, and the computation continues from what it has stored.
func withRoom[T any](ctx context.Context, m *model, r room, mon explorer.Monitor, compute func(again bool) (T, error)) (T, error) {
	defer m.computing(1)()
	for again := false; ; again = true {
		loads := m.computeWith(r)
		out, err := compute(again)
		switch {
		case err == nil || ctx.Err() != nil:
			return out, err
		case errors.Is(err, decoder.ErrClosed) && m.loads() != loads:
			if r.once != "" {
				return out, fmt.Errorf("another job has loaded the model with other settings, and %s: %w", r.once, err)
			}
			mon.Note("another job has loaded the model with other settings: the job runs again from what it has stored")
			continue
		case !errors.Is(err, decoder.ErrMemory):
			return out, err
		case !m.mayLeave():
			return out, fmt.Errorf("%w (--compute-type bf16, --at-once 1 and a smaller --weights need less; --compute xla computes on the processor)", err)
		}
		m.mu.Lock()
		m.processor, m.gpu = true, false
		m.mu.Unlock()
		m.unload()
		mon.Note(fmt.Sprintf("the job continues on the processor: %v", err))
	}
}

// computing counts a computation until its result is called.
func (m *model) computing(n int) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.computations += n
	return func() { m.computing(-n) }
}

// computeWith has the model loaded as a computation, which is counted already, requires when it is next computed with. It returns loads.
func (m *model) computeWith(r room) int {
	c := r.calibration
	want := m.engine.settings()
	if c.ComputeType != "" {
		want.half = c.ComputeType == explorer.HalfFloats
	}
	if c.AtOnce > 0 {
		want.atOnce = c.AtOnce
	}
	m.mu.Lock()
	if r.shared && m.computations > 1 {
		want = m.settings
	}
	same := m.settings == want
	m.settings = want
	m.mu.Unlock()
	if !same {
		m.unload()
	}
	return m.loads()
}

// loadedWith returns the settings that the model is loaded with.
func (m *model) loadedWith() settings {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settings
}

// loads returns how often the model was unloaded.
func (m *model) loads() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reloads
}

// unload frees the device and the weights on it.
func (m *model) unload() {
	m.mu.Lock()
	m.reloads++
	m.mu.Unlock()
	if l, ok := m.loaded.reset(); ok {
		l.model.Close()
		l.device.Close()
	}
}

// mayLeave reports whether the model computes on a GPU that was chosen because it was there.
func (m *model) mayLeave() bool {
	auto := func(spec string) bool { return spec == "" || spec == "auto" }
	if !auto(m.engine.options.Compute) || !auto(os.Getenv(decoder.DeviceEnv)) {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gpu
}

// onGPU reports whether a device has memory of its own.
func onGPU(d *decoder.Device) bool { return d.Name() == "cuda" }

// The temporary memory of a graph on a GPU: a share of what is free, or an amount where that is unknown.
const (
	graphShare = 8
	graphBytes = 512 << 20
)

// batches returns how graphs are to batch windows, as decoder.WithBatches takes it.
func (s settings) batches(ctx context.Context, d *decoder.Device) (count int, bytes int64) {
	switch {
	case s.atOnce > 0:
		return s.atOnce, 0
	case !onGPU(d):
		return 1, 0
	}
	if free := memory.FreeOnNVIDIA(ctx); free > 0 {
		return 0, free / graphShare
	}
	return 0, graphBytes
}
