// Package fake is an engine in memory for tests of everything that uses one: a real, deterministic language model over
// bytes that learns a short text when it is loaded. It tokenizes, generates, scores and benchmarks as the interface
// demands, opens no file and needs no cgo.
//
// Tests steer it through [Options]: Gate holds each token back until the test lets it go, Fail makes calls fail.
package fake

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/infer"
)

// Options steers the engine; the zero value is an engine that never fails.
type Options struct {
	// Text is what models learn: DefaultText where empty.
	Text string

	// Gate, if set, is called before each step of work ("load", "prompt", "token", "score", "bench") and may block; an
	// error ends the call with it.
	Gate func(ctx context.Context, step string) error

	// Fail, if set, is asked at the start of each call ("load", "tokenize", "prompt", "generate", "score", "bench",
	// "memory"); an error is the call's result.
	Fail func(call string) error

	// Files, if set, are the only paths that load.
	Files []string
}

// DefaultText is what a model learns where Options.Text is empty: enough English for its output to look like words.
const DefaultText = `A model is a tool, and a smaller tool that does the same work is a better one. ` +
	`The lathe turns a heavy block of wood until only the shape that was wanted remains. ` +
	`What the blade takes away was never needed; what it leaves must hold. ` +
	`Turn a little, look at the shape, and turn again. `

// Engine implements [infer.Engine].
type Engine struct {
	options Options

	mu     sync.Mutex
	closed bool
	models []*Model
}

var (
	_ infer.Engine = (*Engine)(nil)
	_ infer.Model  = (*Model)(nil)
)

// New makes an engine.
func New(o Options) *Engine {
	if o.Text == "" {
		o.Text = DefaultText
	}
	return &Engine{options: o}
}

// Name implements [infer.Engine].
func (e *Engine) Name() string { return "fake (byte n-gram)" }

// Devices implements [infer.Engine].
func (e *Engine) Devices(ctx context.Context) ([]infer.Device, error) {
	return []infer.Device{{Name: "CPU", Description: "no device at all", Free: 1 << 30, Total: 2 << 30}}, ctx.Err()
}

// Load implements [infer.Engine].
func (e *Engine) Load(ctx context.Context, o infer.LoadOptions, progress func(float64)) (infer.Model, error) {
	if err := e.fail("load"); err != nil {
		return nil, err
	}
	if e.options.Files != nil && !slices.Contains(e.options.Files, o.Path) {
		return nil, fmt.Errorf("fake: %s: %w", o.Path, infer.ErrBadModel)
	}
	const steps = 4
	for i := range steps {
		if err := e.gate(ctx, "load"); err != nil {
			return nil, fmt.Errorf("fake: loading %s: %w", o.Path, err)
		}
		if progress != nil {
			progress(float64(i+1) / steps)
		}
	}
	if o.Context <= 0 {
		o.Context = 1024
	}
	m := &Model{
		engine: e,
		grams:  learn(e.options.Text),
		info: infer.Info{
			Path: o.Path, Name: filepath.Base(o.Path), Arch: "ngram", Type: "F32",
			FileBytes: int64(len(e.options.Text)), Params: int64(len(e.options.Text)) * order,
			Layers: order, Hidden: 1, Vocab: vocab, TrainContext: 1024, BOS: tokenBOS, EOS: tokenEnd,
			Context: o.Context, Threads: max(o.Threads, 1), FlashAttention: o.FlashAttention, KVType: o.KVType,
			Engine: e.Name(), LoadTime: time.Millisecond,
		},
	}
	m.threads = m.info.Threads
	m.ctx, m.cancel = context.WithCancelCause(context.Background())

	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, fmt.Errorf("fake: %w", infer.ErrClosed)
	}
	e.models = append(e.models, m)
	return m, nil
}

// Close implements [infer.Engine].
func (e *Engine) Close() error {
	e.mu.Lock()
	models := e.models
	e.models, e.closed = nil, true
	e.mu.Unlock()
	var errs []error
	for _, m := range models {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

func (e *Engine) fail(call string) error {
	if e.options.Fail == nil {
		return nil
	}
	return e.options.Fail(call)
}

func (e *Engine) gate(ctx context.Context, step string) error {
	if e.options.Gate != nil {
		if err := e.options.Gate(ctx, step); err != nil {
			return err
		}
	}
	return ctx.Err()
}
