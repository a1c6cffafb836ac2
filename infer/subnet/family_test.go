package subnet

import (
	"slices"
	"strings"
	"testing"
)

// TestFamilies is the table of families in words: what each computes with, and what its files can hold.
func TestFamilies(t *testing.T) {
	type row struct {
		network       string // what differs from Llama's
		ragged        string // architecture for layers that differ
		limits        Limits // of a tied model
		runs, classes bool
		localLayers   string // of the first seven: l for a sliding window, f for full attention
		scaleOf46     bool   // a model of 46 layers has a scale of attention scores of its own
	}
	want := map[string]row{
		"llama":   {ragged: "deci", limits: Limits{PerLayer: true, NoAttention: true, InHead: true}, runs: true, classes: true, localLayers: "fffffff"},
		"deci":    {ragged: "deci", limits: Limits{PerLayer: true, NoAttention: true, InHead: true}, runs: true, classes: true, localLayers: "fffffff"},
		"qwen2":   {network: "halves", ragged: "deci", limits: Limits{PerLayer: true, NoAttention: true}, runs: true, classes: true, localLayers: "fffffff"},
		"qwen3":   {network: "qk-norm halves", ragged: "openelm", limits: Limits{PerLayer: true}, runs: true, classes: true, localLayers: "fffffff"},
		"openelm": {network: "qk-norm halves", ragged: "openelm", limits: Limits{PerLayer: true}, runs: true, localLayers: "fffffff"},
		"gemma2": {
			network: "gelu post-norms halves scaled-embedding", limits: Limits{Period: 2}, runs: true, classes: true,
			localLayers: "lflflfl", scaleOf46: true,
		},
		"gemma3": {
			network: "gelu qk-norm post-norms halves scaled-embedding", limits: Limits{Period: 6}, runs: true, classes: true,
			localLayers: "lllllfl",
		},
		"opt": {
			network: "relu ungated layer-norm learned-positions", ragged: "opt", limits: Limits{PerLayer: true, NoAttention: true}, classes: true,
			localLayers: "fffffff",
		},
	}
	if names := Architectures(); len(names) != len(want) {
		t.Errorf("architectures %v", names)
	}
	for arch, want := range want {
		f, ok := FamilyOf(arch)
		if !ok {
			t.Errorf("%s: unknown", arch)
			continue
		}
		local := ""
		for i := range 7 {
			local += map[bool]string{true: "l", false: "f"}[f.Window.Local(i)]
		}
		g := geometry(arch, func(g *Geometry) { g.QKNorm, g.HalfSplit = f.QKNorm, f.HalfSplit })
		got := row{
			network: networkWords(f.Network), ragged: f.Ragged, limits: g.Limits(), runs: f.Runs, classes: f.Classes != nil, localLayers: local,
			scaleOf46: f.AttnScale(46, 64, 4) != 0,
		}
		if got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", arch, got, want)
		}
	}
}

// networkWords lists how a network differs from Llama's.
func networkWords(n Network) string {
	words := ""
	for _, w := range []struct {
		word string
		on   bool
	}{
		{"gelu", n.Activation == GELU}, {"relu", n.Activation == ReLU}, {"ungated", n.Ungated}, {"layer-norm", n.LayerNorm}, {"qk-norm", n.QKNorm},
		{"post-norms", n.PostNorms}, {"halves", n.HalfSplit}, {"learned-positions", n.LearnedPositions}, {"scaled-embedding", n.ScaledEmbedding},
	} {
		if w.on && words != "" {
			words += " "
		}
		if w.on {
			words += w.word
		}
	}
	return words
}

// TestFamilyRules checks what must hold for every row of the table, so that a new one is complete.
func TestFamilyRules(t *testing.T) {
	for _, f := range Families() {
		if f.Activation == "" {
			t.Errorf("%s: no activation", f.Arch)
		}
		if f.Ragged != "" {
			to, ok := FamilyOf(f.Ragged)
			if !ok || !to.PerLayer() || to.Activation != f.Activation || to.Ungated != f.Ungated || to.LayerNorm != f.LayerNorm ||
				to.QKNorm != f.QKNorm || to.PostNorms != f.PostNorms || to.LearnedPositions != f.LearnedPositions || to.ScaledEmbedding != f.ScaledEmbedding {
				t.Errorf("%s: files of %s compute another network", f.Arch, f.Ragged)
			}
		}
		if (f.Classes != nil) != (f.Names != nil) {
			t.Errorf("%s: classes %v, names %v", f.Arch, f.Classes, f.Names)
		}
		if f.Names == nil {
			continue
		}
		var have []string
		for _, name := range f.Names.Model {
			have = append(have, name+".weight")
		}
		for _, name := range f.Names.Layer {
			have = append(have, "blk.0."+name+".weight")
		}
		g := geometry(f.Arch, func(g *Geometry) {
			g.QKNorm, g.Tied = f.QKNorm, false
			if f.LearnedPositions {
				g.Positions = 8
			}
		})
		for _, tensor := range Dense(g).Cut().Tensors(g) {
			if !strings.HasPrefix(tensor.Name, "blk.1") && !strings.HasSuffix(tensor.Name, ".bias") && !slices.Contains(have, tensor.Name) {
				t.Errorf("%s: no module of a folder becomes %s", f.Arch, tensor.Name)
			}
		}
	}
	if f, ok := FamilyOf("unknown"); ok || f.Network != (Network{Activation: SiLU}) || f.Runs {
		t.Errorf("an unknown architecture is %+v", f)
	}
}

func TestWideScale(t *testing.T) {
	for _, c := range []struct {
		arch                  string
		layers, hidden, heads int
		want                  float64
	}{
		{"gemma2", 46, 4608, 32, 1 / 12.0}, {"gemma2", 42, 3584, 16, 0}, {"gemma3", 62, 5376, 32, 1 / 12.961481396815721}, {"llama", 46, 4608, 32, 0},
	} {
		f, _ := FamilyOf(c.arch)
		if got := f.AttnScale(c.layers, c.hidden, c.heads); got < c.want-1e-12 || got > c.want+1e-12 {
			t.Errorf("%s of %d layers: %v, want %v", c.arch, c.layers, got, c.want)
		}
	}
}
