package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/explorer/report"
)

// benchesCommand lists and exports the benchmarks of a workspace.
func (a *app) benchesCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "benches", Short: "List and export the benchmarks of a workspace", Args: subcommandArgs, RunE: needsSubcommand}
	list := &cobra.Command{
		Use: "list [MODEL]", Short: "List the benchmarks, newest first", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onWorkspace(cmd, args, func(s *explorer.Snapshot) error {
				type bench struct {
					ID      string    `json:"id"`
					Author  string    `json:"author,omitempty"`
					Created time.Time `json:"created"`
					Subnets []string  `json:"subnets"`
					Rows    int       `json:"rows"`
					Done    bool      `json:"done"`
				}
				r := struct {
					Benches []bench `json:"benches"`
				}{[]bench{}}
				rows := [][]string{{"id", "subnets", "rows", "created"}}
				for _, b := range s.Benches {
					one := bench{ID: string(b.ID), Author: b.Author, Created: b.Created, Subnets: []string{}, Rows: len(b.Rows), Done: b.Done}
					for _, id := range b.Settings.Subnets {
						one.Subnets = append(one.Subnets, string(id))
					}
					r.Benches = append(r.Benches, one)
					rows = append(rows, []string{one.ID, strings.Join(one.Subnets, ", "), strconv.Itoa(one.Rows), one.Created.Local().Format("2006-01-02 15:04")})
				}
				return a.result(r, func(w io.Writer) { table(w, rows...) })
			})
		},
	}
	var as, to string
	export := &cobra.Command{
		Use: "export BENCH [MODEL]", Short: "Write a benchmark as text, CSV, JSON or Go benchmark lines", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onWorkspace(cmd, args[1:], func(s *explorer.Snapshot) error {
				b, ok := s.Bench(explorer.BenchID(args[0]))
				if !ok {
					return noBench(s, args[0])
				}
				if a.json && to == toStdout {
					as = report.JSON
				}
				text, err := report.Bench(b, as)
				if err != nil {
					return err
				}
				return a.writeText(to, text)
			})
		},
	}
	export.Flags().StringVar(&as, "format", report.Text, "output: text, csv, json, or go for Go benchmark lines")
	choices(export.Flags(), "format", report.BenchFormats()...)
	export.Flags().StringVarP(&to, "output", "o", toStdout, "file to write, which must not exist; - for standard output")
	cmd.AddCommand(list, export)
	return cmd
}

// noBench returns the error of a benchmark that there is none of.
func noBench(s *explorer.Snapshot, id string) error {
	if len(s.Benches) == 0 {
		return fmt.Errorf("benchmark %q: %w: the workspace has none", id, explorer.ErrNotFound)
	}
	var ids []string
	for _, b := range s.Benches {
		ids = append(ids, string(b.ID))
	}
	return fmt.Errorf("benchmark %q: %w%s (`lathe benches list` shows them)", id, explorer.ErrNotFound, orNearest(id, ids))
}

// onWorkspace runs a function on the state of the workspace of the model in args.
func (a *app) onWorkspace(cmd *cobra.Command, args []string, use func(*explorer.Snapshot) error) error {
	model, err := a.modelArg(args)
	if err != nil {
		return err
	}
	return a.with(cmd.Context(), model, readOnly, func(e exploration) error { return use(e.Snapshot()) })
}

// statisticsResult is what `statistics --json` writes.
type statisticsResult struct {
	Text   string             `json:"text"`
	SHA256 string             `json:"text_sha256"`
	Tokens int                `json:"tokens"`
	Dense  float64            `json:"dense_perplexity,omitempty"`
	Layers []sensitivityLayer `json:"layers"`
}

// sensitivityLayer is the predicted rise of the loss without each module of a layer, in nats per token.
type sensitivityLayer struct {
	Layer     int     `json:"layer"`
	Attention float64 `json:"attention"`
	MLP       float64 `json:"mlp"`
}

func (a *app) statisticsCommand() *cobra.Command {
	var c explorer.GatherStatistics
	cmd := &cobra.Command{
		Use: "statistics [MODEL]", Short: "Gather the statistics that rankings of units and estimates come from", Args: cobra.MaximumNArgs(1),
		Long: "Runs the calibration text through the dense model once, unless the workspace has the statistics of that text, and shows by how\n" +
			"much the loss rises without each module. Layers are independent of each other, so workers can gather them with the same result.\n" +
			"An interrupted run continues with the layers that are missing.",
		Example: "  lathe statistics model.gguf\n  lathe statistics model.gguf --workers 2\n  lathe statistics model.gguf --nats tls://nats.example.org:4222 --creds lathe.creds",
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), model, inWorkspace, func(e exploration) error {
				if _, err := a.start(cmd.Context(), e, c); err != nil {
					return err
				}
				s := e.Snapshot().Statistics
				r := statisticsResult{Text: s.Text.Path, SHA256: s.Text.SHA256, Tokens: s.Tokens, Layers: []sensitivityLayer{}}
				if s.DenseNLL > 0 {
					r.Dense = math.Exp(s.DenseNLL)
				}
				rows := [][]string{{"layer", "attention", "mlp"}}
				for i, l := range s.Sensitivity {
					r.Layers = append(r.Layers, sensitivityLayer{i, l.Attention, l.MLP})
					rows = append(rows, []string{strconv.Itoa(i), fmt.Sprintf("%.4f", l.Attention), fmt.Sprintf("%.4f", l.MLP)})
				}
				return a.result(r, func(w io.Writer) {
					table(w, rows...)
					fmt.Fprintf(w, "\nrise of the loss without the module, in nats per token, from %d tokens\n", r.Tokens)
				})
			})
		},
	}
	calibrationFlags(cmd, &c.Calibration)
	piecesFlags(cmd.Flags(), &c.Machines, "gather layers")
	return cmd
}

func (a *app) messagesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "messages [MODEL]", Short: "Show the messages of the explorer that has the workspace", Args: cobra.MaximumNArgs(1),
		Long: "Messages belong to a running explorer or server; without one they are those of opening the workspace.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onWorkspace(cmd, args, func(s *explorer.Snapshot) error {
				type message struct {
					At     time.Time `json:"at"`
					Level  string    `json:"level"`
					Author string    `json:"author,omitempty"`
					Text   string    `json:"text"`
				}
				r := struct {
					Messages []message `json:"messages"`
				}{[]message{}}
				for _, m := range s.Messages {
					level := map[explorer.MessageLevel]string{explorer.Info: "info", explorer.Warning: "warning", explorer.Failure: "failure"}[m.Level]
					r.Messages = append(r.Messages, message{m.At, level, m.Author, m.Text})
				}
				return a.result(r, func(w io.Writer) {
					for _, m := range slices.Backward(r.Messages) {
						fmt.Fprintf(w, "%s  %-7s  %s\n", m.At.Local().Format("15:04:05"), m.Level, m.Text)
					}
				})
			})
		},
	}
}

// stepsCommand lists the steps of the draft.
func (a *app) masksStepsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "steps [MODEL]", Short: "List the steps of the draft, the last first", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onWorkspace(cmd, args, func(s *explorer.Snapshot) error {
				r := struct {
					Base  string   `json:"base"`
					Steps []string `json:"steps"` // the first first
					Redo  int      `json:"redo"`
				}{string(s.Draft.Base), []string{}, len(s.Draft.Undone)}
				for _, step := range s.Draft.Steps {
					r.Steps = append(r.Steps, step.Summary)
				}
				return a.result(r, func(w io.Writer) {
					for i, step := range slices.Backward(r.Steps) {
						fmt.Fprintf(w, "%3d  %s\n", i+1, step)
					}
					fmt.Fprintf(w, "from %s, %s to redo\n", r.Base, format.Counted(r.Redo, "step"))
				})
			})
		},
	}
}

// subnetsMeasureCommand measures a subnet for the library.
func (a *app) subnetsMeasureCommand() *cobra.Command {
	var c explorer.Measure
	cmd := &cobra.Command{
		Use: "measure SUBNET [MODEL]", Short: "Measure the perplexity of a subnet and keep it in the workspace", Args: cobra.RangeArgs(1, 2),
		Long: "Without --text it measures on the held-out end of the default text, beside the dense model. SUBNET may be dense or draft.",
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args[1:])
			if err != nil {
				return err
			}
			if c.Against != "" && c.Against != explorer.AgainstDense {
				if c.Against, err = a.local(cmd.Context(), c.Against); err != nil {
					return err
				}
			}
			return a.with(cmd.Context(), model, inWorkspace, func(e exploration) error {
				if c.Subnet, err = find(e.Snapshot(), args[0]); err != nil {
					return err
				}
				if _, err := a.start(cmd.Context(), e, c); err != nil {
					return err
				}
				s := e.Snapshot()
				var m explorer.Measurement
				switch n, ok := s.Subnet(c.Subnet); {
				case ok && len(n.Measurements) > 0:
					m = n.Measurements[0]
				case c.Subnet == explorer.DraftID && s.Draft.Measured != nil:
					m = *s.Draft.Measured
				case c.Subnet == explorer.DenseID && len(s.Model.Measurements) > 0:
					m = s.Model.Measurements[0]
				}
				r := struct {
					Subnet   string  `json:"subnet"`
					Relative float64 `json:"perplexity_relative,omitempty"`
					explorer.Measurement
				}{string(c.Subnet), m.Relative(), m}
				return a.result(r, func(w io.Writer) {
					if r.Relative > 0 {
						fmt.Fprintf(w, "%.3f × dense, ", r.Relative)
					}
					fmt.Fprintf(w, "perplexity %.2f on %d tokens of %s\n", m.Perplexity, m.Conditions.Tokens, m.Conditions.Text.Path)
					if d := m.Distance; d != nil {
						distanceWords(w, *d)
					}
				})
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.Text, "text", "", "text to measure on: a file or a folder (default: the held-out end of the default text)")
	flags.IntVar(&c.Seq, "seq", 0, "tokens per window (default 2048)")
	flags.IntVar(&c.Windows, "windows", 0, "windows (default: 2 of the default text, all of --text)")
	flags.IntVar(&c.Stride, "stride", 0, "tokens from one window to the next (default: all of a window)")
	flags.StringVar(&c.Against, "against", "", "what to compare distributions with: dense, or a model file; takes twice as long")
	return cmd
}
