package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
)

func (a *app) tuneCommand() *cobra.Command {
	var (
		c   explorer.Tune
		out outFlags
		sub string
	)
	cmd := &cobra.Command{
		Use:   "tune [MODEL]",
		Short: "Train the norms and channel scales of a subnet of the workspace",
		Long: "Trains the gains of the norms, one scale for each kept channel and, where files hold them, the output biases, end to end on the\n" +
			"divergence from the dense model. The matrices stay as they are unless --rank is given. The subnet is neither larger nor slower.\n" +
			"Part of the text is held out: the best state on it is the result. The same command continues a run that was interrupted.",
		Example: "  lathe tune model.gguf --subnet s3 --budget 10m\n  lathe tune --subnet s3 --budget 20m --rank 8\n  lathe tune --subnet s3 --budget 60steps --text notes/ -o small.gguf",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.makeFrom(cmd.Context(), args, sub, out, explorer.Tuning{}, func(id explorer.SubnetID) explorer.Command {
				c.Subnet = id
				return c
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&sub, "subnet", string(explorer.DraftID), "subnet to tune: an id, a name, or draft")
	flags.StringVar(&c.Name, "name", "", "name of the result in the workspace")
	c.Tuning.Seconds = (10 * time.Minute).Seconds()
	flags.Var(&tuneValue{to: &c.Tuning}, "budget", "limit: a duration such as 10m, or a number of steps such as 60steps")
	flags.Float64Var(&c.Tuning.Rate, "rate", 0, "initial step of Adam, relative to the size of the numbers; it decays to zero (default 0.003)")
	flags.IntVar(&c.Tuning.Rank, "rank", 0, "also add "+rankUsage)
	optionalBool(flags, &c.Tuning.Bias, "bias", "tune output biases (default: where files of the model hold them)")
	flags.Uint64Var(&c.Tuning.Seed, "seed", 1, "random seed of the order of windows and of what --rank adds")
	calibrationFlags(cmd, &c.Calibration)
	flags.Lookup("windows").Usage = "windows of text, of which a quarter, at most 4, are held out (default: as many as the text has, up to 1024, and up to 256 for 128 steps or fewer)"
	flags.Lookup("seq").Usage = "tokens per window (default 512)"
	out.add(cmd)
	return cmd
}

// tuneFlag adds --tune, which tunes what a command makes.
func tuneFlag(cmd *cobra.Command, t *explorer.Tuning) {
	cmd.Flags().Var(&tuneValue{to: t}, "tune", "then tune norms and channel scales, for a duration such as 10m or a number of steps such as 60steps (see lathe tune)")
	rankFlag(cmd, t)
	cmd.PreRunE = func(*cobra.Command, []string) error { return checkRank(*t) }
	t.Seed = 1
}

// rankUsage describes a flag for the rank of what tuning adds to matrices.
const rankUsage = "a matrix of this rank to each matrix of attention and MLPs, trained with the rest (LoRA); 0 leaves the matrices as they are"

// rankFlag adds --tune-rank. It is checked when it is read, since tuning may come hours later.
func rankFlag(cmd *cobra.Command, t *explorer.Tuning) {
	cmd.Flags().Var(&whole{&t.Rank, explorer.RankRange()}, "tune-rank", "tuning also adds "+rankUsage+" (default: 0)")
}

// checkRank refuses a rank where nothing is tuned.
func checkRank(t explorer.Tuning) error {
	if t.Rank > 0 && !t.On() {
		return usage(errors.New("--tune-rank needs tuning: give --tune too, such as --tune 10m"))
	}
	return nil
}

// tuneValue is the value of a flag that limits tuning.
type tuneValue struct {
	to  *explorer.Tuning
	off bool // off is a value too
}

func (v *tuneValue) String() string {
	switch {
	case v.to == nil || !v.to.On():
		return ""
	case v.to.Steps > 0:
		return fmt.Sprintf("%dsteps", v.to.Steps)
	}
	return time.Duration(v.to.Seconds * float64(time.Second)).String()
}

func (v *tuneValue) Set(text string) error {
	if v.off && text == "off" {
		v.to.Seconds, v.to.Steps = 0, 0
		return nil
	}
	t, err := explorer.ParseTuning(text)
	if err != nil {
		return err
	}
	v.to.Seconds, v.to.Steps = t.Seconds, t.Steps
	return nil
}

func (v *tuneValue) Type() string { return "duration" }

// tune tunes a subnet that a command made, on the same text, and returns the result.
func (a *app) tune(ctx context.Context, e exploration, id explorer.SubnetID, c explorer.Calibration, t explorer.Tuning) (explorer.SubnetID, error) {
	c.Windows, c.Seq = 0, 0 // windows of tuning are shorter and more
	job, err := a.start(ctx, e, explorer.Tune{Subnet: id, Calibration: c, Tuning: t})
	return job.Result, err
}

// calibrationOf returns the calibration of a command that makes a subnet.
func calibrationOf(c explorer.Command) explorer.Calibration {
	switch c := c.(type) {
	case explorer.Cut:
		return c.Calibration
	case explorer.Refit:
		return c.Calibration
	case explorer.Quantize:
		return c.Calibration
	}
	return explorer.Calibration{}
}

// tuneWords describes what tuning did.
func tuneWords(w io.Writer, t *explorer.Tuned) {
	if t == nil {
		return
	}
	rank := ""
	if t.Rank > 0 {
		rank = fmt.Sprintf(", those of matrices with a rank of %d,", t.Rank)
	}
	fmt.Fprintf(w, "tuned %s%s by %s on %d tokens: divergence from the dense model on held-out text %.4f before, %.4f after (step %d)\n",
		format.Counted(t.Numbers, "number"), rank, format.Counted(t.Steps, "step"), t.Tokens, t.Before, t.After, t.Best)
	if t.Stopped != "" {
		fmt.Fprintf(w, "tuning ended early: %s\n", t.Stopped)
	}
}
