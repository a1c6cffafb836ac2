package explorer_test

import (
	"errors"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// tiny is a model of 3 layers, 4 heads in 2 KV groups, 64 MLP channels.
func tiny() *subnet.Geometry {
	l := subnet.LayerGeometry{Heads: 4, KVHeads: 2, FFN: 64}
	return &subnet.Geometry{Arch: "llama", Hidden: 32, Vocab: 100, HeadDim: 8, Layers: []subnet.LayerGeometry{l, l, l}}
}

// rising says that units are the more important the higher their number is.
func rising(g *subnet.Geometry) explorer.Statistics {
	s := explorer.Statistics{Ready: true}
	for _, l := range g.Layers {
		scores := func(n int) []float64 {
			out := make([]float64, n)
			for i := range out {
				out[i] = float64(i)
			}
			return out
		}
		s.Importance = append(s.Importance, explorer.LayerImportance{Channels: scores(l.FFN), Heads: scores(l.Heads)})
	}
	return s
}

func TestApply(t *testing.T) {
	none := subnet.Empty(64)
	for _, c := range []struct {
		name      string
		mutations []explorer.Mutation
		want      string // the layers that differ from dense
	}{
		{"channels", []explorer.Mutation{explorer.SetChannels{Layer: 1, Set: subnet.Range(64, 0, 32)}},
			"layer 1 heads=all/4 groups=2 mlp=0-31/64\n"},
		{"heads", []explorer.Mutation{explorer.SetHeads{Layer: 0, Set: subnet.Of(4, 2, 3)}},
			"layer 0 heads=2-3/4 groups=2 mlp=all/64\n"},
		{"channels in a head", []explorer.Mutation{explorer.SetHeadChannels{Layer: 2, Group: 1, VO: true, Set: subnet.Range(8, 0, 4)}},
			"layer 2 heads=all/4 groups=2 mlp=all/64 vo=all;0-3\n"},
		{"drop attention", []explorer.Mutation{explorer.DropAttention{Layers: []int{0, 2}}},
			"layer 0 heads=none/4 groups=2 mlp=all/64\nlayer 2 heads=none/4 groups=2 mlp=all/64\n"},
		{"drop mlp", []explorer.Mutation{explorer.DropMLP{Layers: []int{1}}}, "layer 1 heads=all/4 groups=2 mlp=none/64\n"},
		{"drop layer", []explorer.Mutation{explorer.DropLayer{Layers: []int{1}}}, "layer 1 heads=none/4 groups=2 mlp=none/64\n"},
		{"drop and restore", []explorer.Mutation{explorer.DropLayer{Layers: []int{1}}, explorer.Restore{Layers: []int{1}, Part: explorer.Whole}}, ""},
		{"restore a part", []explorer.Mutation{explorer.DropLayer{Layers: []int{1}}, explorer.Restore{Layers: []int{1}, Part: explorer.MLP}},
			"layer 1 heads=none/4 groups=2 mlp=all/64\n"},
		{"copy", []explorer.Mutation{explorer.DropMLP{Layers: []int{0}}, explorer.CopyLayer{From: 0, To: []int{2}, Part: explorer.Whole}},
			"layer 0 heads=all/4 groups=2 mlp=none/64\nlayer 2 heads=all/4 groups=2 mlp=none/64\n"},
		{"keep top channels", []explorer.Mutation{explorer.KeepTop{Layers: []int{0}, Part: explorer.MLP, Count: 16}},
			"layer 0 heads=all/4 groups=2 mlp=48-63/64\n"},
		{"keep top groups", []explorer.Mutation{explorer.KeepTop{Layers: []int{0}, Part: explorer.Attention, Count: 1}},
			"layer 0 heads=2-3/4 groups=2 mlp=all/64\n"},
		{"equalise", []explorer.Mutation{explorer.SetChannels{Layer: 0, Set: none}, explorer.Equalise{Layers: []int{0, 1}, Part: explorer.MLP}},
			"layer 0 heads=all/4 groups=2 mlp=32-63/64\nlayer 1 heads=all/4 groups=2 mlp=32-63/64\n"},
		{"invert", []explorer.Mutation{explorer.SetChannels{Layer: 0, Set: subnet.Range(64, 0, 60)}, explorer.Invert{Layers: []int{0}, Part: explorer.MLP}},
			"layer 0 heads=all/4 groups=2 mlp=60-63/64\n"},
		{"all at once", []explorer.Mutation{explorer.DropMLP{Layers: []int{0}}, explorer.SetMasks{Masks: subnet.Dense(tiny())}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := tiny()
			dense := subnet.Dense(g)
			got, err := explorer.Apply(dense, rising(g), c.mutations...)
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
	for name, m := range map[string]explorer.Mutation{
		"layer":             explorer.DropMLP{Layers: []int{3}},
		"negative layer":    explorer.KeepTop{Layers: []int{-1}, Part: explorer.MLP},
		"set size":          explorer.SetChannels{Layer: 0, Set: subnet.Full(63)},
		"heads size":        explorer.SetHeads{Layer: 0, Set: subnet.Full(5)},
		"group":             explorer.SetHeadChannels{Layer: 0, Group: 2, Set: subnet.Full(8)},
		"in-head size":      explorer.SetHeadChannels{Layer: 0, Group: 0, Set: subnet.Full(9)},
		"part":              explorer.Invert{Layers: []int{0}, Part: "tail"},
		"too many":          explorer.KeepTop{Layers: []int{0}, Part: explorer.MLP, Count: 65},
		"copy from nowhere": explorer.CopyLayer{From: 9, To: []int{0}, Part: explorer.MLP},
		"everything":        explorer.DropLayer{Layers: []int{0, 1, 2}},
		"another model":     explorer.SetMasks{Masks: subnet.Dense(&subnet.Geometry{Arch: "x", Hidden: 1, Vocab: 1, HeadDim: 2, Layers: g.Layers})},
		"nothing":           nil,
	} {
		if _, err := explorer.Apply(subnet.Dense(g), rising(g), m); !errors.Is(err, explorer.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	_, err := explorer.Apply(subnet.Dense(g), explorer.Statistics{}, explorer.KeepTop{Layers: []int{0}, Part: explorer.MLP, Count: 1})
	if !errors.Is(err, explorer.ErrNoStatistics) {
		t.Errorf("without statistics: %v", err)
	}
}

func TestRankIsStable(t *testing.T) {
	got := explorer.Rank([]float64{1, 3, 3, 2})
	for i, want := range []int{1, 2, 3, 0} {
		if got[i] != want {
			t.Fatalf("rank %v", got)
		}
	}
}
