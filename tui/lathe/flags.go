package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/reform"
)

// calibrationFlags adds the flags of the calibration text.
func calibrationFlags(cmd *cobra.Command, c *explorer.Calibration) {
	flags := cmd.Flags()
	flags.StringVar(&c.Text, "text", "", "calibration text: a file, or a folder of text files (default: the Wikipedia text that `make setup` downloads)")
	flags.IntVar(&c.Windows, "windows", 0, "calibration windows (default 8)")
	flags.IntVar(&c.Seq, "seq", 0, "tokens per calibration window (default 2048)")
}

// reformFlags adds the flags of the re-fit.
func reformFlags(cmd *cobra.Command, o *explorer.ReformOptions) {
	flags := cmd.Flags()
	flags.StringVar(&o.Method, "reform", "", "how to re-fit the remaining weights: exact, admm or none (default: the method's own)")
	choices(flags, "reform", string(reform.Exact), string(reform.ADMM), string(reform.None))
	flags.Float64Var(&o.Lambda, "lambda", 0, "ridge term, relative to the mean diagonal of the inputs' second moments (default: the method's own)")
	flags.Var(&optionalInt{&o.Up}, "up", "steps of the re-fit of W_U, 0 to leave W_U unchanged (default: the method's own)")
	flags.Float64Var(&o.Rho, "rho", 0, "penalty of ADMM (default 1)")
	flags.IntVar(&o.Steps, "steps", 0, "steps of ADMM (default 30)")
}

// gpuFlag adds the flag for the layers of models on GPUs.
func gpuFlag(flags *pflag.FlagSet, to *string) {
	flags.StringVar(to, "gpu", infer.GPUAuto, "layers of a model on the GPU where it is run: off, auto (as many as fit) or a number; off keeps search and re-fit off it too")
}

// checkAddress returns an error for an address to listen on that has no port.
func checkAddress(address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return usage(fmt.Errorf("--listen %q: not HOST:PORT or :PORT", address))
	}
	return nil
}

// optionalInt is the value of a flag for a non-negative integer that stays nil unless the flag is given.
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
		return fmt.Errorf("%q is not a non-negative integer", text)
	}
	*o.to = &n
	return nil
}

func (o *optionalInt) Type() string { return "int" }

// presetNames returns the names of the one-shot methods, separated by commas.
func presetNames() string { return strings.Join(explorer.Presets(), ", ") }
