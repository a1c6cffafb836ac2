package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// setFlags are the flags of `masks set`.
type setFlags struct {
	layers, heads, mlp, qk, vo       string // sets of indices, as subnet.ParseSet reads them
	group                            int    // that qk and vo apply to; -1: all
	drop, restore, invert, equalise  string // attention, mlp or layer
	keepChannels, keepGroups, source int    // -1: not given
	file, save                       string
	version                          uint64
	calibration                      explorer.Calibration
}

func (a *app) masksSetCommand() *cobra.Command {
	var f setFlags
	cmd := &cobra.Command{
		Use:   "set [MODEL]",
		Short: "Edit the draft",
		Long: "All options together are one step, which `masks undo` reverts. Layers and units are written as 0-3,7; all and none are\n" +
			"valid too. --keep-channels and --keep-groups keep the most important units and need statistics.",
		Example: "  lathe masks set --layers 12 --mlp 0-1087\n  lathe masks set --layers 10-14 --drop attention\n" +
			"  lathe masks set --layers all --keep-channels 1024 --save 'thin mlp'",
		Args: cobra.MaximumNArgs(1),
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.change(cmd.Context(), args, f.calibration, func(s *explorer.Snapshot) ([]explorer.Command, error) {
			list, err := f.mutations(s.Model.Geometry)
			if err != nil {
				return nil, err
			}
			var commands []explorer.Command
			if len(list) > 0 {
				commands = append(commands, explorer.Edit{Version: f.version, Mutations: list})
			}
			if cmd.Flags().Changed("save") {
				commands = append(commands, explorer.SaveDraft{Name: f.save})
			}
			return commands, nil
		})
	}
	return cmd
}

func (f *setFlags) add(cmd *cobra.Command) {
	calibrationFlags(cmd, &f.calibration)
	flags := cmd.Flags()
	flags.StringVar(&f.layers, "layers", "none", "layers to change")
	flags.StringVar(&f.mlp, "mlp", "", "channels of MLPs to keep")
	flags.StringVar(&f.heads, "heads", "", "query heads to keep")
	flags.StringVar(&f.drop, "drop", "", "drop attention, mlp or layer")
	flags.StringVar(&f.restore, "restore", "", "keep all units of attention, mlp or layer again")
	flags.StringVar(&f.invert, "invert", "", "swap kept and dropped units of attention, mlp or layer")
	flags.StringVar(&f.equalise, "equalise", "", "keep the same number of units of attention, mlp or layer in each of the layers")
	flags.IntVar(&f.keepChannels, "keep-channels", -1, "keep this many MLP channels, the most important ones")
	flags.IntVar(&f.keepGroups, "keep-groups", -1, "keep this many KV groups, the most important ones")
	flags.IntVar(&f.group, "group", -1, "group of heads (KV group) that --qk and --vo apply to (default: every group)")
	flags.StringVar(&f.qk, "qk", "", "channels inside the heads to keep in W_Q and W_K, in rotary pairs")
	flags.StringVar(&f.vo, "vo", "", "channels inside the heads to keep in W_V and W_O")
	flags.IntVar(&f.source, "copy-from", -1, "copy the masks of this layer to the layers")
	for _, name := range []string{"drop", "restore", "invert", "equalise"} {
		choices(flags, name, string(draft.Attention), string(draft.MLP), string(draft.Whole))
	}
	flags.StringVar(&f.file, "file", "", "replace all masks with those of a file: the field text of `masks show --json`")
	flags.Uint64Var(&f.version, "version", 0, "edit only if the draft still has this version")
	flags.StringVar(&f.save, "save", "", "save the result in the library under this name")
}

// mutations returns the changes that the flags ask for in a model of geometry g, in the order in which they apply: masks of a
// file, copied layers, sets of units, numbers of units, whole modules.
func (f *setFlags) mutations(g *subnet.Geometry) ([]draft.Mutation, error) {
	layers, err := subnet.ParseSet(len(g.Layers), f.layers)
	if err != nil {
		return nil, usage(fmt.Errorf("--layers: %w", err))
	}
	on := layers.Indices()
	list, err := f.fromFile(g)
	if err != nil {
		return nil, err
	}
	if f.source >= 0 {
		list = append(list, draft.CopyLayer{From: f.source, To: on, Module: draft.Whole})
	}
	sets, err := f.sets(g, on)
	if err != nil {
		return nil, err
	}
	list = append(list, sets...)
	if f.keepChannels >= 0 {
		list = append(list, draft.KeepTop{Layers: on, Module: draft.MLP, Count: f.keepChannels})
	}
	if f.keepGroups >= 0 {
		list = append(list, draft.KeepTop{Layers: on, Module: draft.Attention, Count: f.keepGroups})
	}
	modules, err := f.modules(on)
	if err != nil {
		return nil, err
	}
	list = append(list, modules...)
	if len(list) == 0 && f.save != "" {
		return nil, nil // the draft is saved as it is
	}
	if len(list) == 0 {
		return nil, usage(errors.New("nothing to set: give --mlp, --heads, --drop, --restore, --keep-channels, …"))
	}
	if needsLayers := f.file == "" || len(list) > 1; needsLayers && layers.IsEmpty() {
		return nil, usage(errors.New("--layers is missing"))
	}
	return list, nil
}

// fromFile returns the mutation to the masks of --file, nil without one.
func (f *setFlags) fromFile(g *subnet.Geometry) ([]draft.Mutation, error) {
	if f.file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.file)
	if err != nil {
		return nil, input(err)
	}
	masks, err := subnet.ParseMasks(g, text)
	if err != nil {
		return nil, input(fmt.Errorf("%s: %w", f.file, err))
	}
	return []draft.Mutation{draft.SetMasks{Masks: masks}}, nil
}

// sets returns the mutations of --heads and --mlp, layer by layer.
func (f *setFlags) sets(g *subnet.Geometry, on []int) ([]draft.Mutation, error) {
	var list []draft.Mutation
	for _, i := range on {
		if f.heads != "" {
			units, err := subnet.ParseSet(g.Layers[i].Heads, f.heads)
			if err != nil {
				return nil, usage(fmt.Errorf("--heads: layer %d: %w", i, err))
			}
			list = append(list, draft.SetHeads{Layer: i, Set: units})
		}
		if f.mlp != "" {
			units, err := subnet.ParseSet(g.Layers[i].FFN, f.mlp)
			if err != nil {
				return nil, usage(fmt.Errorf("--mlp: layer %d: %w", i, err))
			}
			list = append(list, draft.SetChannels{Layer: i, Set: units})
		}
		inside, err := f.insideHeads(g, i)
		if err != nil {
			return nil, err
		}
		list = append(list, inside...)
	}
	return list, nil
}

// insideHeads returns the mutations of --qk and --vo in one layer.
func (f *setFlags) insideHeads(g *subnet.Geometry, layer int) ([]draft.Mutation, error) {
	groups := g.Layers[layer].KVHeads
	if f.group >= groups {
		return nil, usage(fmt.Errorf("--group %d: layer %d has the KV groups 0 to %d", f.group, layer, groups-1))
	}
	var list []draft.Mutation
	for _, kind := range []struct {
		name, value string
		vo          bool
	}{{"qk", f.qk, false}, {"vo", f.vo, true}} {
		if kind.value == "" {
			continue
		}
		units, err := subnet.ParseSet(g.HeadDim, kind.value)
		if err != nil {
			return nil, usage(fmt.Errorf("--%s: layer %d: %w", kind.name, layer, err))
		}
		for group := range groups {
			if f.group < 0 || f.group == group {
				list = append(list, draft.SetHeadChannels{Layer: layer, Group: group, VO: kind.vo, Set: units})
			}
		}
	}
	return list, nil
}

// modules returns the mutations of the flags that name modules.
func (f *setFlags) modules(on []int) ([]draft.Mutation, error) {
	var list []draft.Mutation
	for _, flag := range []struct {
		name, value string
		mutation    func(draft.Module) draft.Mutation
	}{
		{"drop", f.drop, func(p draft.Module) draft.Mutation { return dropOf(on, p) }},
		{"restore", f.restore, func(p draft.Module) draft.Mutation { return draft.Restore{Layers: on, Module: p} }},
		{"invert", f.invert, func(p draft.Module) draft.Mutation { return draft.Invert{Layers: on, Module: p} }},
		{"equalise", f.equalise, func(p draft.Module) draft.Mutation { return draft.Equalise{Layers: on, Module: p} }},
	} {
		switch p := draft.Module(flag.value); p {
		case "":
		case draft.Attention, draft.MLP, draft.Whole:
			list = append(list, flag.mutation(p))
		default:
			return nil, usage(fmt.Errorf("--%s %q: not attention, mlp or layer", flag.name, flag.value))
		}
	}
	return list, nil
}

func dropOf(layers []int, p draft.Module) draft.Mutation {
	switch p {
	case draft.Attention:
		return draft.DropAttention{Layers: layers}
	case draft.MLP:
		return draft.DropMLP{Layers: layers}
	default: // nothing for the others
	}
	return draft.DropLayer{Layers: layers}
}
