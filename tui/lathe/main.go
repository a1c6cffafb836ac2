// Command lathe searches a trained language model for a smaller subnet and runs what it finds.
//
// Its commands are documented in explorer/docs/commands.md, which is generated from the command tree.
package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/engine"
	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/llamacpp"
)

func main() {
	llamacpp.RunIfChild()
	convert.RunIfChild()
	// Libraries log to standard error through slog, which would disturb the terminal interface.
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	ignoreSizeSignal()
	os.Exit(realMain())
}

// realMain runs the command line of the process with the real backend.
func realMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, open: openInterface}
	var opened *engine.Engine
	open := func(spec string) (*engine.Engine, error) {
		if opened != nil {
			return opened, nil
		}
		var err error
		opened, err = engine.New(engine.Options{
			Compute: spec, Text: a.calibrationText(), Scratch: os.Getenv("LATHE_SCRATCH"), Spill: a.spill, Weights: a.weights,
		})
		return opened, err
	}
	a.backend = func(spec string) (explorer.Backend, error) { return open(spec) }
	a.diagnose = func(ctx context.Context, spec string, p engine.Places) ([]engine.Check, error) {
		b, err := open(spec)
		if err != nil {
			return nil, err
		}
		return b.Diagnose(ctx, p), nil
	}
	a.verify = func(ctx context.Context, spec, path, source string, m explorer.Monitor) (gguf.Verification, error) {
		b, err := open(spec)
		if err != nil {
			return gguf.Verification{}, err
		}
		return b.Verify(ctx, path, source, m)
	}
	code := run(ctx, a, os.Args[1:])
	if opened != nil {
		if err := opened.Close(); err != nil && code == exitOK {
			code = exitFailure
		}
	}
	return code
}

// version returns the module's version as recorded by the Go tool.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "unreleased"
}
