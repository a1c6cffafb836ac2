package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
)

func (a *app) masksCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "masks", Short: "Look at masks and edit them", Args: cobra.NoArgs, RunE: needsSubcommand}
	cmd.AddCommand(a.masksShowCommand(), a.masksSetCommand(), a.masksUndoCommand("undo", "Take the last edit back"),
		a.masksUndoCommand("redo", "Do the last undone edit again"), a.masksDiffCommand(), a.masksCheckoutCommand())
	return cmd
}

// needsSubcommand is what a command that only groups others does.
func needsSubcommand(cmd *cobra.Command, _ []string) error {
	return usage(fmt.Errorf("%s needs a command: see %s --help", cmd.CommandPath(), cmd.CommandPath()))
}

// masksResult is what `masks show --json` writes.
type masksResult struct {
	Subnet  string       `json:"subnet"`
	Version uint64       `json:"version,omitempty"` // of the draft: what an edit may name to be refused when somebody else was faster
	Size    sizeResult   `json:"size"`
	Layers  []layerMasks `json:"layers"`
	Text    string       `json:"text"`
	Undo    int          `json:"undo,omitempty"`
	Redo    int          `json:"redo,omitempty"`
	// Estimate is of the masks in work alone.
	Estimate *estimateResult `json:"estimate,omitempty"`
}

// sizeResult is what masks cost.
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

// layerMasks is what is kept of one layer.
type layerMasks struct {
	Layer  int    `json:"layer"`
	Heads  string `json:"heads"`
	Groups int    `json:"kv_groups"`
	MLP    string `json:"mlp"`
	Kept   int    `json:"mlp_kept"`
	Of     int    `json:"mlp_of"`
}

// opener opens a model and lets use work with it.
type opener func(ctx context.Context, model string, use func(exploration) error) error

// onSubnet is a command that looks at one subnet of the workspace.
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
	cmd.Flags().StringVar(&sub, "subnet", string(explorer.DraftID), "an id, a name, dense, or draft for the masks in work")
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
	cmd := a.onSubnet("show [MODEL]", "Show what is kept of each layer", open, func(s *explorer.Snapshot, id explorer.SubnetID) error {
		masks, err := s.Masks(id)
		if err != nil {
			return err
		}
		text, err := masks.MarshalText()
		if err != nil {
			return err
		}
		r := masksResult{Subnet: string(id), Size: newSize(masks.Size(), masks.GGUFBytes(s.Model.FileType)), Text: string(text)}
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
	cmd.Flags().BoolVar(&estimate, "estimate", false, "estimate the perplexity of the masks in work, from statistics that are gathered where there are none yet")
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
		r.Size.Share, r.Size.ShareAll, byteCount(r.Size.Bytes), byteCount(r.Size.KVBytes))
	r.Estimate.words(w)
}

func (a *app) masksDiffCommand() *cobra.Command {
	var with string
	cmd := a.onSubnet("diff [MODEL]", "Show how two subnets differ", a.looking, func(s *explorer.Snapshot, id explorer.SubnetID) error {
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
		}{string(other), string(id), edits, newSize(to.Size(), to.GGUFBytes(s.Model.FileType))}
		return a.result(r, func(w io.Writer) {
			for _, edit := range edits {
				fmt.Fprintln(w, edit)
			}
			fmt.Fprintf(w, "share %.3f → %.3f\n", from.Size().Ratio, to.Size().Ratio)
		})
	})
	cmd.Flags().StringVar(&with, "with", string(explorer.DenseID), "what to compare with: an id, a name, dense or draft")
	return cmd
}

// draftResult is what commands that change the draft write with --json.
type draftResult struct {
	Version uint64     `json:"version"`
	Step    string     `json:"step,omitempty"`
	Undo    int        `json:"undo"`
	Redo    int        `json:"redo"`
	Size    sizeResult `json:"size"`

	Estimate *estimateResult `json:"estimate"`
}

func (a *app) drafted(s *explorer.Snapshot) error {
	d := s.Draft
	r := draftResult{Version: d.Version, Undo: len(d.Steps), Redo: len(d.Undone), Size: newSize(d.Size, d.Bytes), Estimate: newEstimate(d.Estimate)}
	if n := len(d.Steps); n > 0 {
		r.Step = d.Steps[n-1].Summary
	}
	return a.result(r, func(w io.Writer) {
		if r.Step != "" {
			fmt.Fprintln(w, r.Step)
		}
		fmt.Fprintf(w, "share %.3f, %s; %d steps to undo, %d to redo\n", r.Size.Share, byteCount(r.Size.Bytes), r.Undo, r.Redo)
		r.Estimate.words(w)
	})
}

// change gives commands to a model's workspace and shows the draft they lead to. calibration is what statistics are gathered
// on where they are needed and not there.
func (a *app) change(ctx context.Context, args []string, calibration explorer.Calibration, commands func(*explorer.Snapshot) ([]explorer.Command, error)) error {
	model, err := a.modelArg(args)
	if err != nil {
		return err
	}
	return a.with(ctx, model, inWorkspace, func(e exploration) error {
		list, err := commands(e.Snapshot())
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
		return a.drafted(e.Snapshot())
	})
}

// ranked reports whether an edit chooses units by importance.
func ranked(e explorer.Edit) bool {
	return slices.ContainsFunc(e.Mutations, func(m explorer.Mutation) bool {
		switch m.(type) {
		case explorer.KeepTop, explorer.Equalise:
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
	cmd.Flags().StringVar(&sub, "subnet", string(explorer.DenseID), "an id, a name, or dense")
	return cmd
}

func (a *app) masksSetCommand() *cobra.Command {
	var set struct {
		version                           uint64
		layers, mlp, heads, drop, restore string
		file                              string
		from                              int
		keepChannels, keepGroups          int
		invert, equalise                  string
		save                              string
		calibration                       explorer.Calibration
	}
	cmd := &cobra.Command{
		Use:   "set [MODEL]",
		Short: "Edit the masks in work",
		Long: "All that is named becomes one step that `masks undo` takes back. Layers and units are written like 0-3,7; all and none\n" +
			"work too. --keep-channels and --keep-groups keep the most important ones and need statistics.",
		Example: "  lathe masks set --layers 12 --mlp 0-1087\n  lathe masks set --layers 10-14 --drop attention\n" +
			"  lathe masks set --layers all --keep-channels 1024 --save 'thin mlp'",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd.Context(), args, set.calibration, func(s *explorer.Snapshot) ([]explorer.Command, error) {
				g := s.Model.Geometry
				layers, err := subnet.ParseSet(len(g.Layers), set.layers)
				if err != nil {
					return nil, usage(fmt.Errorf("--layers: %w", err))
				}
				var m []explorer.Mutation
				on := layers.Indices()
				if set.file != "" {
					text, err := os.ReadFile(set.file)
					if err != nil {
						return nil, input(err)
					}
					masks, err := subnet.ParseMasks(g, text)
					if err != nil {
						return nil, input(fmt.Errorf("%s: %w", set.file, err))
					}
					m = append(m, explorer.SetMasks{Masks: masks})
				}
				if set.from >= 0 {
					m = append(m, explorer.CopyLayer{From: set.from, To: on, Part: explorer.Whole})
				}
				for _, i := range on {
					if set.heads != "" {
						units, err := subnet.ParseSet(g.Layers[i].Heads, set.heads)
						if err != nil {
							return nil, usage(fmt.Errorf("--heads: layer %d: %w", i, err))
						}
						m = append(m, explorer.SetHeads{Layer: i, Set: units})
					}
					if set.mlp != "" {
						units, err := subnet.ParseSet(g.Layers[i].FFN, set.mlp)
						if err != nil {
							return nil, usage(fmt.Errorf("--mlp: layer %d: %w", i, err))
						}
						m = append(m, explorer.SetChannels{Layer: i, Set: units})
					}
				}
				if set.keepChannels >= 0 {
					m = append(m, explorer.KeepTop{Layers: on, Part: explorer.MLP, Count: set.keepChannels})
				}
				if set.keepGroups >= 0 {
					m = append(m, explorer.KeepTop{Layers: on, Part: explorer.Attention, Count: set.keepGroups})
				}
				for _, part := range []struct {
					name, value string
					make        func(explorer.Part) explorer.Mutation
				}{
					{"drop", set.drop, func(p explorer.Part) explorer.Mutation { return dropOf(on, p) }},
					{"restore", set.restore, func(p explorer.Part) explorer.Mutation { return explorer.Restore{Layers: on, Part: p} }},
					{"invert", set.invert, func(p explorer.Part) explorer.Mutation { return explorer.Invert{Layers: on, Part: p} }},
					{"equalise", set.equalise, func(p explorer.Part) explorer.Mutation { return explorer.Equalise{Layers: on, Part: p} }},
				} {
					switch p := explorer.Part(part.value); p {
					case "":
					case explorer.Attention, explorer.MLP, explorer.Whole:
						m = append(m, part.make(p))
					default:
						return nil, usage(fmt.Errorf("--%s %q: not attention, mlp or layer", part.name, part.value))
					}
				}
				if len(m) == 0 {
					return nil, usage(fmt.Errorf("nothing to set: name --mlp, --heads, --drop, --restore, --keep-channels, …"))
				}
				if needsLayers := set.file == "" || len(m) > 1; needsLayers && layers.IsEmpty() {
					return nil, usage(fmt.Errorf("--layers: none named"))
				}
				commands := []explorer.Command{explorer.Edit{Version: set.version, Mutations: m}}
				if cmd.Flags().Changed("save") {
					commands = append(commands, explorer.SaveDraft{Name: set.save})
				}
				return commands, nil
			})
		},
	}
	calibrationFlags(cmd, &set.calibration)
	flags := cmd.Flags()
	flags.StringVar(&set.layers, "layers", "none", "layers to change")
	flags.StringVar(&set.mlp, "mlp", "", "MLP channels to keep")
	flags.StringVar(&set.heads, "heads", "", "query heads to keep")
	flags.StringVar(&set.drop, "drop", "", "drop attention, mlp or layer")
	flags.StringVar(&set.restore, "restore", "", "keep all of attention, mlp or layer again")
	flags.StringVar(&set.invert, "invert", "", "swap kept and dropped units of attention, mlp or layer")
	flags.StringVar(&set.equalise, "equalise", "", "give the layers the same number of units of attention, mlp or layer")
	flags.IntVar(&set.keepChannels, "keep-channels", -1, "keep this many MLP channels, the most important ones")
	flags.IntVar(&set.keepGroups, "keep-groups", -1, "keep this many KV groups, the most important ones")
	flags.IntVar(&set.from, "copy-from", -1, "make the layers like this one")
	flags.StringVar(&set.file, "file", "", "replace all masks by those of a file, as `masks show --json` has them in text")
	flags.Uint64Var(&set.version, "version", 0, "edit only if the draft is still at this version")
	flags.StringVar(&set.save, "save", "", "put the result into the library under this name")
	return cmd
}

func dropOf(layers []int, p explorer.Part) explorer.Mutation {
	switch p {
	case explorer.Attention:
		return explorer.DropAttention{Layers: layers}
	case explorer.MLP:
		return explorer.DropMLP{Layers: layers}
	}
	return explorer.DropLayer{Layers: layers}
}

// parseRatios reads "0.9,0.8".
func parseRatios(text string) ([]float64, error) {
	var ratios []float64
	for _, part := range strings.Split(text, ",") {
		r, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil || !(r > 0 && r <= 1) {
			return nil, fmt.Errorf("ratio %q is not in (0, 1]", part)
		}
		ratios = append(ratios, r)
	}
	return ratios, nil
}
