package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
)

// searchLine is one line of `search --json`: the state after a generation, or the end.
type searchLine struct {
	Event      string  `json:"event"` // "generation" or "end"
	Generation int     `json:"generation"`
	Evaluated  int     `json:"evaluated"`
	Tokens     int64   `json:"tokens"` // computed
	Best       float64 `json:"best_fitness"`
	Perplexity float64 `json:"best_perplexity,omitempty"`
	KL         float64 `json:"best_kl,omitempty"`
	Share      float64 `json:"best_share"`
	Bytes      int64   `json:"best_bytes"`
	Front      int     `json:"front"`

	// In the last line only.
	Model  string           `json:"model,omitempty"`
	Subnet string           `json:"subnet,omitempty"`
	Masks  string           `json:"masks,omitempty"`
	Method *explorer.Method `json:"method,omitempty"`
}

func (a *app) searchCommand() *cobra.Command {
	cmd := a.newSearchCommand(a.search)
	cmd.Use, cmd.Short = "search [MODEL]", "Search for the best subnet of a given size"
	cmd.Long = "Runs until the budget is spent or it is interrupted; the best subnet goes into the workspace. With --json it writes a line\n" +
		"for each generation and one at the end. --resume continues an interrupted search, also after a crash."
	cmd.Example = "  lathe search model.gguf --target 0.8 --budget 20m\n  lathe search --target 0.6 --strategy paper --budget evals=2000 --json"
	return cmd
}

// newSearchCommand returns a command with the flags of a search, which passes the search to run.
func (a *app) newSearchCommand(run func(context.Context, exploration, explorer.StartSearch) error) *cobra.Command {
	var (
		c      explorer.StartSearch
		budget string
	)
	cmd := &cobra.Command{
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			if c.Budget, err = parseBudget(budget); err != nil {
				return usage(err)
			}
			return a.with(cmd.Context(), model, inWorkspace, func(e exploration) error { return run(cmd.Context(), e, c) })
		},
	}
	flags := cmd.Flags()
	flags.Float64Var(&c.Target, "target", 0.8, "ratio of the block parameters to keep, in (0, 1]")
	flags.StringVar(&c.Strategy, "strategy", "", "search strategy: ladder, paper or random (default ladder)")
	flags.StringVar(&budget, "budget", "10m", "limit: a duration such as 20m, evals=N, tokens=N, or several separated by commas")
	flags.StringVar(&c.Fitness, "fitness", "", "what to minimise: kl (to the dense model) or perplexity (default kl)")
	flags.Uint64Var(&c.Seed, "seed", 1, "random seed; the same seed and budget in evaluations give the same subnet")
	flags.Var(&optionalInt{&c.Up}, "up", "steps of the re-fit of W_U of the best subnet, 0 to leave W_U unchanged (default: 4 if the time budget allows much text as well)")
	flags.BoolVar(&c.Resume, "resume", false, "continue the workspace's interrupted search")
	calibrationFlags(cmd, &c.Calibration)
	flags.Lookup("windows").Usage = "calibration windows (default 8; with only a time budget, as many as there is time to re-fit with, up to 128)"
	return cmd
}

// parseBudget reads "10m", "evals=500", "tokens=2e6" or several of them separated by commas.
func parseBudget(text string) (explorer.Budget, error) {
	var b explorer.Budget
	for _, part := range strings.Split(text, ",") {
		key, value, named := strings.Cut(strings.TrimSpace(part), "=")
		if !named {
			d, err := time.ParseDuration(key)
			if err != nil || d <= 0 {
				return b, fmt.Errorf("--budget %q: not a duration such as 10m, evals=N or tokens=N", part)
			}
			b.Seconds = d.Seconds()
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || !(n >= 1 && n <= 1e15) {
			return b, fmt.Errorf("--budget %q: %q is not a count", part, value)
		}
		switch key {
		case "evals":
			b.Evaluations = int(n)
		case "tokens":
			b.Tokens = int64(n)
		default:
			return b, fmt.Errorf("--budget %q: neither evals=N nor tokens=N", part)
		}
	}
	return b, nil
}

func (a *app) search(ctx context.Context, e exploration, c explorer.StartSearch) error {
	receipt, err := e.Do(ctx, a.actor(), c)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(a.stdout)
	lines.SetEscapeHTML(false)
	last := 0
	job, err := a.follow(ctx, e, receipt.Job, func(s *explorer.Snapshot) error {
		if !a.json || s.Search.Job != receipt.Job || s.Search.Generation == last || s.Search.Best == nil {
			return nil
		}
		last = s.Search.Generation
		return lines.Encode(newSearchLine("generation", s.Search))
	})
	s := e.Snapshot()
	if n, ok := s.Subnet(job.Result); ok {
		line := newSearchLine("end", s.Search)
		line.Model, line.Subnet, line.Method, line.Share, line.Bytes = s.Model.Path, string(n.ID), &n.Method, n.Size.Ratio, n.Bytes
		line.Method.Seconds = 0 // so that equal searches end with equal lines
		masks, failed := n.Masks.MarshalText()
		if failed != nil {
			return failed
		}
		line.Masks = string(masks)
		if a.json {
			if err := lines.Encode(line); err != nil {
				return err
			}
		} else {
			line.words(a.stdout, n)
		}
	}
	return err
}

func newSearchLine(event string, s explorer.Search) searchLine {
	line := searchLine{Event: event, Generation: s.Generation, Evaluated: s.Evaluated, Tokens: s.Tokens, Front: len(s.Front)}
	if b := s.Best; b != nil {
		line.Best, line.Perplexity, line.KL, line.Share, line.Bytes = b.Score.Fitness, b.Score.Perplexity(), b.Score.KL, b.Ratio, b.Bytes
	}
	return line
}

func (l searchLine) words(w io.Writer, n explorer.Subnet) {
	fmt.Fprintf(w, "%s: %.3f of the block parameters, fitness %.4f", n.ID, l.Share, l.Best)
	if l.Perplexity > 0 {
		fmt.Fprintf(w, ", perplexity %.2f", l.Perplexity)
	}
	fmt.Fprintf(w, ", %s; %d candidates in %d generations, %.3g tokens computed\n", format.Bytes(l.Bytes), l.Evaluated, l.Generation, float64(l.Tokens))
}
