package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
)

func (a *app) verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE [MODEL]",
		Short: "Check a file that was cut from a model against that model",
		Long: "Compares the hash of MODEL with the hash in FILE, the shapes in FILE with those of its masks, and every tensor with the\n" +
			"model's. Then it compares distributions of the next token at 511 tokens of the default text: of FILE with those of MODEL under\n" +
			"the same masks, both in the graphs that search computes with (subnet), and of FILE in llama.cpp with those of FILE in the graphs\n" +
			"(engine). The limit of their mean divergence is 0.0001 nats per token, and in llama.cpp, which rounds activations, 0.001 or, with\n" +
			"quantised matrices, 0.03. If FILE has other types than MODEL, the divergence from that is reported and has no limit.",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args[1:])
			if err != nil {
				return err
			}
			if model, err = a.local(cmd.Context(), model); err != nil {
				return err
			}
			watch := a.watch("verify")
			v, err := a.verify(cmd.Context(), a.compute, args[0], model, watch)
			watch.clear()
			if err != nil {
				return err
			}
			r := struct {
				OK bool `json:"ok"`
				gguf.Verification
			}{v.OK(), v}
			err = a.result(r, func(w io.Writer) {
				for _, f := range v.Findings {
					fmt.Fprintf(w, "%-8s %s: %s\n", f.Outcome, f.Check, f.Detail)
				}
				fmt.Fprintf(w, "tensors: %d bit-identical, %d different by rounding, %d re-fitted\n", v.Exact, v.Rounded, len(v.Refitted))
			})
			if err != nil {
				return err
			}
			return v.Err()
		},
	}
}

// watcher is the monitor of work that is not a job. It may be used from any goroutine.
type watcher struct {
	title string

	mu sync.Mutex // guards p, and orders what is written
	p  progress
}

// watch returns a monitor that shows progress.
func (a *app) watch(title string) *watcher {
	return &watcher{title: title, p: progress{w: a.stderr, live: a.animates(), now: time.Now}}
}

// clear removes the progress from the terminal.
func (w *watcher) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.p.clear()
}

func (w *watcher) Progress(done, total float64, unit, step string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.p.show(explorer.Job{Title: w.title, State: explorer.Running, Progress: explorer.Progress{Done: done, Total: total, Unit: unit, Step: step}})
}

func (w *watcher) Note(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.p.line(text)
}

func (w *watcher) Layer(explorer.LayerProgress)                        {}
func (w *watcher) Phase(explorer.Phase)                                {}
func (w *watcher) Workers(explorer.Crew)                               {}
func (w *watcher) Gate(ctx context.Context) error                      { return ctx.Err() }
func (w *watcher) Persist(_ context.Context, write func() error) error { return write() }
