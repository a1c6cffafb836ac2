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

// withRoom runs a computation and, where the memory of a GPU that nobody named was full, again on the processor; again is then set, and
// the computation continues from what it has stored.
func withRoom[T any](ctx context.Context, m *model, mon explorer.Monitor, compute func(again bool) (T, error)) (T, error) {
	out, err := compute(false)
	if err == nil || !errors.Is(err, decoder.ErrMemory) || ctx.Err() != nil {
		return out, err
	}
	if !m.mayLeave() {
		return out, fmt.Errorf("%w (--compute-type bf16, --at-once 1 and a smaller --weights need less; --compute xla computes on the processor)", err)
	}
	m.leave()
	mon.Note(fmt.Sprintf("the job continues on the processor: %v", err))
	return compute(true)
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

// leave frees the device, so that the model is loaded on the processor when it is next computed with.
func (m *model) leave() {
	m.mu.Lock()
	m.processor, m.gpu = true, false
	m.mu.Unlock()
	if l, ok := m.loaded.reset(); ok {
		l.model.Close()
		l.device.Close()
	}
}

// onGPU reports whether a device has memory of its own.
func onGPU(d *decoder.Device) bool { return d.Name() == "cuda" }

// The temporary memory of a graph on a GPU: a share of what is free, or an amount where that is unknown.
const (
	graphShare = 8
	graphBytes = 512 << 20
)

// batches returns how graphs are to batch windows, as decoder.WithBatches takes it.
func (e *Engine) batches(ctx context.Context, d *decoder.Device) (count int, bytes int64) {
	switch {
	case e.options.AtOnce > 0:
		return e.options.AtOnce, 0
	case !onGPU(d):
		return 1, 0
	}
	if free := memory.FreeOnNVIDIA(ctx); free > 0 {
		return 0, free / graphShare
	}
	return 0, graphBytes
}
