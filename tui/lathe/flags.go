package main

import (
	"fmt"
	"strconv"
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
	flags.Var(&optionalInt{&o.Up}, "up", "steps by which W_U is re-fitted too, 0 to leave it as it is (default: the method's own)")
	flags.Float64Var(&o.Rho, "rho", 0, "ADMM's penalty (default 1)")
	flags.IntVar(&o.Steps, "steps", 0, "ADMM's steps (default 30)")
}

// optionalInt is a flag that leaves a number unset unless it is given.
type optionalInt struct{ to **int }

func (o *optionalInt) String() string {
	if o.to == nil || *o.to == nil {
		return ""
	}
	return strconv.Itoa(**o.to)
}

func (o *optionalInt) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is no count", text)
	}
	*o.to = &n
	return nil
}

func (o *optionalInt) Type() string { return "int" }

// presetNames lists the one-shot methods for a sentence.
func presetNames() string { return strings.Join(explorer.Presets(), ", ") }
