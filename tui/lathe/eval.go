package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
)

// evalResult is what `eval --json` writes.
type evalResult struct {
	Model      string  `json:"model"`
	Subnet     string  `json:"subnet,omitempty"`
	Perplexity float64 `json:"perplexity"`
	Err        float64 `json:"standard_error,omitempty"` // of Perplexity
	NLL        float64 `json:"nll"`                      // nats per token
	Tokens     int     `json:"tokens"`                   // scored ones
	Seq        int     `json:"sequence_length"`
	Windows    int     `json:"windows"`
	BOS        bool    `json:"bos"`
	Starts     string  `json:"bos_windows"` // which windows begin with the start token: every, first or none
	Engine     string  `json:"engine"`
	Type       string  `json:"type"`
	Text       string  `json:"text"`
	TextSHA256 string  `json:"text_sha256"`
	Share      float64 `json:"share"`
	Dense      float64 `json:"dense_perplexity,omitempty"` // under the same conditions: an earlier measurement, or of --dense
	Seconds    float64 `json:"seconds"`
}

func (a *app) evalCommand() *cobra.Command {
	var (
		c             explorer.Measure
		subnet, dense string
	)
	cmd := &cobra.Command{
		Use:   "eval [MODEL]",
		Short: "Measure perplexity as in the literature",
		Long: "The whole text is tokenised once and cut into consecutive windows. All tokens of a window but the first are scored, given\n" +
			"the tokens before them in the window. Each window begins with the start token (BOS) if the tokenizer adds one to texts;\n" +
			"--bos first has it once, before the text, as many papers do. The standard error assumes independent tokens. Numbers\n" +
			"compare only at equal text, sequence length, number of windows and start tokens.",
		Example: "  lathe eval small.gguf --text wiki.test.raw --dense model.gguf\n  lathe eval model.gguf --subnet s3 --text wiki.test.raw --windows 4 --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			if !slices.Contains([]string{explorer.BOSAuto, explorer.BOSEvery, explorer.BOSFirst, explorer.BOSNone}, c.BOS) {
				return usage(fmt.Errorf("--bos %q: not auto, every, first or none", c.BOS))
			}
			r, err := a.eval(cmd.Context(), model, c, subnet)
			if err != nil {
				return err
			}
			if dense != "" {
				whole, err := a.eval(cmd.Context(), dense, c, string(explorer.DenseID))
				if err != nil {
					return err
				}
				if whole.Tokens != r.Tokens || whole.TextSHA256 != r.TextSHA256 {
					return fmt.Errorf("%w: the text has %d tokens for %s and %d for %s: their perplexities do not compare",
						explorer.ErrUnsupported, r.Tokens, model, whole.Tokens, dense)
				}
				r.Dense = whole.Perplexity
			}
			return a.result(r, r.words)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.Text, "text", "", "text file to measure on")
	flags.IntVar(&c.Seq, "seq", 2048, "tokens per window")
	flags.IntVar(&c.Windows, "windows", 0, "windows from the start of the text (default: all)")
	flags.StringVar(&c.Engine, "engine", "", "what scores: llama.cpp, or decoder for the graphs that search uses (default: llama.cpp if it runs the model)")
	flags.StringVar(&c.Type, "type", "", "tensor type to write a subnet in for llama.cpp (default: the source's)")
	flags.StringVar(&c.BOS, "bos", explorer.BOSAuto, "windows that begin with the start token: every, first or none (auto: every if the tokenizer adds it)")
	choices(flags, "type", writableTypes()...)
	choices(flags, "bos", explorer.BOSAuto, explorer.BOSEvery, explorer.BOSFirst, explorer.BOSNone)
	choices(flags, "engine", explorer.EngineDecoder, explorer.EngineLlama)
	flags.StringVar(&subnet, "subnet", string(explorer.DenseID), "subnet of the workspace to measure: an id, a name, or draft")
	flags.StringVar(&dense, "dense", "", "model file to measure and to compare with: the one that MODEL was cut from")
	if a.shared != nil { // clients cannot name texts
		c.Windows = 4
		windows := flags.Lookup("windows")
		windows.DefValue, windows.Usage = "4", "windows from the end of the default text, which calibration does not use"
		return cmd
	}
	if err := cmd.MarkFlagRequired("text"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// eval measures a subnet of a model's workspace, or a model file.
func (a *app) eval(ctx context.Context, model string, c explorer.Measure, subnet string) (r evalResult, err error) {
	k := inMemory
	if subnet != string(explorer.DenseID) {
		k = inWorkspace
	}
	err = a.with(ctx, model, k, func(e exploration) error {
		if c.Subnet, err = find(e.Snapshot(), subnet); err != nil {
			return err
		}
		if c.Engine == "" {
			if c.Engine = explorer.EngineLlama; e.Snapshot().Model.NoRuntime != "" {
				c.Engine = explorer.EngineDecoder
			}
		}
		if _, err := a.start(ctx, e, c); err != nil {
			return err
		}
		r, err = newEval(e.Snapshot(), c.Subnet)
		return err
	})
	return r, err
}

// newEval returns the newest measurement of a subnet.
func newEval(s *explorer.Snapshot, id explorer.SubnetID) (evalResult, error) {
	list := s.Model.Measurements
	switch n, ok := s.Subnet(id); {
	case ok:
		list = n.Measurements
	case id == explorer.DraftID && s.Draft.Measured != nil:
		list = []explorer.Measurement{*s.Draft.Measured}
	}
	if len(list) == 0 {
		return evalResult{}, fmt.Errorf("nothing was measured")
	}
	m := list[0]
	r := evalResult{
		Model: s.Model.Path, Perplexity: m.Perplexity, Err: m.StandardError, NLL: m.NLL, Tokens: m.Conditions.Tokens, Seq: m.Conditions.Seq, Windows: m.Conditions.Windows,
		BOS: m.Conditions.BOS, Starts: m.Conditions.Start(), Engine: m.Conditions.Engine, Type: m.Conditions.Type, Text: m.Conditions.Text.Path, TextSHA256: m.Conditions.Text.SHA256,
		Share: m.Share, Dense: m.Dense, Seconds: m.Seconds,
	}
	if id != explorer.DenseID {
		r.Subnet = string(id)
		return r, nil
	}
	r.Dense = 0 // would compare the file with itself
	if s.Model.SubnetOf != "" {
		r.Share = s.Model.Share
	}
	return r, nil
}

func (r evalResult) words(w io.Writer) {
	spread := ""
	if r.Err > 0 {
		spread = fmt.Sprintf(" ± %.4f", r.Err)
	}
	starts := ""
	if r.BOS {
		starts = ", start token before " + map[string]string{explorer.BOSEvery: "each", explorer.BOSFirst: "the first"}[r.Starts]
	}
	fmt.Fprintf(w, "perplexity %.4f%s (%.4f nats per token) on %d tokens: %d windows of %d of %s%s, scored by %s as %s, %.1f s\n",
		r.Perplexity, spread, r.NLL, r.Tokens, r.Windows, r.Seq, r.Text, starts, r.Engine, r.Type, r.Seconds)
	if r.Dense > 0 {
		fmt.Fprintf(w, "%.3f × the dense model's %.4f\n", r.Perplexity/r.Dense, r.Dense)
	}
}
