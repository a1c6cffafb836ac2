package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/gguf"
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
	Stride     int     `json:"stride"` // tokens from one window to the next
	Share      float64 `json:"share"`
	Dense      float64 `json:"dense_perplexity,omitempty"` // under the same conditions: an earlier measurement, or of --against

	// BitsPerByte compares across vocabularies, of which Vocab tokens are kept, 0 for all. DenseBits is the dense model's, for a smaller
	// vocabulary; Bytes are of the text scored.
	BitsPerByte float64 `json:"bits_per_byte,omitempty"`
	DenseBits   float64 `json:"dense_bits_per_byte,omitempty"`
	Bytes       int64   `json:"bytes,omitempty"`
	Vocab       int     `json:"vocab,omitempty"`
	ComputeType string  `json:"compute_type,omitempty"` // of the weights; "" is f32

	Distance *explorer.Distance `json:"distance,omitempty"` // from what --against names
	Seconds  float64            `json:"seconds"`
}

// startUsage describes where start tokens are in the windows of a text.
const startUsage = "windows that begin with the start token: every, first or none (auto: every if the tokenizer adds it; auto-first: the first if it does, as most papers measure)"

// startChoices are the places of start tokens.
func startChoices() []string {
	return []string{explorer.BOSAuto, explorer.BOSAutoFirst, explorer.BOSEvery, explorer.BOSFirst, explorer.BOSNone}
}

func (a *app) evalCommand() *cobra.Command {
	var (
		c       explorer.Measure
		subnets []string
		on      explorer.Machines
	)
	cmd := &cobra.Command{
		Use:   "eval [MODEL]",
		Short: "Measure perplexity as in the literature, and the distance from the dense model",
		Long: "The whole text is tokenised once and cut into consecutive windows. All tokens of a window but the first are scored, given\n" +
			"the tokens before them in the window; with --stride windows overlap, and tokens that an earlier window scored are context\n" +
			"only. Each window begins with the start token (BOS) if the tokenizer adds one to texts; --bos first has it once, before the\n" +
			"text, as many papers do. The standard error assumes independent tokens. Numbers compare only at equal text, sequence length,\n" +
			"stride, number of windows and start tokens.\n\n" +
			"--against compares the distributions of the next token with those of another model, by default of a subnet with its dense\n" +
			"model: the Kullback–Leibler divergence in nats per token (0: equal), over the reference's 256 most likely tokens one by one\n" +
			"and all others together; the share of tokens where both find the same token most likely (top-1 agreement); and the ratio of the\n" +
			"perplexities, whose error is that of the difference at the same tokens. It takes twice as long, and loads both models.\n\n" +
			"Several subnets are measured one after another, or by workers at the same time: the figures are the same.",
		Example: "  lathe eval small.gguf --text wiki.test.raw --against model.gguf\n  lathe eval model.gguf --subnet s3 --text wiki.test.raw --windows 4 --json\n" +
			"  lathe eval model.gguf --text wiki.test.raw --seq 1024 --stride 512\n" +
			"  lathe eval model.gguf --text wiki.test.raw --subnet s1 --subnet s2 --subnet s3 --workers 2",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			if !slices.Contains(startChoices(), c.BOS) {
				return usage(fmt.Errorf("--bos %q: not one of %s", c.BOS, strings.Join(startChoices(), ", ")))
			}
			if cmd.Flags().Changed("stride") && (c.Stride < 1 || c.Stride > c.Seq) {
				return usage(fmt.Errorf("--stride %d: from 1 to the %d tokens of a window", c.Stride, c.Seq))
			}
			switch c.Against {
			case againstAuto:
				if c.Against = explorer.AgainstDense; len(subnets) == 1 && subnets[0] == string(explorer.DenseID) {
					c.Against = ""
				}
			case againstNone:
				c.Against = ""
			case explorer.AgainstDense:
			default:
				if c.Against, err = a.local(cmd.Context(), c.Against); err != nil {
					return err
				}
			}
			if err := distinct(subnets); err != nil {
				return err
			}
			r, err := a.eval(cmd.Context(), model, c, subnets, on, cmd.Flags().Lookup("against").Value.String() == againstAuto)
			if err != nil {
				return err
			}
			if len(r) == 1 {
				return a.result(r[0], r[0].words)
			}
			return a.result(evalResults{r}, evalResults{r}.words)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.Text, "text", "", "text file to measure on")
	flags.IntVar(&c.Seq, "seq", 2048, "tokens per window")
	flags.IntVar(&c.Windows, "windows", 0, "windows from the start of the text (default: all)")
	flags.StringVar(&c.Engine, "engine", "", "what scores: llama.cpp, or decoder for the graphs that search uses (default: llama.cpp if it runs the model)")
	flags.StringVar(&c.Type, "type", "", "tensor type to write a subnet in for llama.cpp (default: the source's)")
	flags.StringVar(&c.BOS, "bos", explorer.BOSAuto, startUsage)
	choices(flags, "type", gguf.WritableNames()...)
	choices(flags, "bos", startChoices()...)
	choices(flags, "engine", explorer.EngineDecoder, explorer.EngineLlama)
	flags.StringArrayVar(&subnets, "subnet", []string{string(explorer.DenseID)}, "subnet of the workspace to measure: an id, a name, draft or dense; may be given several times")
	piecesFlags(flags, &on, "measure")
	flags.IntVar(&c.Stride, "stride", 0, "tokens from one window to the next (default: all of a window)")
	flags.StringVar(&c.Against, "against", againstAuto, "what to compare with: dense, none, or a model file such as the one that MODEL was cut from (auto: dense for a subnet of the workspace)")
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

// Values of --against besides explorer.AgainstDense and models.
const (
	againstAuto = "auto"
	againstNone = "none"
)

// evalResults is what `eval --json` writes of several subnets.
type evalResults struct {
	Subnets []evalResult `json:"subnets"`
}

func (r evalResults) words(w io.Writer) {
	for _, of := range r.Subnets {
		name := of.Subnet
		if name == "" {
			name = string(explorer.DenseID)
		}
		fmt.Fprintf(w, "%s: ", name)
		of.words(w)
	}
}

// distinct refuses a subnet that is named twice.
func distinct(subnets []string) error {
	for i, name := range subnets {
		if slices.Contains(subnets[:i], name) {
			return usage(fmt.Errorf("--subnet %s is given twice", name))
		}
	}
	return nil
}

// eval measures subnets of a model's workspace, or a model file. auto leaves out what would compare the dense model with itself.
func (a *app) eval(ctx context.Context, model string, c explorer.Measure, subnets []string, on explorer.Machines, auto bool) (list []evalResult, err error) {
	k := inMemory
	if len(subnets) > 1 || subnets[0] != string(explorer.DenseID) {
		k = inWorkspace
	}
	err = a.with(ctx, model, k, func(e exploration) error {
		if c.Engine == "" {
			if c.Engine = explorer.EngineLlama; e.Snapshot().Model.NoRuntime != "" {
				c.Engine = explorer.EngineDecoder
			}
		}
		all := explorer.MeasureAll{Machines: on}
		for _, name := range subnets {
			of := c
			if of.Subnet, err = find(e.Snapshot(), name); err != nil {
				return err
			}
			if auto && of.Subnet == explorer.DenseID {
				of.Against = ""
			}
			if slices.ContainsFunc(all.Of, func(o explorer.Measure) bool { return o.Subnet == of.Subnet }) {
				return usage(fmt.Errorf("--subnet %s is given twice, the second time by another name", of.Subnet))
			}
			all.Of = append(all.Of, of)
		}
		var do explorer.Command = all
		if len(all.Of) == 1 && !on.On() {
			do = all.Of[0]
		}
		if _, err := a.start(ctx, e, do); err != nil {
			return err
		}
		for _, of := range all.Of {
			r, err := newEval(e.Snapshot(), of.Subnet)
			if err != nil {
				return err
			}
			list = append(list, r)
		}
		return nil
	})
	return list, err
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
		Stride: m.Conditions.Stride, Share: m.Share, Dense: m.Dense, Seconds: m.Seconds, Distance: m.Distance,
		BitsPerByte: m.BitsPerByte(), DenseBits: m.DenseBits, Bytes: m.Bytes, Vocab: m.Conditions.Vocab, ComputeType: m.Conditions.ComputeType,
	}
	if r.Stride == 0 {
		r.Stride = r.Seq
		if r.Starts == explorer.BOSEvery {
			r.Stride-- // the start token is not of the text
		}
	}
	if id != explorer.DenseID {
		r.Subnet = string(id)
		return r, nil
	}
	r.Dense = 0 // would compare the file with itself
	if m.Distance != nil {
		r.Dense = m.Distance.Reference
	}
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
	stride := ""
	if r.Stride < r.Seq-1 {
		stride = fmt.Sprintf(", %d apart,", r.Stride)
	}
	fmt.Fprintf(w, "perplexity %.4f%s (%.4f nats per token) on %d tokens: %s of %d%s of %s%s, scored by %s as %s, %.1f s\n",
		r.Perplexity, spread, r.NLL, r.Tokens, format.Counted(r.Windows, "window"), r.Seq, stride, r.Text, starts, r.Engine, r.Type, r.Seconds)
	if r.BitsPerByte > 0 {
		fmt.Fprintf(w, "%.4f bits per byte on %d bytes", r.BitsPerByte, r.Bytes)
		if r.DenseBits > 0 {
			fmt.Fprintf(w, ", the dense model with all tokens %.4f (%+.2f %%)", r.DenseBits, 100*(r.BitsPerByte/r.DenseBits-1))
		}
		fmt.Fprintln(w)
	}
	d := r.Distance
	if d == nil {
		if r.Dense > 0 {
			fmt.Fprintf(w, "%.3f × the dense model's %.4f\n", r.Perplexity/r.Dense, r.Dense)
		}
		return
	}
	distanceWords(w, *d)
}

// distanceWords writes a distance in two lines.
func distanceWords(w io.Writer, d explorer.Distance) {
	of := d.From + "'s"
	if d.From == explorer.AgainstDense {
		of = "the dense model's"
	}
	fmt.Fprintf(w, "%.3f ± %.3f × %s %.4f\n", d.Relative, d.RelativeError, of, d.Reference)
	fmt.Fprintf(w, "divergence %.4f ± %.4f nats per token, top-1 agreement %.1f ± %.1f %%\n", d.KL, d.KLError, 100*d.Agreement, 100*d.AgreementError)
}
