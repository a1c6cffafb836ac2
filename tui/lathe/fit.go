package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/explorer/report"
	"github.com/lathe-llm/lathe/search"
)

func (a *app) fitCommand() *cobra.Command {
	var (
		memory, name string
		context      int
		adopt        bool
		target       targetFlags
		speed        float64
		out          outFlags
		c            explorer.Quantize // of what is made: name, calibration, seed, vocabulary
		vocab        = fitVocab{size: explorer.VocabSize{Auto: true}}
	)
	cmd := &cobra.Command{
		Use:   "fit [MODEL]",
		Short: "Find the best subnet for an amount of memory or another target, or make one",
		Long: "Chooses among the dense model, the subnets of the workspace and the front of its last search, which may run or have run in\n" +
			"another process. --memory is all the memory that a model needs to run; --target is a target of searches. Times per token are\n" +
			"measured once on this machine. If a candidate of the front is chosen, --adopt adds it to the workspace, with the weights of its\n" +
			"levels.\n\n" +
			"With --memory and -o it makes a file, and needs no search for that. It first writes what it expects. Then it chooses widths, types\n" +
			"and the number of kept tokens of the vocabulary, for the memory that the engine's working memory at the context leaves, measures\n" +
			"the speed if --speed is given, and writes the file. Tokens are dropped only if the bytes saved reduce the loss more elsewhere, as\n" +
			"measured on the calibration texts. Texts in other languages then take more tokens; --vocab all keeps every token.",
		Example: "  lathe fit --memory 96MB --context 2048\n  lathe fit --target speed=1.3x\n  lathe fit --memory 96MB --adopt --name small\n" +
			"  lathe fit model.gguf --memory 2GB --context 8192 --speed 20 -o small.gguf\n" +
			"  lathe fit --memory 256MB --context 4096 --vocab all -o small.gguf",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			if name != "" && !adopt && out.path == "" {
				return usage(errors.New("--name: there is nothing to name without --adopt or -o"))
			}
			if err := makes(memory, speed, adopt, out); err != nil {
				return err
			}
			for _, flag := range []string{"vocab", "text", "draw", "windows", "seq", "seed", "force"} {
				if out.path == "" && cmd.Flags().Changed(flag) {
					return usage(fmt.Errorf("--%s needs -o FILE: without it nothing is made", flag))
				}
			}
			find, timed, err := fitFor(cmd, memory, context, &target)
			if err != nil {
				return err
			}
			k := readOnly
			if adopt || timed || out.path != "" {
				k = inWorkspace
			}
			return a.with(cmd.Context(), model, k, func(e exploration) error {
				if out.path == "" {
					return a.fitFind(cmd.Context(), e, find, adopt, name)
				}
				limit, err := parseBytes(memory)
				if err != nil {
					return usage(fmt.Errorf("--memory: %w", err))
				}
				c.Name, c.Vocab = name, vocab.size
				if !cmd.Flags().Changed("vocab") {
					c.Vocab = report.DefaultVocab(e.Snapshot().Model)
				}
				p, err := a.planFit(cmd.Context(), e, report.FitAsked{Limit: limit, Context: context, Speed: speed, Vocab: c.Vocab})
				if err != nil {
					return err
				}
				return a.fitMake(cmd.Context(), e, c, p, out)
			})
		},
	}
	cmd.Flags().StringVar(&memory, "memory", "", "available memory, such as 4GB or 512MB")
	cmd.Flags().IntVar(&context, "context", 4096, "tokens of context, with --memory")
	target.add(cmd.Flags(), "", "instead of --memory: "+targetUsage)
	cmd.Flags().BoolVar(&adopt, "adopt", false, "add the candidate to the workspace if it is one of the search's front")
	cmd.Flags().StringVar(&name, "name", "", "name in the workspace, with --adopt or -o")
	cmd.Flags().Float64Var(&speed, "speed", 0, "least tokens per second that the file generates on this machine, with -o")
	cmd.Flags().Var(&vocab, "vocab", "tokens of the vocabulary to keep, with -o: auto (drops tokens if their bytes gain more elsewhere), all, a number such as 24000, or a share of the tokens of the calibration texts such as 0.999")
	calibrationFlags(cmd, &c.Calibration)
	cmd.Flags().Lookup("windows").Usage = fitWindowsUsage()
	cmd.Flags().Uint64Var(&c.Seed, "seed", 1, "random seed, with -o")
	out.addFile(cmd)
	return cmd
}

// fitFind shows the best so far, which find finds, and with adopt adds it to the workspace where it is a candidate.
func (a *app) fitFind(ctx context.Context, e exploration, find func(context.Context, *app, exploration) (fitResult, error), adopt bool, name string) error {
	s := e.Snapshot()
	r, err := find(ctx, a, e)
	if err != nil {
		return err
	}
	if r.Candidate > 0 && adopt {
		if r, err = a.adoptFit(ctx, e, r, name); err != nil {
			return err
		}
	}
	if s.Search.Unread != "" && a.shared == nil {
		fmt.Fprintf(a.stderr, "lathe: %s\n", s.Search.Unread)
	}
	return a.result(r, r.words)
}

// fitVocab is the value of the flag of the vocabulary of what is made.
type fitVocab struct{ size explorer.VocabSize }

// allEntries is its value for the whole vocabulary.
const allEntries = "all"

func (v *fitVocab) String() string { return cmp.Or(v.size.String(), allEntries) }

func (v *fitVocab) Set(text string) error {
	if strings.EqualFold(strings.TrimSpace(text), allEntries) {
		v.size = explorer.VocabSize{}
		return nil
	}
	size, err := explorer.ParseVocabSize(text)
	if err == nil {
		v.size = size
	}
	return err
}

func (v *fitVocab) Type() string { return "tokens" }

// fitFor reads the flags of what to fit into. find finds the subnet; timed reports whether that may measure times.
func fitFor(cmd *cobra.Command, memory string, tokens int, flags *targetFlags) (find func(context.Context, *app, exploration) (fitResult, error), timed bool, err error) {
	switch {
	case memory != "" && flags.text != "":
		return nil, false, usage(errors.New("--memory and --target: give one of them"))
	case memory == "" && flags.text == "":
		return nil, false, usage(errors.New("--memory or --target is missing"))
	case flags.text != "" && cmd.Flags().Changed("context"):
		return nil, false, usage(errors.New("--context: a target has its own, as in memory=512MB@4096"))
	case memory != "" && cmd.Flags().Changed("type"):
		return nil, false, usage(errors.New("--type: it belongs to --target"))
	case memory != "":
		limit, err := parseBytes(memory)
		if err != nil {
			return nil, false, usage(fmt.Errorf("--memory: %w", err))
		}
		return func(_ context.Context, _ *app, e exploration) (fitResult, error) {
			f, err := report.FitMachine(e.Snapshot(), limit, tokens)
			r := newFit(f.Fit)
			r.Memory, r.Limit, r.Context = f.Memory, limit, tokens
			return r, err
		}, false, nil
	}
	t, err := flags.target()
	if err != nil {
		return nil, false, err
	}
	return func(ctx context.Context, a *app, e exploration) (fitResult, error) {
		f, err := a.fitTarget(ctx, e, t)
		r := newFit(f)
		r.target, r.Target = t, &fitTarget{Asked: targetResult(t), Cost: f.Cost}
		return r, err
	}, t.Timed(), nil
}

// fitTarget finds the best for a target, by a job where that measures times.
func (a *app) fitTarget(ctx context.Context, e exploration, t search.Target) (explorer.Fit, error) {
	if !t.Timed() {
		return e.Snapshot().FitTarget(t)
	}
	job, err := a.start(ctx, e, explorer.FindFit{Target: t})
	if err != nil || job.Fit == nil {
		return explorer.Fit{}, err
	}
	return *job.Fit, nil
}

// fitResult is what `fit --json` writes.
type fitResult struct {
	Subnet    string     `json:"subnet"`              // "" for a candidate that is not in the workspace
	Candidate int        `json:"candidate,omitempty"` // of the search's front
	Name      string     `json:"name"`
	Memory    int64      `json:"memory_bytes,omitempty"` // with --memory, as the two next ones
	Limit     int64      `json:"limit_bytes,omitempty"`
	Context   int        `json:"context,omitempty"`
	Target    *fitTarget `json:"target,omitempty"`
	Share     float64    `json:"share"`
	Relative  float64    `json:"perplexity_relative,omitempty"`

	target search.Target
}

// fitTarget is a target and what the subnet costs in its unit: the ratio, bytes, seconds per token, or those over the dense model's.
type fitTarget struct {
	Asked targetResult `json:"asked"`
	Cost  float64      `json:"cost"`
}

func newFit(f explorer.Fit) fitResult {
	return fitResult{Subnet: string(f.Subnet), Candidate: f.Candidate, Name: f.Name, Share: f.Share, Relative: f.Relative}
}

func (r fitResult) words(w io.Writer) {
	of := fmt.Sprintf("%s (%s)", r.Subnet, r.Name)
	if r.Subnet == "" {
		of = fmt.Sprintf("candidate %d of the last search", r.Candidate)
	}
	if r.Target != nil {
		got := r.target
		got.Value = r.Target.Cost
		fmt.Fprintf(w, "%s: %v, %.3f of the block parameters", of, got, r.Share)
	} else {
		fmt.Fprintf(w, "%s: %s with %d tokens of context, %.3f of the block parameters", of, format.Bytes(r.Memory), r.Context, r.Share)
	}
	if r.Relative > 0 {
		fmt.Fprintf(w, ", %.3f × the dense perplexity", r.Relative)
	} else {
		fmt.Fprint(w, ", perplexity not measured")
	}
	fmt.Fprintln(w)
	if r.Subnet == "" {
		fmt.Fprintf(w, "`lathe search adopt %d` adds it to the workspace\n", r.Candidate)
	}
}

// adoptFit adds a candidate to the workspace, unless a subnet found by a search has its masks already.
func (a *app) adoptFit(ctx context.Context, e exploration, r fitResult, name string) (fitResult, error) {
	s := e.Snapshot()
	c, _ := s.Search.Candidate(r.Candidate)
	for _, n := range s.Subnets {
		if n.Origin == explorer.Searched && s.Model.MadeOf(n, c) {
			r.Subnet, r.Name = string(n.ID), n.Name
			return r, nil
		}
	}
	job, err := a.start(ctx, e, explorer.Adopt{Candidate: r.Candidate, Target: r.target, Name: name})
	if err != nil {
		return r, err
	}
	n, ok := e.Snapshot().Subnet(job.Result)
	if !ok {
		return r, fmt.Errorf("subnet %s: %w", job.Result, explorer.ErrNotFound)
	}
	r.Subnet, r.Name = string(n.ID), n.Name
	return r, nil
}

// byteSize is the value of a flag that takes a size.
type byteSize int64

func (b *byteSize) Set(text string) error {
	n, err := parseBytes(text)
	*b = byteSize(n)
	return err
}

func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return format.Bytes(int64(*b))
}

func (b *byteSize) Type() string { return "size" }

// parseBytes reads a size such as "512MB", "1.5 GiB" or "100000000".
func parseBytes(text string) (int64, error) {
	v, ok := search.ParseBytes(text)
	if !ok {
		n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		v, ok = n, err == nil
	}
	if !ok || !(v >= 1 && v <= math.MaxInt64/2) {
		return 0, fmt.Errorf("%q is not a size such as 512MB", text)
	}
	return int64(v), nil
}
