// Command lathe searches a trained language model for efficient subnets and runs them.
//
// Without a command it opens the explorer, the terminal interface of package tui. The commands are
//
//	info, doctor                       model metadata; components of this machine
//	convert                            Hugging Face model to GGUF
//	cut, reform, search, compare       make subnets
//	masks, subnets, recipe, fit        edit the draft; list, export, import and choose subnets
//	eval, zeroshot, bench, verify      measure and check models and subnets
//	chat, serve-api                    run models and subnets
//	serve, status                      share the explorer over SSH; state of a workspace
//
// Each command is in the file of its name, or of its group: app.go has the command tree and opens models, output.go writes
// results and progress, exit.go maps errors to exit statuses, shared.go has the commands that a server runs for its clients.
// All of them send commands to an explorer.Exploration and show its snapshots; the engine behind it is chosen in main.go.
//
// explorer/docs/commands.md has all commands and flags. It is generated from the command tree (docs_test.go). The scripts in
// testdata/script run the program, on a tiny model or on a fake backend.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/engine"
	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/llamacpp"
	"github.com/lathe-llm/lathe/search/remote"
	"github.com/lathe-llm/lathe/tui"
	"github.com/lathe-llm/lathe/tui/lathe/internal/environ"
)

func init() { environ.Initialised() } // the main package is the last one

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
	ctx, stop := signal.NotifyContext(context.Background(), endSignals()...)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	a, end := newApp(os.Stdin, os.Stdout, os.Stderr)
	surviveBrokenPipes()
	code := run(ctx, a, os.Args[1:])
	if err := end(); err != nil && code == exitOK {
		code = exitFailure
	}
	return code
}

// newApp returns the program over streams with the real backend, and the function that closes the backend.
func newApp(stdin io.Reader, stdout, stderr io.Writer) (_ *app, end func() error) {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, getenv: os.Getenv}
	var screens atomic.Bool // whether the terminal interface runs, which lines on standard error would disturb
	a.open = func(ctx context.Context, a *app, e *explorer.Exploration, o tui.Options) error {
		screens.Store(true)
		defer screens.Store(false)
		return openInterface(ctx, a, e, o)
	}
	var opened *engine.Engine
	open := func(spec string) (*engine.Engine, error) {
		if opened != nil {
			return opened, nil
		}
		var err error
		cache, err := a.inCache()
		if err != nil {
			cache = "" // nothing is there, and commands that need the folder report it
		}
		opened, err = engine.New(engine.Options{
			Compute: spec, Algebra: a.algebra, Half: a.computeType == explorer.HalfFloats, AtOnce: a.atOnce, Text: a.calibrationText(), Scratch: os.Getenv("LATHE_SCRATCH"), Spill: a.spill, Weights: a.weights, GPU: a.gpu, Cache: cache,
			Web: a.webText(), Code: a.codeText(), Conversation: engine.DefaultConversation, Conversations: a.cached("conversations"),
			Runner: a.engine, RunnerKey: os.Getenv("LLAMA_API_KEY"),
			Version: buildVersion, Worker: workerProgram(), NATSUser: os.Getenv(engine.NATSUserVariable), NATSPassword: os.Getenv(engine.NATSPasswordVariable),
			Report: func(line string) {
				if !screens.Load() {
					fmt.Fprintf(a.stderr, "lathe: %s\n", line)
				}
			},
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
	a.work = func(ctx context.Context, spec string, r engine.WorkRequest) (remote.Done, error) {
		b, err := open(spec)
		if err != nil {
			return remote.Done{}, err
		}
		return b.Work(ctx, r)
	}
	a.evaluateElsewhere = func(ctx context.Context, spec string, r engine.ZeroShotRequest) error {
		b, err := open(spec)
		if err != nil {
			return err
		}
		return b.ZeroShot(ctx, r)
	}
	return a, func() error {
		if opened == nil {
			return nil
		}
		return opened.Close()
	}
}
