// Package fake implements [infer.Engine] in memory, for tests of code that uses one: a deterministic language model over
// bytes that learns a short text when it is loaded. It keeps the whole contract of the interface, which package infertest
// checks, reads no file and needs no cgo.
//
// Tests control it through [Options]: Gate can block each step of work, Fail makes calls fail.
package fake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lathe-llm/lathe/infer"
)

// Options control the engine. With the zero value it loads any path and never fails.
type Options struct {
	// Text is what models learn; "" means DefaultText.
	Text string

	// Gate, if set, is called before each step of work ("load", "prompt", "token", "score", "bench") and may block; its
	// error is the call's.
	Gate func(ctx context.Context, step string) error

	// Fail, if set, is called at the start of each call ("load", "devices", "tokenize", "pieces", "prompt", "generate",
	// "score", "bench", "memory"; Chat is a "prompt" and a "generate"); its error is the call's.
	Fail func(call string) error

	// Logits, if set, may change the log-probabilities of the token after past, [vocabulary].
	Logits func(past []int32, logits []float32)

	// Template is the chat template that models claim to have; conversations are rendered as ChatML all the same.
	Template string

	// Files, if set, are the only paths that load: another one is a bad model, or missing where there is no such file.
	Files []string
}

// DefaultText is enough English for a model's output to look like words.
const DefaultText = `A model is a tool, and a smaller tool that does the same work is a better one. ` +
	`The lathe turns a heavy block of wood until only the shape that was wanted remains. ` +
	`What the blade takes away was never needed; what it leaves must hold. ` +
	`Turn a little, look at the shape, and turn again. `

// Engine implements [infer.Engine].
type Engine struct {
	options Options
	models  infer.Models
}

var (
	_ infer.Engine = (*Engine)(nil)
	_ infer.Model  = (*Model)(nil)
)

// New returns an engine.
func New(o Options) *Engine {
	if o.Text == "" {
		o.Text = DefaultText
	}
	return &Engine{options: o}
}

// Name implements [infer.Engine].
func (e *Engine) Name() string { return "fake (byte n-gram)" }

// freeMemory is that of the only device, in bytes.
const freeMemory = 1 << 30

// Devices implements [infer.Engine].
func (e *Engine) Devices(ctx context.Context) ([]infer.Device, error) {
	if err := e.begin("devices"); err != nil {
		return nil, err
	}
	return []infer.Device{{Name: "CPU", Description: "no device at all", Free: freeMemory, Total: 2 * freeMemory}}, ctx.Err()
}

// begin starts a call on the engine.
func (e *Engine) begin(call string) error {
	if err := e.models.Check(); err != nil {
		return fmt.Errorf("fake: %w", err)
	}
	return e.fail(call)
}

// check returns an error if o.Path does not load.
func (e *Engine) check(path string) error {
	if e.options.Files == nil || slices.Contains(e.options.Files, path) {
		return nil
	}
	if _, err := os.Stat(path); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", path, infer.ErrBadModel)
}

// Load implements [infer.Engine].
func (e *Engine) Load(ctx context.Context, o infer.LoadOptions, progress func(float64)) (infer.Model, error) {
	if err := e.begin("load"); err != nil {
		return nil, err
	}
	if err := errors.Join(o.Validate(), e.check(o.Path)); err != nil {
		return nil, fmt.Errorf("fake: %w", err)
	}
	if o.Context == 0 {
		o.Context = trainContext
	}
	if o.Batch == 0 {
		o.Batch = infer.DefaultBatch
	}
	need := infer.Memory{Weights: int64(len(e.options.Text)), KVCache: int64(o.Context) * 4}
	if !o.FlashAttention {
		need.Compute = 4 * int64(o.Batch) * int64(o.Context) // the matrix of scores
	}
	if need.Total() > freeMemory && !o.IgnoreMemory {
		return nil, fmt.Errorf("fake: %w: %d bytes, %d are free", infer.ErrNoMemory, need.Total(), int64(freeMemory))
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
	kvType := o.KVType
	if kvType == "" {
		kvType = infer.KVF16
	}
	m := &Model{
		engine: e,
		grams:  learn(e.options.Text),
		info: infer.Info{
			Path: o.Path, Name: filepath.Base(o.Path), Arch: "ngram", Type: "F32",
			FileBytes: need.Weights, Params: int64(len(e.options.Text)) * order,
			Layers: order, Hidden: 1, Vocab: vocab, TrainContext: trainContext, BOS: tokenBOS, EOS: tokenEnd, LongestToken: len("<|im_start|>"),
			Context: o.Context, Placement: "CPU", Threads: max(o.Threads, 1), FlashAttention: o.FlashAttention, KVType: kvType,
			ChatTemplate: e.options.Template, Engine: e.Name(), LoadTime: time.Millisecond, Needed: need,
		},
	}
	m.threads = m.info.Threads
	m.ctx, m.cancel = context.WithCancelCause(context.Background())

	if err := e.models.Add(m); err != nil {
		return nil, fmt.Errorf("fake: %w", err)
	}
	return m, nil
}

// Close implements [infer.Engine].
func (e *Engine) Close() error { return e.models.Close() }

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
