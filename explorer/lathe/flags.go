package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
)

// calibrationFlags adds the flags that say what to learn from.
func calibrationFlags(cmd *cobra.Command, c *explorer.Calibration) {
	flags := cmd.Flags()
	flags.StringVar(&c.Text, "text", "", "calibration text: a file, or a folder of text files (default: the Wikipedia text that came with the set-up)")
	flags.IntVar(&c.Windows, "windows", 0, "windows of calibration text (default 8)")
	flags.IntVar(&c.Seq, "seq", 0, "tokens per window (default 2048)")
}

// reformFlags adds the flags that say how weights are re-fitted.
func reformFlags(cmd *cobra.Command, o *explorer.ReformOptions) {
	flags := cmd.Flags()
	flags.StringVar(&o.Method, "reform", "", "how to re-fit the weights that stay: exact, admm or none (default: the method's own)")
	flags.Float64Var(&o.Lambda, "lambda", 0, "ridge term, relative to the mean diagonal of the inputs' second moments (default: the method's own)")
	flags.Float64Var(&o.Rho, "rho", 0, "ADMM's penalty (default 1)")
	flags.IntVar(&o.Steps, "steps", 0, "ADMM's steps (default 30)")
}

// presetNames lists the one-shot methods for a sentence.
func presetNames() string { return strings.Join(explorer.Presets(), ", ") }
