package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/spf13/cobra"

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
		want []draft.Mutation
		kind string // of error
		text string // in the error
	}{
		{"--layers 1 --mlp 0-3", []draft.Mutation{draft.SetChannels{Layer: 1, Set: subnet.Of(16, 0, 1, 2, 3)}}, "", ""},
		{"--layers 0,2 --heads 1 --mlp none", []draft.Mutation{
			draft.SetHeads{Layer: 0, Set: subnet.Of(4, 1)}, draft.SetChannels{Layer: 0, Set: subnet.Empty(16)},
			draft.SetHeads{Layer: 2, Set: subnet.Of(4, 1)}, draft.SetChannels{Layer: 2, Set: subnet.Empty(16)},
		}, "", ""},
		{"--layers all --keep-channels 0 --keep-groups 1", []draft.Mutation{
			draft.KeepTop{Layers: []int{0, 1, 2}, Module: draft.MLP, Count: 0},
			draft.KeepTop{Layers: []int{0, 1, 2}, Module: draft.Attention, Count: 1},
		}, "", ""},
		{"--layers 0 --drop attention", []draft.Mutation{draft.DropAttention{Layers: []int{0}}}, "", ""},
		{"--layers 0 --drop mlp", []draft.Mutation{draft.DropMLP{Layers: []int{0}}}, "", ""},
		{"--layers 0 --drop layer", []draft.Mutation{draft.DropLayer{Layers: []int{0}}}, "", ""},
		{"--layers 1,2 --equalise mlp --invert attention --restore layer --copy-from 0", []draft.Mutation{
			draft.CopyLayer{From: 0, To: []int{1, 2}, Module: draft.Whole}, draft.Restore{Layers: []int{1, 2}, Module: draft.Whole},
			draft.Invert{Layers: []int{1, 2}, Module: draft.Attention}, draft.Equalise{Layers: []int{1, 2}, Module: draft.MLP},
		}, "", ""},
		{"--file " + file, []draft.Mutation{draft.SetMasks{Masks: masks}}, "", ""},
		{"--layers 0 --drop mlp --file " + file, []draft.Mutation{draft.SetMasks{Masks: masks}, draft.DropMLP{Layers: []int{0}}}, "", ""},
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
