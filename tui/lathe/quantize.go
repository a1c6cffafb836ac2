package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/oneshot"
)

func (a *app) quantizeCommand() *cobra.Command {
	var (
		c      explorer.Quantize
		out    outFlags
		types  typesFlag
		target string
		sub    string
	)
	cmd := &cobra.Command{
		Use:   "quantize [MODEL]",
		Short: "Choose the types of matrices for a file size, by measured loss",
		Long: "Measures, once for each model and text, the loss of storing each group of matrices in each type, chooses the types that fit a file\n" +
			"size or a memory with the least loss, and re-fits the output matrices on their inputs from the rounded matrices before them. It keeps\n" +
			"all units, or those of --subnet; `lathe cut --target 60MB --types auto` chooses widths and types together. With --vocab auto it chooses\n" +
			"the number of tokens of the vocabulary together with the types. Rounding errors are weighed by the inputs of the columns. Without -o\n" +
			"the result is added to the model's workspace.",
		Example: "  lathe quantize model.gguf --target 80MB -o small.gguf\n  lathe quantize model.gguf --target 60MB --vocab auto -o small.gguf\n  lathe quantize --subnet s3 --target memory=96MB@2048 --types Q4_0,Q4_1,Q3_K",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			if c.Target, err = sizeTarget(target); err != nil {
				return err
			}
			c.Types = types.names()
			if err := out.check(); err != nil {
				return err
			}
			kept := out.storage()
			if sub != string(explorer.DenseID) {
				kept = inWorkspace
			}
			return a.with(cmd.Context(), model, kept, func(e exploration) error {
				if c.Subnet, err = find(e.Snapshot(), sub); err != nil {
					return err
				}
				return a.make(cmd.Context(), e, c, out, explorer.Tuning{})
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&target, "target", "", "file size such as 60MB, or memory=512MB@4096 (weights and KV cache at a context; memory=512MB@4096/Q8_0 for a cache of another type than F16)")
	types.add(flags, []string{autoTypes})
	flags.StringVar(&sub, "subnet", string(explorer.DenseID), "subnet whose units are kept: an id, a name, dense or draft")
	flags.StringVar(&c.Name, "name", "", "name in the workspace")
	flags.StringVar(&c.Preset, "method", "", "method of lathe cut whose settings of the re-fit are used: "+presetNames()+" (default: the best known)")
	choices(flags, "method", explorer.Presets()...)
	optionalBool(flags, &c.Inner, "compensate-inner", "also compensate rounding errors of all other matrices in the layers, whose weights then take space in the workspace (default true)")
	optionalBool(flags, &c.Compensate, "compensate", "compensate rounding errors of output matrices in the columns that are rounded later (default true)")
	calibrationFlags(cmd, &c.Calibration)
	cmd.Flags().Lookup("windows").Usage = fitWindowsUsage()
	reformFlags(cmd, &c.Reform)
	vocabFlag(cmd, &c.Vocab, "the calibration texts")
	out.addFile(cmd)
	return cmd
}

// typesFlag is the flag of the types that may be chosen.
type typesFlag []string

// autoTypes stands for all types that fit.
const autoTypes = explorer.AutoTypeName

func (f *typesFlag) add(flags *pflag.FlagSet, otherwise []string) {
	usage := "types to choose from besides the matrices' own, separated by commas, or auto for all that fit"
	flags.StringSliceVar((*[]string)(f), "types", otherwise, usage)
	choices(flags, "types", append([]string{autoTypes}, typeNames()...)...)
}

// on reports whether types are chosen.
func (f typesFlag) on() bool { return len(f) > 0 }

// names returns the types, nil for all that fit.
func (f typesFlag) names() []string {
	if len(f) == 1 && strings.EqualFold(f[0], autoTypes) {
		return nil
	}
	names := make([]string, 0, len(f))
	for _, name := range f {
		names = append(names, strings.ToUpper(strings.TrimSpace(name)))
	}
	return names
}

// typeNames returns the names of the types that matrices may get.
func typeNames() []string {
	var names []string
	for _, t := range oneshot.TypeCandidates() {
		names = append(names, t.String())
	}
	return names
}

// sizeTarget reads a target that types are chosen for.
func sizeTarget(text string) (search.Target, error) {
	if text == "" {
		return search.Target{}, usage(errors.New("--target SIZE is missing"))
	}
	t, err := search.ParseTarget(text, "")
	if err != nil {
		return t, usage(fmt.Errorf("--target: %w", err))
	}
	if t.Measure != search.Bytes && t.Measure != search.Memory || t.Type != "" {
		return t, usage(fmt.Errorf("--target %s: types are chosen for a size such as 60MB or a memory such as memory=512MB@4096, without a type", text))
	}
	return t, nil
}

// typedWords describes how types were chosen.
func typedWords(w io.Writer, n explorer.Method, types string) {
	t := n.Typed
	if t == nil {
		return
	}
	fmt.Fprintf(w, "matrices: %s; divergence from the dense model %.4f nats per token predicted", types, t.Predicted)
	if t.Measured > 0 {
		fmt.Fprintf(w, ", %.4f measured on held-out calibration text", t.Measured)
	}
	fmt.Fprintln(w)
}
