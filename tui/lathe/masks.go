package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/explorer/format"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
)

func (a *app) masksCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "masks", Short: "Show and edit masks", Args: subcommandArgs, RunE: needsSubcommand}
	cmd.AddCommand(a.masksShowCommand(), a.masksSetCommand(), a.masksUndoCommand("undo", "Undo the last edit"),
		a.masksUndoCommand("redo", "Redo the last undone edit"), a.masksDiffCommand(), a.masksCheckoutCommand(), a.masksStepsCommand())
	return cmd
}

// needsSubcommand is the action of a command that only groups others.
func needsSubcommand(cmd *cobra.Command, _ []string) error {
	return usage(fmt.Errorf("%s needs a command: see %s --help", cmd.CommandPath(), cmd.CommandPath()))
}

// masksResult is what `masks show --json` writes.
type masksResult struct {
	Subnet  string       `json:"subnet"`
	Version uint64       `json:"version,omitempty"` // of the draft; an edit that names an older one is refused
	Size    sizeResult   `json:"size"`
	Layers  []layerMasks `json:"layers"`
	Text    string       `json:"text"`
	Undo    int          `json:"undo,omitempty"`
	Redo    int          `json:"redo,omitempty"`
	// Estimate is set for the draft only.
	Estimate *estimateResult `json:"estimate,omitempty"`
}

// sizeResult is the size of a subnet.
type sizeResult struct {
	Share        float64 `json:"share"`
	ShareAll     float64 `json:"share_all"`
	BlockParams  int64   `json:"block_parameters"`
	ZeroedParams int64   `json:"zeroed_parameters"`
	Bytes        int64   `json:"bytes"`
	KVBytes      int64   `json:"kv_bytes_per_token"`
}

func newSize(s subnet.Size, bytes int64) sizeResult {
	return sizeResult{s.Ratio, s.RatioAll, s.BlockParams, s.ZeroedParams, bytes, s.KVBytesPerToken}
}

// layerMasks are the units that are kept in one layer.
type layerMasks struct {
	Layer  int    `json:"layer"`
	Heads  string `json:"heads"`
	Groups int    `json:"kv_groups"`
	MLP    string `json:"mlp"`
	Kept   int    `json:"mlp_kept"`
	Of     int    `json:"mlp_of"`
}

// opener opens a model and calls use.
type opener func(ctx context.Context, model string, use func(exploration) error) error

// onSubnet returns a command that shows one subnet of the workspace.
func (a *app) onSubnet(use, short string, open opener, show func(*explorer.Snapshot, explorer.SubnetID) error) *cobra.Command {
	var sub string
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			return open(cmd.Context(), model, func(e exploration) error {
				s := e.Snapshot()
				id, err := find(s, sub)
				if err != nil {
					return err
				}
				return show(s, id)
			})
		},
	}
	cmd.Flags().StringVar(&sub, "subnet", string(explorer.DraftID), "subnet: an id, a name, dense or draft")
	return cmd
}

func (a *app) masksShowCommand() *cobra.Command {
	var estimate bool
	open := func(ctx context.Context, model string, use func(exploration) error) error {
		if estimate {
			return a.estimating(ctx, model, use)
		}
		return a.looking(ctx, model, use)
	}
	cmd := a.onSubnet("show [MODEL]", "Show the kept units of each layer", open, func(s *explorer.Snapshot, id explorer.SubnetID) error {
		masks, err := s.Masks(id)
		if err != nil {
			return err
		}
		text, err := masks.MarshalText()
		if err != nil {
			return err
		}
		r := masksResult{Subnet: string(id), Size: newSize(masks.Size(), s.ExportBytes(id, "")), Text: string(text)}
		if id == explorer.DraftID {
			r.Version, r.Undo, r.Redo = s.Draft.Version, len(s.Draft.Steps), len(s.Draft.Undone)
			r.Estimate = newEstimate(s.Draft.Estimate)
		}
		for i, g := range masks.Geometry().Layers {
			l := masks.Layer(i)
			r.Layers = append(r.Layers, layerMasks{i, l.Heads.String(), l.Groups(g).Len(), l.Channels.String(), l.Channels.Len(), g.FFN})
		}
		return a.result(r, func(w io.Writer) { r.words(w, masks) })
	})
	cmd.Flags().BoolVar(&estimate, "estimate", false, "estimate the perplexity of the draft from statistics, which are gathered first if necessary")
	return cmd
}

func (r masksResult) words(w io.Writer, m subnet.Masks) {
	rows := [][]string{{"layer", "heads", "groups", "mlp"}}
	for i, g := range m.Geometry().Layers {
		l := m.Layer(i)
		heads, mlp := l.Heads.String(), fmt.Sprintf("%d of %d", l.Channels.Len(), g.FFN)
		rows = append(rows, []string{fmt.Sprint(i), heads, fmt.Sprintf("%d of %d", l.Groups(g).Len(), g.KVHeads), mlp})
	}
	table(w, rows...)
	fmt.Fprintf(w, "\n%.3f of the block parameters (%.3f with embeddings), %s, %s of KV cache per token\n",
		r.Size.Share, r.Size.ShareAll, format.Bytes(r.Size.Bytes), format.Bytes(r.Size.KVBytes))
	r.Estimate.words(w)
}

func (a *app) masksDiffCommand() *cobra.Command {
	var with string
	cmd := a.onSubnet("diff [MODEL]", "Compare the masks of two subnets", a.looking, func(s *explorer.Snapshot, id explorer.SubnetID) error {
		other, err := find(s, with)
		if err != nil {
			return err
		}
		from, err := s.Masks(other)
		if err != nil {
			return err
		}
		to, err := s.Masks(id)
		if err != nil {
			return err
		}
		edits := []string{}
		for _, edit := range subnet.Diff(from, to) {
			edits = append(edits, edit.String())
		}
		r := struct {
			From  string     `json:"from"`
			To    string     `json:"to"`
			Edits []string   `json:"edits"`
			Size  sizeResult `json:"size"`
		}{string(other), string(id), edits, newSize(to.Size(), s.ExportBytes(id, ""))}
		return a.result(r, func(w io.Writer) {
			for _, edit := range edits {
				fmt.Fprintln(w, edit)
			}
			fmt.Fprintf(w, "share %.3f → %.3f\n", from.Size().Ratio, to.Size().Ratio)
		})
	})
	cmd.Flags().StringVar(&with, "with", string(explorer.DenseID), "subnet to compare with: an id, a name, dense or draft")
	return cmd
}

// draftResult is the draft in the --json output of commands that change it.
type draftResult struct {
	Version uint64     `json:"version"`
	Step    string     `json:"step,omitempty"`   // the newest step of the draft
	Undone  string     `json:"undone,omitempty"` // by this command
	Redone  string     `json:"redone,omitempty"`
	Undo    int        `json:"undo"`
	Redo    int        `json:"redo"`
	Size    sizeResult `json:"size"`
	// NotSmaller is why the file is not smaller than before although fewer parameters are kept.
	NotSmaller string `json:"file_not_smaller,omitempty"`
	// RefittedBefore is whether the weights were re-fitted before the edits, which they do not make up for.
	RefittedBefore bool `json:"refitted_before_edits,omitempty"`

	Estimate *estimateResult `json:"estimate"`
}

// drafted shows the draft after commands, and the step that the last of them undid or redid.
func (a *app) drafted(before, s *explorer.Snapshot, last explorer.Command) error {
	d := s.Draft
	r := draftResult{Version: d.Version, Undo: len(d.Steps), Redo: len(d.Undone), Size: newSize(d.Size, d.Bytes), Estimate: newEstimate(d.Estimate)}
	r.NotSmaller = explorer.NotSmaller(before.Draft.Masks, d.Masks, before.Draft.Bytes, d.Bytes)
	r.RefittedBefore = s.RefittedBefore(d.Masks)
	if n := len(d.Steps); n > 0 {
		r.Step = d.Steps[n-1].Summary
	}
	switch n := len(before.Draft.Steps); last.(type) {
	case explorer.Undo:
		r.Undone = before.Draft.Steps[n-1].Summary
	case explorer.Redo:
		r.Redone = r.Step
	default: // nothing for the others
	}
	return a.result(r, func(w io.Writer) {
		switch {
		case r.Undone != "":
			fmt.Fprintln(w, "undone: "+r.Undone)
		case r.Redone != "":
			fmt.Fprintln(w, "redone: "+r.Redone)
		case r.Step != "":
			fmt.Fprintln(w, r.Step)
		}
		fmt.Fprintf(w, "share %.3f, %s; %s to undo, %d to redo\n", r.Size.Share, format.Bytes(r.Size.Bytes), format.Counted(r.Undo, "step"), r.Redo)
		if r.NotSmaller != "" {
			fmt.Fprintf(w, "the file is not smaller than before: %s\n", r.NotSmaller)
		}
		if r.RefittedBefore {
			fmt.Fprintln(w, "re-fitted before the edits: lathe reform --subnet draft re-fits again")
		}
		r.Estimate.words(w)
	})
}

// change runs commands on a model's workspace and shows the resulting draft. If they need statistics that the workspace does
// not have, these are gathered with calibration first.
func (a *app) change(ctx context.Context, args []string, calibration explorer.Calibration, commands func(*explorer.Snapshot) ([]explorer.Command, error)) error {
	model, err := a.modelArg(args)
	if err != nil {
		return err
	}
	return a.with(ctx, model, inWorkspace, func(e exploration) error {
		before := e.Snapshot()
		list, err := commands(before)
		if err != nil {
			return err
		}
		for _, c := range list {
			if edit, ok := c.(explorer.Edit); ok && ranked(edit) && !e.Snapshot().Statistics.Ready {
				if _, err := a.start(ctx, e, explorer.GatherStatistics{Calibration: calibration}); err != nil {
					return err
				}
			}
			if _, err := e.Do(ctx, a.actor(), c); err != nil {
				return err
			}
		}
		return a.drafted(before, e.Snapshot(), list[len(list)-1])
	})
}

// ranked reports whether an edit chooses units by importance.
func ranked(e explorer.Edit) bool {
	return slices.ContainsFunc(e.Mutations, func(m draft.Mutation) bool {
		switch m.(type) {
		case draft.KeepTop, draft.Equalise:
			return true
		}
		return false
	})
}

func (a *app) masksUndoCommand(use, short string) *cobra.Command {
	return &cobra.Command{
		Use: use + " [MODEL]", Short: short, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd.Context(), args, explorer.Calibration{}, func(*explorer.Snapshot) ([]explorer.Command, error) {
				if use == "undo" {
					return []explorer.Command{explorer.Undo{}}, nil
				}
				return []explorer.Command{explorer.Redo{}}, nil
			})
		},
	}
}

func (a *app) masksCheckoutCommand() *cobra.Command {
	var sub string
	cmd := &cobra.Command{
		Use: "checkout [MODEL]", Short: "Start editing from a subnet", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd.Context(), args, explorer.Calibration{}, func(s *explorer.Snapshot) ([]explorer.Command, error) {
				id, err := find(s, sub)
				return []explorer.Command{explorer.Checkout{Subnet: id}}, err
			})
		},
	}
	cmd.Flags().StringVar(&sub, "subnet", string(explorer.DenseID), "subnet: an id, a name, or dense")
	return cmd
}

// parseRatios reads "0.9,80%".
func parseRatios(text string) ([]float64, error) {
	var ratios []float64
	for _, part := range strings.Split(text, ",") {
		var r float64
		if err := (&ratio{&r}).Set(strings.TrimSpace(part)); err != nil {
			return nil, err
		}
		ratios = append(ratios, r)
	}
	return ratios, nil
}
