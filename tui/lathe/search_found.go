package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
)

// foundCommands returns the commands on what the last search of a workspace has found.
func (a *app) foundCommands() []*cobra.Command {
	status := &cobra.Command{
		Use: "status [MODEL]", Short: "Show the last search of a workspace, and the workers of the running job", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onSearchOr(cmd.Context(), args, readOnly, func(s *explorer.Snapshot) bool { return len(s.Search.Workers) > 0 }, func(e exploration) error {
				r := newSearchStatus(e.Snapshot())
				return a.result(r, r.words)
			})
		},
	}
	front := &cobra.Command{
		Use: "front [MODEL]", Short: "List the front of the last search: the subnets that no smaller one beats", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onSearch(cmd.Context(), args, readOnly, func(e exploration) error {
				r := newFront(e.Snapshot().Search)
				return a.result(r, r.words)
			})
		},
	}
	var (
		c      explorer.Adopt
		target targetFlags
	)
	adopt := &cobra.Command{
		Use: "adopt [N] [MODEL]", Short: "Add candidate N of the last search to the library, or the best for a target", Args: cobra.RangeArgs(0, 2),
		Long: "N is the number of a candidate of the front or the population, as `search front` lists them, or best. With --target instead of N\n" +
			"the best candidate of the front that meets the target is added: one search serves targets of all kinds.",
		Example: "  lathe search adopt 12\n  lathe search adopt --target 80MB\n  lathe search adopt --target speed=1.5x --type Q8_0",
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if c.Target, err = target.target(); err != nil {
				return err
			}
			c.Candidate = 0
			if target.text == "" {
				if len(args) == 0 {
					return usage(errors.New("the number of a candidate, best or --target is missing"))
				}
				if args[0] != "best" {
					if c.Candidate, err = strconv.Atoi(args[0]); err != nil || c.Candidate < 1 {
						return usage(fmt.Errorf("%q is not the number of a candidate, nor best", args[0]))
					}
				}
				args = args[1:]
			} else if len(args) > 1 {
				return usage(errors.New("either the number of a candidate or --target"))
			}
			return a.onSearch(cmd.Context(), args, inWorkspace, func(e exploration) error { return a.adopt(cmd.Context(), e, c) })
		},
	}
	adopt.Flags().StringVar(&c.Name, "name", "", "name in the workspace")
	target.add(adopt.Flags(), "", "add the best of the front for a target: "+targetUsage)
	return []*cobra.Command{status, front, adopt}
}

// onSearch runs use on the exploration of the model in args, which must have a search.
func (a *app) onSearch(ctx context.Context, args []string, k storage, use func(exploration) error) error {
	return a.onSearchOr(ctx, args, k, func(*explorer.Snapshot) bool { return false }, use)
}

// onSearchOr is onSearch where there is a search or something else that is shown.
func (a *app) onSearchOr(ctx context.Context, args []string, k storage, other func(*explorer.Snapshot) bool, use func(exploration) error) error {
	model, err := a.modelArg(args)
	if err != nil {
		return err
	}
	return a.with(ctx, model, k, func(e exploration) error {
		s := e.Snapshot()
		if s.Search.Unread != "" {
			return marked{errors.New(s.Search.Unread), errInput}
		}
		if s.Search.Best == nil && s.Unfinished == nil && s.Ended == nil && !other(s) {
			return fmt.Errorf("search: %w: the workspace %s has none", explorer.ErrNotFound, s.Workspace.Path)
		}
		return use(e)
	})
}

// searchStatus is what `search status --json` writes.
type searchStatus struct {
	Strategy string       `json:"strategy"`
	Target   targetResult `json:"target"`
	Seed     uint64       `json:"seed"`
	Fitness  string       `json:"fitness"`
	Seconds  float64      `json:"seconds"`
	Dense    float64      `json:"dense_perplexity,omitempty"`
	Levels   int64        `json:"levels_bytes,omitempty"`
	Space    int64        `json:"levels_space,omitempty"` // the most that levels may take
	searchLine
	// Job is the search's job on a server, or the running one that has workers, and Paused why the search is paused although nobody paused it, also one that another
	// process runs.
	Job        *jobResult        `json:"job,omitempty"`
	Workers    []workerState     `json:"workers,omitempty"`  // of the search, or of another job
	Queued     int               `json:"queued,omitempty"`   // candidates or pieces of work that they have
	GivenUp    []string          `json:"given_up,omitempty"` // what workers could not score or do, with the reasons
	Async      bool              `json:"async,omitempty"`    // it does not wait for stragglers, so that the seed does not determine the result
	Paused     string            `json:"paused,omitempty"`
	Answers    *answersResult    `json:"answers,omitempty"`
	Unfinished *unfinishedResult `json:"unfinished_search,omitempty"`
	Ended      *endedResult      `json:"ended_search,omitempty"`
}

func newSearchStatus(s *explorer.Snapshot) searchStatus {
	all := newStatus(s)
	r := searchStatus{
		Strategy: s.Search.Strategy, Target: targetResult(s.Search.Target), Seed: s.Search.Seed, Fitness: s.Search.Fitness, Seconds: s.Search.Elapsed.Seconds(),
		Dense: s.Search.DensePerplexity, Levels: s.Search.LevelsBytes, Space: s.Search.LevelsSpace, searchLine: newSearchLine("state", s.Search), Unfinished: all.Unfinished, Ended: all.Ended,
		Paused: all.Paused, Queued: s.Search.Queued, Async: s.Search.Async, GivenUp: s.Search.GivenUp,
	}
	r.Answers = newAnswers(s.Answers)
	for _, w := range s.Search.Workers {
		r.Workers = append(r.Workers, workerState(w))
	}
	i := slices.IndexFunc(all.Jobs, func(j jobResult) bool { return j.Kind == explorer.JobSearch })
	if at := slices.IndexFunc(all.Jobs, func(j jobResult) bool { return j.State == explorer.Running }); at >= 0 && len(r.Workers) > 0 {
		i = at
	}
	if i >= 0 {
		r.Job = &all.Jobs[i]
	}
	return r
}

func (r searchStatus) words(w io.Writer) {
	if r.Evaluated > 0 {
		fmt.Fprintf(w, "%s at %s: generation %d, %s, best fitness %.4f at share %.3f, %d on the front\n",
			r.Strategy, r.Target.name(), r.Generation, format.Counted(r.Evaluated, "candidate"), r.Best, r.Share, r.Front)
	}
	if r.Levels > 0 {
		fmt.Fprintf(w, "levels: %s on the disk", format.Bytes(r.Levels))
		if r.Space > 0 {
			fmt.Fprintf(w, ", %s are allowed", format.Bytes(r.Space))
		}
		fmt.Fprintln(w)
	}
	switch {
	case r.Paused != "":
		fmt.Fprintf(w, "paused until there is room: %s\n", r.Paused)
	case r.Job != nil:
		if r.Job.Kind != explorer.JobSearch {
			fmt.Fprintf(w, "%s: ", r.Job.Title)
		}
		fmt.Fprintf(w, "%s, %.0f %%\n", r.Job.State, 100*r.Job.Fraction)
	}
	if r.Async {
		fmt.Fprintln(w, "it does not wait for stragglers: the same seed may end with another subnet")
	}
	if len(r.Workers) > 0 {
		workerWords(w, r.Workers, r.Queued)
	}
	for _, g := range r.GivenUp {
		fmt.Fprintf(w, "done by the search itself: %s\n", g)
	}
	r.Answers.words(w, false)
	if u := r.Unfinished; u != nil {
		fmt.Fprintf(w, "unfinished: a search at %s, started by %s; --resume continues it\n", u.Target.name(), u.Author)
	}
	if e := r.Ended; e != nil {
		fmt.Fprintf(w, "ended at %s after %s; --resume continues it\n", e.Target.name(), format.Counted(e.Evaluated, "candidate"))
	}
}

// frontResult is what `search front --json` writes.
type frontResult struct {
	Strategy   string        `json:"strategy"`
	Target     targetResult  `json:"target"`
	Fitness    string        `json:"fitness"`
	Dense      float64       `json:"dense_perplexity,omitempty"`
	Candidates []foundSubnet `json:"candidates"`      // smallest first
	Plain      []plainLine   `json:"plain,omitempty"` // the dense model in plain types, smallest first, of a search over types
	Advice     string        `json:"advice,omitempty"`
}

// foundSubnet is a candidate of a search.
type foundSubnet struct {
	ID         int     `json:"id"`
	Share      float64 `json:"share"`
	Zeroed     float64 `json:"zeroed_share,omitempty"`
	Bytes      int64   `json:"bytes"`
	Score      float64 `json:"fitness"`
	Perplexity float64 `json:"perplexity,omitempty"`
	KL         float64 `json:"kl,omitempty"`
	Generation int     `json:"generation"`
	Best       bool    `json:"best"` // of those within the target
	// Of searches over types.
	BitsPerByte float64 `json:"bits_per_byte,omitempty"`
	Vocab       int     `json:"vocab,omitempty"` // entries of the vocabulary
}

func newFront(s explorer.Search) frontResult {
	r := frontResult{Strategy: s.Strategy, Target: targetResult(s.Target), Fitness: s.Fitness, Dense: s.DensePerplexity, Candidates: []foundSubnet{}}
	for _, c := range s.Front {
		row := foundSubnet{
			ID: c.ID, Share: c.Ratio, Zeroed: c.Zeroed, Bytes: c.Bytes, Score: c.Score.Fitness, Perplexity: c.Score.Perplexity(), KL: c.Score.KL, Generation: c.Generation,
			Best: s.Best != nil && s.Best.ID == c.ID,
		}
		if row.BitsPerByte = c.BitsPerByte; row.BitsPerByte > 0 && c.Masks.Layers() > 0 {
			row.Vocab = c.Masks.VocabLen()
		}
		r.Candidates = append(r.Candidates, row)
	}
	r.Plain, r.Advice = plainLines(s.Plain), s.PlainAdvice()
	return r
}

func (r frontResult) words(w io.Writer) {
	if len(r.Plain) > 0 {
		r.typedWords(w)
		return
	}
	rows := [][]string{{"candidate", "share", "as zeros", "bytes", "fitness", "perplexity", ""}}
	for _, c := range r.Candidates {
		mark := ""
		if c.Best {
			mark = "best"
		}
		rows = append(rows, []string{
			fmt.Sprint(c.ID), fmt.Sprintf("%.3f", c.Share), fmt.Sprintf("%.3f", c.Zeroed), format.Bytes(c.Bytes), fmt.Sprintf("%.4f", c.Score),
			fmt.Sprintf("%.2f", c.Perplexity), mark,
		})
	}
	table(w, rows...)
}

// typedWords lists candidates and plain types by their bytes.
func (r frontResult) typedWords(w io.Writer) {
	rows := [][]string{{"candidate", "bytes", "bits per byte", "share", "vocabulary", "fitness", ""}}
	plain := r.Plain
	add := func(upTo int64) {
		for len(plain) > 0 && plain[0].Bytes <= upTo {
			rows = append(rows, []string{"plain " + plain[0].Type, format.Bytes(plain[0].Bytes), fmt.Sprintf("%.4f", plain[0].BitsPerByte), "1.000", "", "", ""})
			plain = plain[1:]
		}
	}
	for _, c := range r.Candidates {
		add(c.Bytes)
		mark := ""
		if c.Best {
			mark = "best"
		}
		rows = append(rows, []string{fmt.Sprint(c.ID), format.Bytes(c.Bytes), fmt.Sprintf("%.4f", c.BitsPerByte), fmt.Sprintf("%.3f", c.Share), fmt.Sprint(c.Vocab), fmt.Sprintf("%.4f", c.Score), mark})
	}
	add(math.MaxInt64)
	table(w, rows...)
	if r.Advice != "" {
		fmt.Fprintln(w, r.Advice)
	}
}

// adoptResult is what `search adopt --json` writes.
type adoptResult struct {
	Candidate int     `json:"candidate"` // 0 for the best, and for the best for a target
	Subnet    string  `json:"subnet"`
	Name      string  `json:"name"`
	Share     float64 `json:"share"`
	Bytes     int64   `json:"bytes"`
	Refitted  bool    `json:"refitted"` // with the re-fitted weights of its levels
}

func (a *app) adopt(ctx context.Context, e exploration, c explorer.Adopt) error {
	receipt, err := e.Do(ctx, a.actor(), c)
	if err != nil {
		return err
	}
	job, err := a.follow(ctx, e, receipt.Job, nil)
	if err != nil {
		return err
	}
	n, ok := e.Snapshot().Subnet(job.Result)
	if !ok {
		return fmt.Errorf("subnet %s: %w", job.Result, explorer.ErrNotFound)
	}
	r := adoptResult{c.Candidate, string(n.ID), n.Name, n.Size.Ratio, n.Bytes, n.Refit != ""}
	return a.result(r, func(w io.Writer) {
		fmt.Fprintf(w, "kept in the workspace as %s (%s): %.3f of the block parameters, %s\n", r.Subnet, r.Name, r.Share, format.Bytes(r.Bytes))
	})
}

// workerState is a worker of a running search.
type workerState struct {
	ID        string  `json:"id"`
	Host      string  `json:"host"`
	Device    string  `json:"device"`
	State     string  `json:"state"` // preparing, refused, idle, scoring, draining, gone, lost
	Scored    int     `json:"scored"`
	Failed    int     `json:"failed"` // candidates or pieces of work that it could not score or do
	PerMinute float64 `json:"candidates_per_minute,omitempty"`
	Error     string  `json:"error,omitempty"` // the last one
	Doing     string  `json:"doing,omitempty"` // candidates, levels, sensitivity, statistics, perplexity or zeroshot
}

// workerWords lists workers.
func workerWords(w io.Writer, workers []workerState, queued int) {
	fmt.Fprintf(w, "%s, %d %s handed out\n", format.Counted(len(workers), "worker"), queued, workName(workers))
	rows := [][]string{{"worker", "host", "device", "state", "doing", "done", "per minute", "failed", ""}}
	for _, s := range workers {
		rows = append(rows, []string{s.ID, s.Host, s.Device, s.State, s.Doing, fmt.Sprint(s.Scored), fmt.Sprintf("%.1f", s.PerMinute), fmt.Sprint(s.Failed), s.Error})
	}
	table(w, rows...)
}

// workName names what workers do, in the plural.
func workName(workers []workerState) string {
	for _, s := range workers {
		if s.Doing != "" && s.Doing != "candidates" {
			return "pieces of work"
		}
	}
	return "candidates"
}
