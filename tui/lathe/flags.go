package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/search"
)

// calibrationFlags adds the flags of the calibration text.
func calibrationFlags(cmd *cobra.Command, c *explorer.Calibration) {
	flags := cmd.Flags()
	flags.Var(&calibrationText{c: c}, "text", "calibration text: a file (text, JSON lines or parquet), a folder of them, or hub:OWNER/NAME, a data set of the Hugging Face hub; several times for a mix, as NAME=PATH:SHARE; wiki, web, code and chat are built in (default: "+defaultTexts()+")")
	flags.StringVar(&c.Draw, "draw", "", "where windows are drawn from: whole, over the whole text, or start, from the start of a single text (default whole)")
	choices(flags, "draw", explorer.DrawWhole, explorer.DrawStart)
	flags.Var(&whole{&c.Windows, explorer.WindowsRange()}, "windows", "calibration windows (default 8)")
	flags.Var(&whole{&c.Seq, explorer.SeqRange()}, "seq", "tokens per calibration window (default 2048)")
}

// defaultTexts returns the default mix as --text takes it.
func defaultTexts() string { return explorer.Calibration{Mix: explorer.DefaultMix()}.Texts() }

// fitWindowsUsage returns the usage of --windows where weights are re-fitted.
func fitWindowsUsage() string {
	return fmt.Sprintf("calibration windows; more lose less and take longer (default %d)", explorer.FitWindows)
}

// calibrationText is the value of the flag of calibration texts, which may be given several times.
type calibrationText struct {
	c     *explorer.Calibration
	texts []string
}

// String returns the texts that were given.
func (v *calibrationText) String() string { return strings.Join(v.texts, ", ") }

// Set adds a text.
func (v *calibrationText) Set(text string) error {
	if text == "" {
		return errors.New("no text is named")
	}
	v.texts = append(v.texts, text)
	return v.c.SetTexts(v.texts)
}

// Type names the values in the documentation.
func (v *calibrationText) Type() string { return "string" }

// reformFlags adds the flags of the re-fit.
func reformFlags(cmd *cobra.Command, o *explorer.ReformOptions) {
	flags := cmd.Flags()
	flags.StringVar(&o.Method, "reform", "", "how to re-fit the remaining weights: exact; admm, as in the paper: rho 1, 30 steps, no ridge and no pull unless given; or none (default: the method's own)")
	flags.StringVar(&o.Target, "fit-target", "", "what re-fitted matrices reproduce: local, the original matrix's outputs on the subnet's own inputs; dense, its outputs in the dense model; residual, the dense model's hidden states (default: the method's own)")
	flags.Var(&optionalNumber{&o.Lambda, explorer.LambdaRange()}, "lambda", "ridge term, relative to the mean diagonal of the inputs' second moments (default: the method's own, chosen for each block among several by allocated)")
	optionalBool(flags, &o.Pull, "pull", "pull re-fitted weights toward the original ones instead of toward zero, with the strength of the ridge (default: the method's own)")
	optionalBool(flags, &o.Bias, "bias", "also fit output biases, which compensate for the means of dropped units (default: the method's own)")
	optionalBool(flags, &o.Bridge, "bridge", "also fit W_D of the last MLP before dropped layers to the dense model's hidden states after them, and then the output matrices of all later modules (default: the method's own)")
	flags.StringVar(&o.Weigh, "weigh", "", "weights of tokens in the re-fit and in the choice of units: none; state, the inverse size of their hidden states; gradient, the gradient of the dense model's loss, which takes a backward pass (default: the method's own)")
	choices(flags, "weigh", explorer.Weighings()...)
	flags.Var(&number{&o.Rho, explorer.RhoRange()}, "rho", "penalty of ADMM, relative to the mean diagonal of the inputs' second moments (default 1)")
	flags.Var(&whole{&o.Steps, explorer.StepsRange()}, "steps", "steps of ADMM (default 30)")
	choices(flags, "reform", explorer.FitMethods()...)
	choices(flags, "fit-target", explorer.FitTargets()...)
}

// upFlag adds the flag of the re-fit of W_U.
func upFlag(cmd *cobra.Command, to **int, byDefault string) {
	cmd.Flags().Var(&optionalWhole{to, explorer.UpRange()}, "up", "steps of the re-fit of W_U, 0 to leave W_U unchanged (default: "+byDefault+")")
}

// gradientFlag adds the flag of the re-fit of all matrices of a module.
func gradientFlag(cmd *cobra.Command, to **int) {
	cmd.Flags().Var(&optionalWhole{to, explorer.GradientRange()}, "gradient-refit",
		"most steps that then re-fit all matrices of each module that has lost units, W_G and W_U or W_Q, W_K and W_V too, by gradient; the steps that pay on held-out windows are kept. It takes several times the time of the re-fit, and pays with much text at ratios such as 0.6; 48 is a good number (default: 0, off)")
}

// granularityFlag adds the flag of the step of MLP widths.
func granularityFlag(cmd *cobra.Command, to *int, byDefault string) {
	cmd.Flags().Var(&whole{to, explorer.Range{Lo: 1, Hi: 1 << 20}}, "granularity",
		"number that MLP widths are a multiple of; it must divide those of the model, and K-quant types need 256 (default: "+byDefault+")")
}

// attentionFlag adds the flag that has KV groups dropped.
func attentionFlag(cmd *cobra.Command, c *explorer.Cut) {
	optionalBool(cmd.Flags(), &c.Attention, "attention", "also drop KV groups, which shrinks the KV cache; allocated measures which of them cost less than channels (default: only if MLP channels alone do not reach the ratio)")
}

// gpuFlag adds the flag for the layers of models on GPUs.
func gpuFlag(flags *pflag.FlagSet, to *string) {
	flags.StringVar(to, "gpu", infer.GPUAuto, "layers of a running model on the GPU: off, auto (as many as fit) or a number; off also keeps searches and re-fits off the GPU")
}

// checkAddress returns an error for an address to listen on that has no port.
func checkAddress(address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return usage(fmt.Errorf("--listen %q: not HOST:PORT or :PORT", address))
	}
	return nil
}

// whole is the value of a flag for an integer in a range; 0, where that is outside, is the default.
type whole struct {
	to *int
	in explorer.Range
}

func (w *whole) String() string {
	if w.to == nil || *w.to == 0 {
		return ""
	}
	return strconv.Itoa(*w.to)
}

func (w *whole) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || !w.in.Has(float64(n)) {
		return fmt.Errorf("%q is not an integer in %v", text, w.in)
	}
	*w.to = n
	return nil
}

func (w *whole) Type() string { return "int" }

// optionalWhole is the value of a flag for an integer in a range that stays nil unless the flag is given.
type optionalWhole struct {
	to **int
	in explorer.Range
}

func (o *optionalWhole) String() string {
	if o.to == nil || *o.to == nil {
		return ""
	}
	return strconv.Itoa(**o.to)
}

func (o *optionalWhole) Set(text string) error {
	n := new(int)
	if err := (&whole{n, o.in}).Set(text); err != nil {
		return err
	}
	*o.to = n
	return nil
}

func (o *optionalWhole) Type() string { return "int" }

// number is the value of a flag for a number in a range; 0, where that is outside, is the default.
type number struct {
	to *float64
	in explorer.Range
}

func (f *number) String() string {
	if f.to == nil || *f.to == 0 {
		return ""
	}
	return strconv.FormatFloat(*f.to, 'g', -1, 64)
}

func (f *number) Set(text string) error {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !f.in.Has(v) {
		return fmt.Errorf("%q is not a number in %v", text, f.in)
	}
	*f.to = v
	return nil
}

func (f *number) Type() string { return "float" }

// ratio is the value of a flag for a ratio: a number such as 0.8, or a percentage such as 80%.
type ratio struct{ to *float64 }

func (r *ratio) String() string {
	if r.to == nil {
		return ""
	}
	return strconv.FormatFloat(*r.to, 'g', -1, 64)
}

func (r *ratio) Set(text string) error {
	t, err := search.ParseTarget(text, "")
	if err != nil || t.Measure != search.Params {
		return fmt.Errorf("%q is not a ratio in (0, 1] such as 0.8 or 80%%", text)
	}
	*r.to = t.Value
	return nil
}

func (r *ratio) Type() string { return "float" }

// optionalNumber is the value of a flag for a number in a range that stays nil unless the flag is given.
type optionalNumber struct {
	to **float64
	in explorer.Range
}

func (o *optionalNumber) String() string {
	if o.to == nil || *o.to == nil {
		return ""
	}
	return strconv.FormatFloat(**o.to, 'g', -1, 64)
}

func (o *optionalNumber) Set(text string) error {
	v := new(float64)
	if err := (&number{v, o.in}).Set(text); err != nil {
		return err
	}
	*o.to = v
	return nil
}

func (o *optionalNumber) Type() string { return "float" }

// optionalBool adds a flag for yes or no that stays nil unless it is given: --name is yes, --name=false no.
func optionalBool(flags *pflag.FlagSet, to **bool, name, usage string) {
	flags.Var(&yesNo{to}, name, usage)
	flags.Lookup(name).NoOptDefVal = "true"
}

// yesNo is the value of such a flag.
type yesNo struct{ to **bool }

func (y *yesNo) String() string {
	if y.to == nil || *y.to == nil {
		return ""
	}
	return strconv.FormatBool(**y.to)
}

func (y *yesNo) Set(text string) error {
	v, err := strconv.ParseBool(text)
	if err != nil {
		return fmt.Errorf("%q is not true or false", text)
	}
	*y.to = &v
	return nil
}

func (y *yesNo) Type() string { return "bool" }

// presetNames returns the names of the one-shot methods, separated by commas.
func presetNames() string { return strings.Join(explorer.Presets(), ", ") }
