package draft_test

import (
	"errors"
	"testing"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// tiny is a model of 3 layers, 4 heads in 2 KV groups, 64 MLP channels.
func tiny() *subnet.Geometry {
	l := subnet.LayerGeometry{Heads: 4, KVHeads: 2, FFN: 64}
	return &subnet.Geometry{Arch: "llama", Hidden: 32, Vocab: 100, HeadDim: 8, Layers: []subnet.LayerGeometry{l, l, l}}
}

// rising scores units by their number.
func rising(g *subnet.Geometry) []draft.Importance {
	var out []draft.Importance
	for _, l := range g.Layers {
		scores := func(n int) []float64 {
			scores := make([]float64, n)
			for i := range scores {
				scores[i] = float64(i)
			}
			return scores
		}
		out = append(out, draft.Importance{Channels: scores(l.FFN), Heads: scores(l.Heads)})
	}
	return out
}

func TestApply(t *testing.T) {
	none := subnet.Empty(64)
	for _, c := range []struct {
		name      string
		mutations []draft.Mutation
		want      string // the layers that differ from dense
	}{
		{"channels", []draft.Mutation{draft.SetChannels{Layer: 1, Set: subnet.Range(64, 0, 32)}},
			"layer 1 heads=all/4 groups=2 mlp=0-31/64\n"},
		{"heads", []draft.Mutation{draft.SetHeads{Layer: 0, Set: subnet.Of(4, 2, 3)}},
			"layer 0 heads=2-3/4 groups=2 mlp=all/64\n"},
		{"channels in a head", []draft.Mutation{draft.SetHeadChannels{Layer: 2, Group: 1, VO: true, Set: subnet.Range(8, 0, 4)}},
			"layer 2 heads=all/4 groups=2 mlp=all/64 vo=all;0-3\n"},
		{"drop attention", []draft.Mutation{draft.DropAttention{Layers: []int{0, 2}}},
			"layer 0 heads=none/4 groups=2 mlp=all/64\nlayer 2 heads=none/4 groups=2 mlp=all/64\n"},
		{"drop mlp", []draft.Mutation{draft.DropMLP{Layers: []int{1}}}, "layer 1 heads=all/4 groups=2 mlp=none/64\n"},
		{"drop layer", []draft.Mutation{draft.DropLayer{Layers: []int{1}}}, "layer 1 heads=none/4 groups=2 mlp=none/64\n"},
		{"drop and restore", []draft.Mutation{draft.DropLayer{Layers: []int{1}}, draft.Restore{Layers: []int{1}, Module: draft.Whole}}, ""},
		{"restore a part", []draft.Mutation{draft.DropLayer{Layers: []int{1}}, draft.Restore{Layers: []int{1}, Module: draft.MLP}},
			"layer 1 heads=none/4 groups=2 mlp=all/64\n"},
		{"copy", []draft.Mutation{draft.DropMLP{Layers: []int{0}}, draft.CopyLayer{From: 0, To: []int{2}, Module: draft.Whole}},
			"layer 0 heads=all/4 groups=2 mlp=none/64\nlayer 2 heads=all/4 groups=2 mlp=none/64\n"},
		{"keep top channels", []draft.Mutation{draft.KeepTop{Layers: []int{0}, Module: draft.MLP, Count: 16}},
			"layer 0 heads=all/4 groups=2 mlp=48-63/64\n"},
		{"keep top groups", []draft.Mutation{draft.KeepTop{Layers: []int{0}, Module: draft.Attention, Count: 1}},
			"layer 0 heads=2-3/4 groups=2 mlp=all/64\n"},
		{"equalise", []draft.Mutation{draft.SetChannels{Layer: 0, Set: none}, draft.Equalise{Layers: []int{0, 1}, Module: draft.MLP}},
			"layer 0 heads=all/4 groups=2 mlp=32-63/64\nlayer 1 heads=all/4 groups=2 mlp=32-63/64\n"},
		{"invert", []draft.Mutation{draft.SetChannels{Layer: 0, Set: subnet.Range(64, 0, 60)}, draft.Invert{Layers: []int{0}, Module: draft.MLP}},
			"layer 0 heads=all/4 groups=2 mlp=60-63/64\n"},
		{"all at once", []draft.Mutation{draft.DropMLP{Layers: []int{0}}, draft.SetMasks{Masks: subnet.Dense(tiny())}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := tiny()
			dense := subnet.Dense(g)
			got, err := draft.Apply(dense, rising(g), c.mutations...)
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			for i := range got.Layers() {
				if line := got.LayerText(i); line != dense.LayerText(i) {
					text += line + "\n"
				}
			}
			if text != c.want {
				t.Errorf("got\n%swant\n%s", text, c.want)
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	g := tiny()
	for name, m := range map[string]draft.Mutation{
		"layer":             draft.DropMLP{Layers: []int{3}},
		"negative layer":    draft.KeepTop{Layers: []int{-1}, Module: draft.MLP},
		"set size":          draft.SetChannels{Layer: 0, Set: subnet.Full(63)},
		"heads size":        draft.SetHeads{Layer: 0, Set: subnet.Full(5)},
		"group":             draft.SetHeadChannels{Layer: 0, Group: 2, Set: subnet.Full(8)},
		"in-head size":      draft.SetHeadChannels{Layer: 0, Group: 0, Set: subnet.Full(9)},
		"part":              draft.Invert{Layers: []int{0}, Module: "tail"},
		"too many":          draft.KeepTop{Layers: []int{0}, Module: draft.MLP, Count: 65},
		"copy from nowhere": draft.CopyLayer{From: 9, To: []int{0}, Module: draft.MLP},
		"everything":        draft.DropLayer{Layers: []int{0, 1, 2}},
		"another model":     draft.SetMasks{Masks: subnet.Dense(&subnet.Geometry{Arch: "x", Hidden: 1, Vocab: 1, HeadDim: 2, Layers: g.Layers})},
		"nothing":           nil,
	} {
		if _, err := draft.Apply(subnet.Dense(g), rising(g), m); !errors.Is(err, explorer.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	_, err := draft.Apply(subnet.Dense(g), nil, draft.KeepTop{Layers: []int{0}, Module: draft.MLP, Count: 1})
	if !errors.Is(err, explorer.ErrNoStatistics) {
		t.Errorf("without statistics: %v", err)
	}
}

func TestRankIsStable(t *testing.T) {
	got := draft.Rank([]float64{1, 3, 3, 2})
	for i, want := range []int{1, 2, 3, 0} {
		if got[i] != want {
			t.Fatalf("rank %v", got)
		}
	}
}
