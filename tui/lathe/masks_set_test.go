package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
)

func TestSetFlagsMutations(t *testing.T) {
	layer := subnet.LayerGeometry{Heads: 4, KVHeads: 2, FFN: 16}
	g := &subnet.Geometry{Hidden: 8, HeadDim: 2, Vocab: 10, Layers: []subnet.LayerGeometry{layer, layer, layer}}
	masks := subnet.Dense(g)
	text, err := masks.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	file, junk := filepath.Join(t.TempDir(), "masks"), filepath.Join(t.TempDir(), "junk")
	for path, content := range map[string]string{file: string(text), junk: "junk"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const invalid, unusable = "invalid usage", "unusable input"
	for _, test := range []struct {
		args string
		want []explorer.Mutation
		kind string // of error
		text string // in the error
	}{
		{"--layers 1 --mlp 0-3", []explorer.Mutation{explorer.SetChannels{Layer: 1, Set: subnet.Of(16, 0, 1, 2, 3)}}, "", ""},
		{"--layers 0,2 --heads 1 --mlp none", []explorer.Mutation{
			explorer.SetHeads{Layer: 0, Set: subnet.Of(4, 1)}, explorer.SetChannels{Layer: 0, Set: subnet.Empty(16)},
			explorer.SetHeads{Layer: 2, Set: subnet.Of(4, 1)}, explorer.SetChannels{Layer: 2, Set: subnet.Empty(16)},
		}, "", ""},
		{"--layers all --keep-channels 0 --keep-groups 1", []explorer.Mutation{
			explorer.KeepTop{Layers: []int{0, 1, 2}, Part: explorer.MLP, Count: 0},
			explorer.KeepTop{Layers: []int{0, 1, 2}, Part: explorer.Attention, Count: 1},
		}, "", ""},
		{"--layers 0 --drop attention", []explorer.Mutation{explorer.DropAttention{Layers: []int{0}}}, "", ""},
		{"--layers 0 --drop mlp", []explorer.Mutation{explorer.DropMLP{Layers: []int{0}}}, "", ""},
		{"--layers 0 --drop layer", []explorer.Mutation{explorer.DropLayer{Layers: []int{0}}}, "", ""},
		{"--layers 1,2 --equalise mlp --invert attention --restore layer --copy-from 0", []explorer.Mutation{
			explorer.CopyLayer{From: 0, To: []int{1, 2}, Part: explorer.Whole}, explorer.Restore{Layers: []int{1, 2}, Part: explorer.Whole},
			explorer.Invert{Layers: []int{1, 2}, Part: explorer.Attention}, explorer.Equalise{Layers: []int{1, 2}, Part: explorer.MLP},
		}, "", ""},
		{"--file " + file, []explorer.Mutation{explorer.SetMasks{Masks: masks}}, "", ""},
		{"--layers 0 --drop mlp --file " + file, []explorer.Mutation{explorer.SetMasks{Masks: masks}, explorer.DropMLP{Layers: []int{0}}}, "", ""},
		{"", nil, invalid, "nothing to set"},
		{"--layers 0", nil, invalid, "nothing to set"},
		{"--drop mlp", nil, invalid, "--layers is missing"},
		{"--drop mlp --file " + file, nil, invalid, "--layers is missing"},
		{"--layers 3 --drop mlp", nil, invalid, "--layers: "},
		{"--layers 1 --heads 4", nil, invalid, "--heads: layer 1: "},
		{"--layers 1 --mlp 16", nil, invalid, "--mlp: layer 1: "},
		{"--layers 1 --invert heads", nil, invalid, `--invert "heads": not attention, mlp or layer`},
		{"--file " + junk, nil, unusable, junk + ": "},
		{"--file " + junk + ".none", nil, unusable, "no such file"},
	} {
		var f setFlags
		cmd := &cobra.Command{}
		f.add(cmd)
		if err := cmd.ParseFlags(strings.Fields(test.args)); err != nil {
			t.Fatal(err)
		}
		got, err := f.mutations(g)
		kind := ""
		switch {
		case errors.Is(err, errUsage):
			kind = invalid
		case errors.Is(err, errInput):
			kind = unusable
		case err != nil:
			kind = "other"
		}
		if kind != test.kind || err != nil && !strings.Contains(err.Error(), test.text) || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v", test.args, got, err)
		}
	}
}
