package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/oneshot/preset"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search"
)

// madeResult is what `cut` and `reform` write with --json.
type madeResult struct {
	Model       string          `json:"model"`
	Subnet      string          `json:"subnet,omitempty"` // id in the workspace; "" if it was not stored
	Name        string          `json:"name,omitempty"`
	Share       float64         `json:"share"`     // parameters kept, over block parameters
	ShareAll    float64         `json:"share_all"` // over all parameters
	KVBytes     int64           `json:"kv_bytes_per_token"`
	FLOPs       flopsResult     `json:"flops_per_token"`
	DenseFLOPs  flopsResult     `json:"dense_flops_per_token"`
	Modules     []moduleResult  `json:"modules,omitempty"` // that were re-fitted, in the model's order
	Method      explorer.Method `json:"method"`
	Before      float64         `json:"perplexity_unfitted,omitempty"` // on held-out calibration text
	After       float64         `json:"perplexity,omitempty"`
	Dense       float64         `json:"dense_perplexity,omitempty"` // on the same tokens
	Relative    float64         `json:"perplexity_relative,omitempty"`
	Rejected    float64         `json:"perplexity_rejected,omitempty"` // of the re-fit, if it was worse
	Kept        string          `json:"kept,omitempty"`                // original or previous: the weights that were kept instead of a worse re-fit
	General     *generalResult  `json:"general_text,omitempty"`        // if the calibration text was not the default one
	Seconds     float64         `json:"seconds"`
	Expected    float64         `json:"expected_seconds,omitempty"` // of choosing, re-fitting and tuning, where the workspace has a subnet that was made alike
	Export      *gguf.Report    `json:"export,omitempty"`
	SourceBytes int64           `json:"source_bytes"`
	DenseBytes  int64           `json:"dense_bytes,omitempty"` // of the dense model in the output type
	types       string          // for people
}

// generalResult is the perplexity on the default text.
type generalResult struct {
	Dense float64 `json:"dense_perplexity"`
	After float64 `json:"perplexity"`
}

func (a *app) cutCommand() *cobra.Command {
	var (
		c      explorer.Cut
		out    outFlags
		tuning explorer.Tuning
		target string
		types  typesFlag
	)
	cmd := &cobra.Command{
		Use:   "cut [MODEL]",
		Short: "Cut a model in one shot, without a search",
		Long: "Chooses the units to keep by importance, re-fits the remaining weights on calibration text, and writes the smaller model.\n" +
			"Without -o it adds the subnet to the model's workspace instead. With --target it drops as little as the target allows. With --target\n" +
			"and --types it chooses widths and types of matrices together for a size.",
		Example: "  lathe cut model.gguf --ratio 0.8 -o small.gguf\n  lathe cut --target 80MB -o small.gguf\n  lathe cut --target 60MB --types auto --vocab auto -o small.gguf\n" +
			"  lathe cut --ratio 0.6 --method flap --text notes/ --type Q8_0 -o small.gguf",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			if err := out.check(); err != nil {
				return err
			}
			if types.on() {
				sized, err := sizedCut(cmd, c, target, types, out)
				if err != nil {
					return err
				}
				return a.with(cmd.Context(), model, out.storage(), func(e exploration) error {
					return a.make(cmd.Context(), e, sized, out, tuning)
				})
			}
			if c.Vocab.Auto {
				return usage(errors.New("--vocab auto needs --types: the vocabulary is chosen together with widths and types for a size"))
			}
			if target != "" {
				if cmd.Flags().Changed("ratio") {
					return usage(errors.New("--ratio and --target: give one of them"))
				}
				if c.Within, err = (&targetFlags{text: target, typ: out.typ}).target(); err != nil {
					return err
				}
				if c.Target = 0; c.Within.Measure == search.Params {
					c.Target, c.Within = c.Within.Value, search.Target{}
				}
			}
			return a.with(cmd.Context(), model, out.storage(), func(e exploration) error {
				if err := checkBiases(e.Snapshot().Model.Arch, c); err != nil {
					if out.path != "" {
						return err
					}
					fmt.Fprintf(a.stderr, "lathe: warning: the subnet cannot be exported: %s\n", firstLine(err))
				}
				if c.Tuning = tuning; !cmd.Flags().Changed("tune") {
					c.Tuning = explorer.DefaultTuning(c)
					c.Tuning.Rank = tuning.Rank
				}
				if err := checkRank(c.Tuning); err != nil {
					return err
				}
				return a.make(cmd.Context(), e, c, out, explorer.Tuning{})
			})
		},
	}
	flags := cmd.Flags()
	c.Target = 0.8
	flags.Var(&ratio{&c.Target}, "ratio", "ratio of the block parameters to keep, in (0, 1]")
	flags.StringVar(&target, "target", "", "what to cut to, instead of --ratio: "+targetUsage)
	types.add(flags, nil)
	flags.StringVar(&c.Preset, "method", "", "how to choose units: "+presetNames()+" (default: the best known)")
	flags.Uint64Var(&c.Seed, "seed", 1, "random seed")
	flags.StringVar(&c.Name, "name", "", "name in the workspace")
	choices(flags, "method", explorer.Presets()...)
	attentionFlag(cmd, &c)
	granularityFlag(cmd, &c.Granularity, "32")
	calibrationFlags(cmd, &c.Calibration)
	cmd.Flags().Lookup("windows").Usage = fitWindowsUsage()
	reformFlags(cmd, &c.Reform)
	upFlag(cmd, &c.Reform.Up, "the method's own")
	gradientFlag(cmd, &c.Reform.Gradient)
	tuning.Seed = 1
	flags.Var(&tuneValue{to: &tuning, off: true}, "tune", fmt.Sprintf("then tune norms and channel scales, for a duration such as 10m or a number of steps such as 60steps, or off (default: %dsteps with the default method, re-fit and number of windows and without --types, otherwise off)", explorer.DefaultTuneSteps))
	rankFlag(cmd, &tuning)
	vocabFlag(cmd, &c.Vocab, "the calibration texts")
	out.add(cmd)
	return cmd
}

// sizedCut returns the command for a cut to a size, which chooses widths and types together.
func sizedCut(cmd *cobra.Command, c explorer.Cut, target string, types typesFlag, out outFlags) (explorer.Quantize, error) {
	size, err := sizeTarget(target)
	if err != nil {
		return explorer.Quantize{}, err
	}
	for _, refused := range [][2]string{{"ratio", "the size decides"}, {"type", "types are chosen by their losses"}, {"up", "W_U is not re-fitted when matrices are rounded"}} {
		if cmd.Flags().Changed(refused[0]) {
			return explorer.Quantize{}, usage(fmt.Errorf("--%s with --types: %s", refused[0], refused[1]))
		}
	}
	if out.as == asHF {
		return explorer.Quantize{}, usage(fmt.Errorf("--as %s with --types: safetensors files have one type", asHF))
	}
	if c.Preset != "" && c.Preset != string(preset.Allocated) {
		return explorer.Quantize{}, usage(fmt.Errorf("--method %s with --types: widths and types are chosen together by %s alone", c.Preset, preset.Allocated))
	}
	return explorer.Quantize{
		Subnet: explorer.DenseID, Widths: true, Target: size, Types: types.names(), Preset: c.Preset, Attention: c.Attention, Granularity: c.Granularity,
		Calibration: c.Calibration, Reform: c.Reform, Seed: c.Seed, Name: c.Name, Vocab: c.Vocab,
	}, nil
}

func (a *app) reformCommand() *cobra.Command {
	var (
		c      explorer.Refit
		out    outFlags
		sub    string
		tuning explorer.Tuning
	)
	cmd := &cobra.Command{
		Use:   "reform [MODEL]",
		Short: "Fit the remaining weights of a subnet of the workspace again",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.makeFrom(cmd.Context(), args, sub, out, tuning, func(id explorer.SubnetID) explorer.Command {
				c.Subnet = id
				return c
			})
		},
	}
	cmd.Flags().StringVar(&sub, "subnet", string(explorer.DraftID), "subnet to re-fit: an id, a name, or draft")
	cmd.Flags().StringVar(&c.Name, "name", "", "name of the result in the workspace")
	calibrationFlags(cmd, &c.Calibration)
	cmd.Flags().Lookup("windows").Usage = fitWindowsUsage()
	reformFlags(cmd, &c.Reform)
	upFlag(cmd, &c.Reform.Up, "the method's own")
	gradientFlag(cmd, &c.Reform.Gradient)
	tuneFlag(cmd, &tuning)
	out.add(cmd)
	return cmd
}

// makeFrom is make for a command on a subnet of the workspace, which sub names.
func (a *app) makeFrom(ctx context.Context, args []string, sub string, out outFlags, t explorer.Tuning, command func(explorer.SubnetID) explorer.Command) error {
	model, err := a.modelArg(args)
	if err != nil {
		return err
	}
	if err := out.check(); err != nil {
		return err
	}
	return a.with(ctx, model, inWorkspace, func(e exploration) error {
		id, err := find(e.Snapshot(), sub)
		if err != nil {
			return err
		}
		return a.make(ctx, e, command(id), out, t)
	})
}

// make runs a command that makes a subnet, tunes it if that is asked for, writes the output file, if any, and shows the result.
func (a *app) make(ctx context.Context, e exploration, c explorer.Command, out outFlags, t explorer.Tuning) error {
	began := time.Now()
	expected, known := e.Snapshot().Precedent(c)
	receipt, err := e.Do(ctx, a.actor(), c)
	if err != nil {
		return err
	}
	if known && a.animates() { // what is no terminal has it in the result
		m := expected.Of.Method
		fmt.Fprintf(a.stderr, "lathe: about %s, since %s (%s) took %s with %s of %d tokens\n", format.Clock(expected.Time+expected.Tuning), expected.Of.ID, expected.Of.Name,
			format.Clock(expected.Took()), format.Counted(m.Windows, "window"), m.Seq)
	}
	job, err := a.follow(ctx, e, receipt.Job, nil)
	if err != nil {
		return err
	}
	if t.On() {
		if job.Result, err = a.tune(ctx, e, job.Result, calibrationOf(c), t); err != nil {
			return err
		}
	}
	s := e.Snapshot()
	n, err := madeBy(s, job)
	if err != nil {
		return err
	}
	r := newMade(s, n)
	r.Expected = (expected.Time + expected.Tuning).Seconds()
	if out.path != "" {
		if r.Export, err = a.export(ctx, e, n.ID, out); err != nil {
			return a.keep(ctx, e, n, err)
		}
		r.DenseBytes = s.Model.Bytes
		if out.typ != "" {
			r.DenseBytes = s.Model.FileSize(subnet.Dense(s.Model.Geometry), out.typ).File
		}
	}
	r.Seconds = time.Since(began).Seconds()
	if out.path == toStdout {
		r.words(a.stderr)
		return nil
	}
	return a.result(r, func(w io.Writer) { r.words(w) })
}

// madeBy returns the subnet that a job made.
func madeBy(s *explorer.Snapshot, j explorer.Job) (explorer.Subnet, error) {
	n, ok := s.Subnet(j.Result)
	if !ok {
		return n, fmt.Errorf("%s made no subnet", j.Title)
	}
	return n, nil
}

// newMade returns the result of a command that made a subnet.
func newMade(s *explorer.Snapshot, n explorer.Subnet) madeResult {
	r := madeResult{
		Model: s.Model.Path, Name: n.Name, Share: n.Size.Ratio, ShareAll: n.Size.RatioAll, KVBytes: n.Size.KVBytesPerToken,
		Method: n.Method, Before: n.HeldOut.Unfitted, After: n.HeldOut.Perplexity, Dense: n.HeldOut.Dense,
		Relative: n.HeldOut.Relative(), Rejected: n.HeldOut.Rejected, Kept: n.Method.Kept, SourceBytes: s.Model.Bytes,
		FLOPs: newFLOPs(n.Masks), DenseFLOPs: newFLOPs(subnet.Dense(s.Model.Geometry)), Modules: newModules(s.Reform),
	}
	r.types = n.TypesText()
	if g := s.Reform.General; g.Dense > 0 {
		r.General = &generalResult{g.Dense, g.After}
	}
	if s.Workspace.Path != "" {
		r.Subnet = string(n.ID)
	}
	return r
}

// checkBiases returns an error for a cut that compensates by biases which files of the architecture do not hold: that is known
// before the work.
func checkBiases(arch string, c explorer.Cut) error {
	recipe, err := oneshot.RecipeOf(preset.Preset(cmp.Or(c.Preset, string(preset.Default))))
	if err != nil {
		return nil // the command has the error
	}
	biased, by := recipe.Refit.Solve.Bias, "--method "+c.Preset
	if c.Reform.Method == string(reform.ADMM) { // the paper's, which has none
		biased = false
	}
	if c.Reform.Bias != nil {
		biased, by = *c.Reform.Bias, "--bias"
	}
	if !biased || explorer.HoldsBias(arch) {
		return nil
	}
	return fmt.Errorf("%w: %s compensates by output biases, and %s files hold none: choose another method", explorer.ErrUnsupported, by, arch)
}

// export writes a subnet to the output file, or by way of a temporary file to standard output.
func (a *app) export(ctx context.Context, e exploration, id explorer.SubnetID, out outFlags) (_ *gguf.Report, err error) {
	c := explorer.Export{Subnet: id, Path: out.path, Type: out.typ, As: out.as, Vocab: out.vocab, Calibration: out.calibration, Replace: out.force}
	if out.path != toStdout {
		job, err := a.start(ctx, e, c)
		return job.Report, err
	}
	if a.json || isTerminal(a.stdout) {
		return nil, usage(errors.New("-o - writes the file to standard output, which must be neither JSON nor a terminal"))
	}
	dir, err := a.scratch("export")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dir.Remove()) }()
	c.Path = dir.Join("subnet.gguf")
	job, err := a.start(ctx, e, c)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(c.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	job.Report.Path = "standard output"
	_, err = io.Copy(a.stdout, durable.Reader(ctx, f))
	return job.Report, err
}

// fallbackWords writes which tensors have another type than requested: one line for each pair of types.
func fallbackWords(w io.Writer, fallbacks []gguf.Fallback) {
	type pair struct{ want, got string }
	first, n := make(map[pair]gguf.Fallback), make(map[pair]int)
	var order []pair
	for _, f := range fallbacks {
		p := pair{f.Want, f.Got}
		if n[p]++; n[p] == 1 {
			first[p], order = f, append(order, p)
		}
	}
	for _, p := range order {
		noun := "tensors have type"
		if n[p] == 1 {
			noun = "tensor has type"
		}
		fmt.Fprintf(w, "  %d %s %s instead of %s: %s: %s\n", n[p], noun, p.got, p.want, first[p].Tensor, first[p].Reason)
	}
}

func (r madeResult) words(w io.Writer) {
	fmt.Fprintf(w, "%.3f of the block parameters kept (%.3f with embeddings), %s of KV cache per token\n", r.Share, r.ShareAll, format.Bytes(r.KVBytes))
	if words := mixWords(r.Method); words != "" {
		fmt.Fprintln(w, words)
	}
	tuneWords(w, r.Method.Tune)
	vocabWords(w, r.Method.Vocab)
	typedWords(w, r.Method, r.types)
	relative := func(v float64) string {
		if r.Dense <= 0 {
			return fmt.Sprintf("perplexity %.2f", v)
		}
		return fmt.Sprintf("%.3f × the dense model's perplexity of %.2f", v/r.Dense, r.Dense)
	}
	switch {
	case r.Kept != "":
		fmt.Fprintf(w, "the re-fit made it worse on held-out calibration text, so the %s weights are kept: %s, with the re-fit %s\n", r.Kept, relative(r.After), relative(r.Rejected))
	case r.Before > 0 && r.After > 0:
		fmt.Fprintf(w, "on held-out calibration text: %s without re-fitting, %s with it\n", relative(r.Before), relative(r.After))
	}
	if g := r.General; g != nil {
		fmt.Fprintf(w, "on the default text: %.2f, %.3f × the dense model's %.2f\n", g.After, g.After/g.Dense, g.Dense)
	}
	if x := r.Export; x != nil {
		share := func(of int64) string { return fmt.Sprintf("%.0f %% of", 100*float64(x.Bytes)/float64(of)) }
		fmt.Fprintf(w, "%s: %s, %s the source file's %s", x.Path, format.Bytes(x.Bytes), share(r.SourceBytes), format.Bytes(r.SourceBytes))
		if r.DenseBytes != r.SourceBytes {
			fmt.Fprintf(w, ", %s the dense model's %s in this type", share(r.DenseBytes), format.Bytes(r.DenseBytes))
		}
		fmt.Fprintln(w)
		if x.ZeroedParams > 0 {
			fmt.Fprintf(w, "  %s dropped parameters could only be set to zero (in %s)\n", format.Count(x.ZeroedParams), format.Counted(len(x.Zeroed), "tensor"))
		}
		fallbackWords(w, x.Fallbacks)
		noteWords(w, x.Notes)
	}
	if r.Subnet != "" {
		fmt.Fprintf(w, "kept in the workspace as %s (%s)\n", r.Subnet, r.Name)
	}
	fmt.Fprintf(w, "took %s\n", format.Clock(time.Duration(r.Seconds*float64(time.Second))))
}

// mixWords describes the mix that a subnet was calibrated on, "" for a single text.
func mixWords(m explorer.Method) string {
	if len(m.Mix) == 0 {
		return ""
	}
	parts := make([]string, len(m.Mix))
	for i, p := range m.Mix {
		parts[i] = fmt.Sprintf("%s %d", p.Name, p.Windows)
	}
	return fmt.Sprintf("calibrated on %s of %d tokens: %s", format.Counted(m.Windows, "window"), m.Seq, strings.Join(parts, ", "))
}

// find returns the subnet with an id or a name.
func find(s *explorer.Snapshot, what string) (explorer.SubnetID, error) {
	switch id := explorer.SubnetID(what); id {
	case explorer.DenseID, explorer.DraftID:
		return id, nil
	}
	var found []explorer.SubnetID
	for _, n := range append(s.Subnets[:len(s.Subnets):len(s.Subnets)], s.Trash...) {
		if string(n.ID) == what {
			return n.ID, nil
		}
		if n.Name == what {
			found = append(found, n.ID)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		names := []string{string(explorer.DenseID), string(explorer.DraftID)}
		const typing = 2 // edits that a word which is meant for one of the names has at most
		if len(s.Subnets) == 0 && edits([]rune(what), []rune(nearest(what, names))) > typing {
			return "", fmt.Errorf("subnet %q: %w: %s", what, explorer.ErrNotFound, noSubnets)
		}
		for _, n := range s.Subnets {
			names = append(names, n.Name, string(n.ID))
		}
		return "", fmt.Errorf("subnet %q: %w%s (`lathe subnets list` shows them)", what, explorer.ErrNotFound, orNearest(what, names))
	}
	return "", usage(fmt.Errorf("%d subnets are named %q: use an id, such as %s", len(found), what, found[0]))
}
