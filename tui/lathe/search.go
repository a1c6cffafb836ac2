package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/search"
)

// searchLine is one line of `search --json`: the state after a generation, or the end.
type searchLine struct {
	Event      string  `json:"event"` // "generation", "answer" or "end"
	Generation int     `json:"generation"`
	Evaluated  int     `json:"evaluated"`
	Tokens     int64   `json:"tokens"` // computed
	Best       float64 `json:"best_fitness"`
	Perplexity float64 `json:"best_perplexity,omitempty"`
	KL         float64 `json:"best_kl,omitempty"`
	Share      float64 `json:"best_share"`
	Zeroed     float64 `json:"best_zeroed_share,omitempty"` // filled with zeros in a file, besides best_share
	Bytes      int64   `json:"best_bytes"`
	Front      int     `json:"front"`
	// Of searches over types.
	BitsPerByte float64     `json:"best_bits_per_byte,omitempty"`
	Plain       []plainLine `json:"plain,omitempty"` // the dense model in plain types

	Answer *answerResult `json:"answer,omitempty"` // of an event "answer"

	// In the last line only.
	Answers *answersResult   `json:"answers,omitempty"`
	Model   string           `json:"model,omitempty"`
	Subnet  string           `json:"subnet,omitempty"`
	Masks   string           `json:"masks,omitempty"`
	Method  *explorer.Method `json:"method,omitempty"`
	HeldOut *heldOutResult   `json:"held_out,omitempty"`     // of the re-fitted subnet
	Modules []moduleResult   `json:"modules,omitempty"`      // that its last re-fit has changed, in the model's order
	Tuned   string           `json:"tuned_subnet,omitempty"` // the subnet with --tune
	Tune    *explorer.Tuned  `json:"tune,omitempty"`
}

// plainLine is the dense model in a plain type.
type plainLine struct {
	Type        string  `json:"type"`
	Bytes       int64   `json:"bytes"`
	BitsPerByte float64 `json:"bits_per_byte"`
}

func plainLines(all []explorer.PlainType) []plainLine {
	var out []plainLine
	for _, p := range all {
		out = append(out, plainLine{cmp.Or(p.Type, "as it is"), p.Bytes, p.BitsPerByte})
	}
	return out
}

func (a *app) searchCommand() *cobra.Command {
	cmd := a.newSearchCommand(a.search)
	cmd.Use, cmd.Short = "search [MODEL]", "Search for the best subnet of a given size"
	cmd.Long = "Runs until the budget is spent or it is interrupted, and adds the best subnet to the workspace. With --json it writes a line\n" +
		"for each generation and one at the end. --resume continues the last search with its own settings, even after a crash; with\n" +
		"another --target it continues from what it has found.\n\n" +
		"With --types it searches types of matrices together with widths, and with --vocab the vocabulary too, for a size or a memory.\n" +
		"Candidates are scored with the numbers that their file holds; the losses from the types of the embedding and from a smaller\n" +
		"vocabulary are measured once and added. The front then has bits per byte of text, and the model in each plain type for comparison.\n\n" + strategiesHelp()
	cmd.Example = "  lathe search model.gguf --target 0.8 --budget 20m\n  lathe search --target 0.6 --strategy paper --budget evals=2000 --json\n" +
		"  lathe search --target 0.6 --strategy paper-laptop --set epochs=10,alpha=0.9,refit=exact\n" +
		"  lathe search --target 80MB --type Q4_0\n  lathe search --target 60MB --types auto --vocab auto\n  lathe search --target memory=512MB@4096\n  lathe search --target speed=1.5x\n" +
		"  lathe search --target 0.7 --workers 2\n  lathe search --target 0.7 --nats tls://nats.example.org:4222 --creds lathe.creds"
	cmd.AddCommand(a.foundCommands()...)
	cmd.AddCommand(a.steerCommands()...)
	return cmd
}

// strategiesHelp describes the strategies and their settings.
func strategiesHelp() string {
	var b strings.Builder
	b.WriteString("Strategies:\n")
	for _, s := range []struct{ name, help string }{
		{"ladder", "choices of levels, which are prepared cuts of each module with re-fitted weights"},
		{"paper", "the evolution of arXiv 2409.17372 over masks, re-fitted by its ADMM"},
		{"paper+", "the same evolution, re-fitted as after ladder"},
		{"paper-laptop", "paper with a fifth of the population, 20 epochs and a tenth of the text"},
		{"random", "random choices of levels, the baseline"},
		{"uniform", "the same widths in all layers, for model families whose files hold no others"},
	} {
		fmt.Fprintf(&b, "  %-13s %s\n", s.name, s.help)
	}
	b.WriteString("\nSettings of paper, paper+ and paper-laptop, with their values in paper:\n")
	for _, s := range search.Settings(search.PaperFull()) {
		fmt.Fprintf(&b, "  %-17s %-8s %s: %s\n", s.Name, s.Value(), s.Help, s.Values)
	}
	for _, other := range []search.Strategy{search.DefaultLadder(), search.DefaultRandom()} {
		fmt.Fprintf(&b, "\nSettings of %s:\n", other.Name())
		for _, s := range search.Settings(other) {
			fmt.Fprintf(&b, "  %-17s %-8s %s: %s\n", s.Name, s.Value(), s.Help, s.Values)
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// newSearchCommand returns a command with the flags of a search, which passes the search to run.
func (a *app) newSearchCommand(run func(context.Context, exploration, explorer.StartSearch, explorer.Tuning) error) *cobra.Command {
	var (
		c      explorer.StartSearch
		budget string
		target targetFlags
		tuning explorer.Tuning
		types  typesFlag
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
			if c.Target, err = target.target(); err != nil {
				return err
			}
			if c.Types = types; types.names() != nil {
				c.Types = types.names()
			}
			if c.Typed() && target.typ != "" {
				return usage(errors.New("--type with --types or --vocab: types are chosen by their losses"))
			}
			return a.with(cmd.Context(), model, inWorkspace, func(e exploration) error {
				if c.Resume {
					c = resumed(cmd, e.Snapshot(), c)
				}
				return run(cmd.Context(), e, c, tuning)
			})
		},
	}
	flags := cmd.Flags()
	target.add(flags, "0.8", "what to search for: "+targetUsage)
	types.add(flags, nil)
	vocabFlag(cmd, &c.Vocab, "the calibration texts")
	flags.StringVar(&c.Strategy, "strategy", "", "search strategy: "+strings.Join(search.Names(), ", ")+" (default ladder)")
	flags.StringVar(&c.Set, "set", "", "settings of the strategy, as name=value,name=value")
	flags.StringVar(&budget, "budget", "10m", "limit: a duration such as 20m, evals=N, tokens=N, or several separated by commas")
	flags.StringVar(&c.Fitness, "fitness", "", "what to minimise: kl (to the dense model) or perplexity (default kl; perplexity with the paper's strategies)")
	choices(flags, "strategy", search.Names()...)
	choices(flags, "fitness", "kl", "perplexity")
	flags.Uint64Var(&c.Seed, "seed", 1, "random seed; the same seed and budget in evaluations give the same subnet")
	granularityFlag(cmd, &c.Granularity, "32; 1 with paper and paper+")
	reformFlags(cmd, &c.Reform)
	upFlag(cmd, &c.Up, "4 if the time budget also allows much text")
	flags.BoolVar(&c.Resume, "resume", false, "continue the workspace's last search with its own settings, to another --target or with a larger --budget if they are given")
	tuneFlag(cmd, &tuning)
	flags.Var((*byteSize)(&c.LevelsSpace), "levels-space", "limit of the disk space for levels (default: half of the free space)")
	flags.StringVar(&c.Prompt, "prompt", "", "prompt that the dense model and each new best candidate answer while the search runs, in at most 3 % of the time (default: none)")
	machinesFlags(flags, &c.Machines)
	calibrationFlags(cmd, &c.Calibration)
	flags.Lookup("windows").Usage = "calibration windows (default 8; with only a time budget, as many as there is time to re-fit with, up to 128)"
	return cmd
}

// resumed returns c without the defaults of flags, where there is a search to resume: that has its own.
func resumed(cmd *cobra.Command, s *explorer.Snapshot, c explorer.StartSearch) explorer.StartSearch {
	if s.Unfinished == nil && s.Ended == nil {
		return c
	}
	flags := cmd.Flags()
	if !flags.Changed("target") {
		c.Target = search.Target{}
	}
	if !flags.Changed("seed") {
		c.Seed = 0
	}
	if !flags.Changed("budget") {
		if s.Unfinished != nil {
			c.Budget = explorer.Budget{}
		} else {
			c.Budget.Seconds += s.Ended.Elapsed.Seconds()
		}
	}
	return c
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
			return b, fmt.Errorf("--budget %q: %q is not a number in [1, 1e15]", part, value)
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

func (a *app) search(ctx context.Context, e exploration, c explorer.StartSearch, t explorer.Tuning) error {
	receipt, err := e.Do(ctx, a.actor(), c)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(a.stdout)
	lines.SetEscapeHTML(false)
	last, answered := 0, lastAnswer(e.Snapshot().Answers.Best)
	job, err := a.follow(ctx, e, receipt.Job, func(s *explorer.Snapshot) error {
		if all := s.Answers.Best; a.json && s.Answers.Job == receipt.Job {
			for _, n := range answersAfter(all, answered) {
				line := newSearchLine("answer", s.Search)
				r := newAnswer(n)
				line.Answer = &r
				if err := lines.Encode(line); err != nil {
					return err
				}
			}
			answered = lastAnswer(all)
		}
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
		line.Zeroed = float64(n.Size.ZeroedParams) / float64(max(n.Size.DenseBlockParams, 1))
		line.HeldOut = newHeldOut(n)
		line.Answers = newAnswers(s.Answers)
		if s.Reform.Job == receipt.Job {
			line.Modules = newModules(s.Reform)
		}
		line.Method.Seconds = 0 // so that equal searches end with equal lines
		masks, failed := n.Masks.MarshalText()
		if failed != nil {
			return failed
		}
		line.Masks = string(masks)
		if err == nil && t.On() {
			var tuned explorer.SubnetID
			text := c.Calibration
			if s.Ended != nil { // a resumed search has its own
				text = s.Ended.Search.Calibration
			}
			if tuned, err = a.tune(ctx, e, n.ID, text, t); err == nil && tuned != n.ID {
				if better, ok := e.Snapshot().Subnet(tuned); ok {
					line.Tuned, line.Tune = string(tuned), better.Method.Tune
				}
			}
		}
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

// lastAnswer returns the newest answer, the zero value for none.
func lastAnswer(all []explorer.Answer) explorer.Answer {
	if len(all) == 0 {
		return explorer.Answer{}
	}
	return all[len(all)-1]
}

// answersAfter returns the answers that are newer than one, all where that is not among them: the prompt has changed.
func answersAfter(all []explorer.Answer, one explorer.Answer) []explorer.Answer {
	return all[slices.Index(all, one)+1:]
}

func newSearchLine(event string, s explorer.Search) searchLine {
	line := searchLine{Event: event, Generation: s.Generation, Evaluated: s.Evaluated, Tokens: s.Tokens, Front: len(s.Front)}
	if b := s.Best; b != nil {
		line.Best, line.Perplexity, line.KL, line.Share, line.Bytes = b.Score.Fitness, b.Score.Perplexity(), b.Score.KL, b.Ratio, b.Bytes
		line.Zeroed, line.BitsPerByte = b.Zeroed, b.BitsPerByte
	}
	line.Plain = plainLines(s.Plain)
	return line
}

func (l searchLine) words(w io.Writer, n explorer.Subnet) {
	fmt.Fprintf(w, "%s: %.3f of the block parameters", n.ID, l.Share)
	if l.Zeroed > 0 {
		fmt.Fprintf(w, " (files contain another %.3f as zeros)", l.Zeroed)
	}
	fmt.Fprintf(w, ", fitness %.4f", l.Best)
	if l.Perplexity > 0 {
		fmt.Fprintf(w, ", perplexity %.2f", l.Perplexity)
	}
	fmt.Fprintf(w, ", %s; %s in %s, %.3g tokens computed\n", format.Bytes(l.Bytes), format.Counted(l.Evaluated, "candidate"), format.Counted(l.Generation, "generation"), float64(l.Tokens))
	if words := mixWords(n.Method); words != "" {
		fmt.Fprintln(w, words)
	}
	if l.Tuned != "" {
		fmt.Fprintf(w, "%s: ", l.Tuned)
		tuneWords(w, l.Tune)
	}
	if l.BitsPerByte > 0 {
		fmt.Fprintf(w, "%.4f bits per byte before the last re-fit; the model in plain types:", l.BitsPerByte)
		for i, p := range l.Plain {
			if i > 0 {
				fmt.Fprint(w, ",")
			}
			fmt.Fprintf(w, " %s %.4f (%s)", p.Type, p.BitsPerByte, format.Bytes(p.Bytes))
		}
		fmt.Fprintln(w)
		typedWords(w, n.Method, n.TypesText())
		vocabWords(w, n.Method.Vocab)
	}
	if p := n.Method.Plain; p != nil && p.Better {
		fmt.Fprintf(w, "quantise plainly instead: %s predicts held-out text as well (perplexity %.2f) in %s: lathe subnets export dense --type %s\n", p.Type, p.Perplexity, format.Bytes(p.Bytes), p.Type)
	}
	if h := l.HeldOut; h != nil && h.Dense > 0 {
		fmt.Fprintf(w, "re-fitted: %.3f × dense on held-out calibration text (perplexity %.2f)\n", h.Relative(), h.Perplexity)
	}
	l.Answers.words(w, true)
	if h := l.HeldOut; h != nil && h.Rejected > 0 {
		fmt.Fprintf(w, "the re-fit made it worse (perplexity %.2f): the %s weights are kept\n", h.Rejected, n.Method.Kept)
	}
	if h := l.HeldOut; h != nil && h.GeneralDense > 0 {
		fmt.Fprintf(w, "on the default text: %.3f × dense (perplexity %.2f)\n", h.General/h.GeneralDense, h.General)
	}
}
