package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// Options configure child processes. The zero value is usable.
type Options struct {
	// LogDir is the folder of the children's logs, which are kept while a child runs and after a crash; "" means the system's
	// temporary folder.
	LogDir string

	// Executable is the program of the children, which must call RunIfChild; "" means the running program.
	Executable string

	// Env is added to the environment of children.
	Env []string

	// Libraries is the folder of ggml's GPU libraries that children load, from FindLibraries; "" means none. Without it models
	// run on the processor, whatever else is installed.
	Libraries string

	// NoLibraries is why Libraries is "" although some are installed; or "". It is part of errors.
	NoLibraries string
}

// Engine implements [infer.Engine]. New returns one.
type Engine struct {
	options Options
	models  infer.Models
}

var (
	_ infer.Engine = (*Engine)(nil)
	_ infer.Model  = (*Model)(nil)
)

// New returns an engine. It starts no process.
func New(o Options) (*Engine, error) {
	if o.Executable == "" {
		o.Executable = selfExecutable
	}
	if o.Executable == "" {
		path, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("llamacpp: %w", err)
		}
		o.Executable = path
	}
	return &Engine{options: o}, nil
}

// Name implements [infer.Engine].
func (e *Engine) Name() string {
	if engineName == "" {
		return "llama.cpp (not in this build)"
	}
	return engineName
}

// Devices implements [infer.Engine].
func (e *Engine) Devices(ctx context.Context) ([]infer.Device, error) {
	list, _, err := e.Probe(ctx)
	return list, err
}

// Probe lists the devices as Devices does, and returns one line for each GPU library that does not load: what the system's
// loader reports, or that the process which loads it crashes.
func (e *Engine) Probe(ctx context.Context) (list []infer.Device, failed []string, err error) {
	if err := e.open(); err != nil {
		return nil, nil, err
	}
	p, failed, err := startWithLibraries(ctx, e.options)
	if err != nil && e.options.Libraries != "" && errors.Is(err, infer.ErrEngineCrashed) {
		failed = []string{crashOfLibraries(e.options.Libraries, err)}
		p, err = startProcess(ctx, e.options)
	}
	if err != nil {
		return nil, nil, err
	}
	defer p.kill()
	list, err = devices(ctx, p)
	return list, failed, err
}

// startWithLibraries starts a child and loads the GPU libraries in it. It returns one line for each that does not load.
func startWithLibraries(ctx context.Context, o Options) (*process, []string, error) {
	p, err := startProcess(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	if o.Libraries == "" {
		return p, nil, nil
	}
	paths := libraries(o.Libraries)
	reply, err := ask[openReply](ctx, p, kindOpen, openRequest{paths})
	p.libraries = len(reply.Failed) < len(paths)
	if err != nil {
		if p.alive() { // the log of a crashed child is kept: the error names it
			p.kill()
		}
		return nil, nil, err
	}
	return p, reply.Failed, nil
}

// crashOfLibraries describes the crash of a child that loads GPU libraries.
func crashOfLibraries(folder string, err error) string {
	return fmt.Sprintf("loading the GPU libraries in %s: %v", folder, err)
}

func devices(ctx context.Context, p *process) ([]infer.Device, error) {
	f, err := p.call(ctx, kindDevices, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("llamacpp: devices: %w", err)
	}
	reply, err := decode[devicesReply](f)
	classify(reply.Devices)
	return reply.Devices, err
}

// Load implements [infer.Engine].
func (e *Engine) Load(ctx context.Context, o infer.LoadOptions, progress func(float64)) (infer.Model, error) {
	if err := e.open(); err != nil {
		return nil, err
	}
	plan, err := readPlan(o)
	if err != nil {
		return nil, fmt.Errorf("llamacpp: %w", err)
	}
	m := &Model{engine: e, plan: plan, threads: plan.request.Threads}
	m.ctx, m.cancel = context.WithCancelCause(context.Background())
	if err := e.models.Add(m); err != nil {
		return nil, fmt.Errorf("llamacpp: %w", err)
	}
	begin := time.Now()
	if err := m.start(ctx, progress); err != nil {
		_ = m.Close() // nothing runs
		return nil, fmt.Errorf("llamacpp: %s: %w", o.Path, err)
	}
	m.info.LoadTime = time.Since(begin)
	return m, nil
}

func (e *Engine) open() error {
	if err := e.models.Check(); err != nil {
		return fmt.Errorf("llamacpp: %w", err)
	}
	return nil
}

// Close implements [infer.Engine].
func (e *Engine) Close() error { return e.models.Close() }

// openFile opens a model file with package gguf, which refuses files that llama.cpp would crash on.
func openFile(path string) (*gguf.File, error) {
	f, err := gguf.Open(path)
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission):
		return nil, err
	}
	return nil, &badModelError{err}
}

// badModelError adds infer.ErrBadModel to an error without changing its text.
type badModelError struct{ cause error }

func (e *badModelError) Error() string   { return e.cause.Error() }
func (e *badModelError) Unwrap() []error { return []error{infer.ErrBadModel, e.cause} }
