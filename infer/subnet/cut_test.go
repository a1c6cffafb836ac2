package subnet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// geometry returns small's shape under another architecture.
func geometry(arch string, change func(*Geometry)) *Geometry {
	g := small()
	g.Arch = arch
	if change != nil {
		change(g)
	}
	return g
}

func geometries() map[string]*Geometry {
	return map[string]*Geometry{
		"llama":         small(),
		"llama, untied": geometry("llama", func(g *Geometry) { g.Tied = false; g.RopeFreqs = true }),
		"qwen2":         geometry("qwen2", func(g *Geometry) { g.QKVBias, g.HalfSplit = true, true }),
		"qwen3":         geometry("qwen3", func(g *Geometry) { g.QKNorm, g.HalfSplit = true, true }),
		"qwen3, untied": geometry("qwen3", func(g *Geometry) { g.QKNorm, g.HalfSplit, g.Tied = true, true, false }),
		"gemma2":        geometry("gemma2", nil),
		"gemma3":        geometry("gemma3", func(g *Geometry) { g.QKNorm, g.HalfSplit = true, true }),
		"opt":           geometry("opt", func(g *Geometry) { g.QKVBias, g.OutBias, g.Positions = true, true, 50 }),
		"unknown":       geometry("unknown", nil),
		"deci, biased":  geometry("deci", func(g *Geometry) { g.OutBias = true }),
	}
}

// TestCutKeepsTheMasks counts what a cut holds that is not zero-filled: exactly
// the units kept, each once.
func TestCutKeepsTheMasks(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for name, g := range geometries() {
		for range 100 {
			m := randomMasks(rng, g)
			cut := m.Cut()
			seen := 0
			var kept int64
			limits := g.Limits()
			for position, c := range cut.Layers {
				if !limits.sameKind(c.Source, position) && !m.Layer(c.Source).IsDropped() {
					t.Fatalf("%s: layer %d is at position %d", name, c.Source, position)
				}
				if m.Layer(c.Source).IsDropped() && limits.Period > 0 {
					kept += cutParams(t, g, cut, c)
					continue
				}
				for seen < c.Source {
					if !m.Layer(seen).IsDropped() {
						t.Fatalf("%s: layer %d is missing", name, seen)
					}
					seen++
				}
				seen++
				l := m.Layer(c.Source)
				if got := nonZero(c.Heads); !slices.Equal(got, l.Heads.Indices()) {
					t.Fatalf("%s: heads %v, want %v", name, c.Heads, l.Heads)
				}
				if got := nonZero(c.Channels); !slices.Equal(got, l.Channels.Indices()) {
					t.Fatalf("%s: channels %v, want %v", name, c.Channels, l.Channels)
				}
				kept += cutParams(t, g, cut, c)
			}
			if want := m.BlockParams(); kept != want {
				t.Fatalf("%s: the cut keeps %d parameters, the masks %d", name, kept, want)
			}
		}
	}
}

func nonZero(units []int) []int {
	return slices.DeleteFunc(slices.Clone(units), func(u int) bool { return u == Zero })
}

// cutParams counts the matrix elements of a layer that are not zero-filled and
// checks its arithmetic.
func cutParams(t *testing.T, g *Geometry, cut Cut, c CutLayer) int64 {
	t.Helper()
	n := int(g.MLPMatrices()) * len(nonZero(c.Channels))
	if len(c.Heads) == 0 {
		return int64(n * g.Hidden)
	}
	per := len(c.Heads) / len(c.Groups)
	if per*len(c.Groups) != len(c.Heads) {
		t.Fatalf("%d heads in %d groups", len(c.Heads), len(c.Groups))
	}
	for position, group := range c.Groups {
		if len(c.QK[position]) != cut.HeadDim || len(c.VO[position]) != cut.HeadDim {
			t.Fatalf("group of %d and %d channels, heads have %d", len(c.QK[position]), len(c.VO[position]), cut.HeadDim)
		}
		for i, ch := range c.QK[position] {
			if ch != Zero && ch != cut.Pairs[i] {
				t.Fatalf("Q/K channel %d is at the rotary pair %d", ch, cut.Pairs[i])
			}
		}
		heads := nonZero(c.Heads[position*per : (position+1)*per])
		for _, h := range heads {
			if h/g.Layers[c.Source].HeadsPerGroup() != group {
				t.Fatalf("head %d is in KV group %d", h, group)
			}
		}
		if group != Zero {
			n += (len(heads) + 1) * (len(nonZero(c.QK[position])) + len(nonZero(c.VO[position])))
		}
	}
	return int64(n * g.Hidden)
}

func TestCutRules(t *testing.T) {
	in := func(sets ...Set) []Set { return sets }
	none := Layer{Heads: Empty(4), Channels: Empty(64)}
	type layers [2]Layer
	dense := func(change func(l *layers)) layers {
		l := layers{DenseLayer(small().Layers[0]), DenseLayer(small().Layers[0])}
		change(&l)
		return l
	}
	for name, c := range map[string]struct {
		arch     string
		layers   layers
		heads    string // heads of all layers of the file
		groups   string
		channels string // counts
		headDim  int
		zeroed   int64 // rows or columns of the hidden size
	}{
		"dense": {
			"llama", dense(func(*layers) {}),
			"[[0 1 2 3] [0 1 2 3]]", "[[0 1] [0 1]]", "[64 64]", 8, 0,
		},
		"a group": {
			"llama", dense(func(l *layers) { l[1].Heads = Of(4, 2, 3) }),
			"[[0 1 2 3] [2 3]]", "[[0 1] [1]]", "[64 64]", 8, 0,
		},
		"unequal heads": {
			"llama", dense(func(l *layers) { l[1].Heads = Of(4, 0, 2, 3) }),
			"[[0 1 2 3] [0 -1 2 3]]", "[[0 1] [0 1]]", "[64 64]", 8, 16,
		},
		"first layer without attention": {
			"llama", dense(func(l *layers) { l[0].Heads = Empty(4) }),
			"[[-1] [0 1 2 3]]", "[[-1] [0 1]]", "[64 64]", 8, 32,
		},
		"later layer without attention": {
			"llama", dense(func(l *layers) { l[1].Heads = Empty(4) }),
			"[[0 1 2 3] []]", "[[0 1] []]", "[64 64]", 8, 0,
		},
		"later becomes first": {
			"llama", dense(func(l *layers) { l[0] = none; l[1].Heads = Empty(4) }),
			"[[-1]]", "[[-1]]", "[64]", 8, 32,
		},
		"no MLP": {
			"llama", dense(func(l *layers) { l[1].Channels = Empty(64) }),
			"[[0 1 2 3] [0 1 2 3]]", "[[0 1] [0 1]]", "[64 32]", 8, 96,
		},
		"even in-head cut": {
			"llama", dense(func(l *layers) {
				for i := range l {
					l[i].QK = in(Range(8, 0, 4), Range(8, 0, 4))
					l[i].VO = in(Range(8, 2, 6), Range(8, 4, 8))
				}
			}),
			"[[0 1 2 3] [0 1 2 3]]", "[[0 1] [0 1]]", "[64 64]", 4, 0,
		},
		"uneven in-head cut": {
			"llama", dense(func(l *layers) {
				for i := range l {
					l[i].QK = in(Range(8, 0, 4), Range(8, 0, 4))
					l[i].VO = in(Range(8, 2, 6), Range(8, 4, 5))
				}
			}),
			"[[0 1 2 3] [0 1 2 3]]", "[[0 1] [0 1]]", "[64 64]", 4, 2 * 3 * 3,
		},
		"half a rotary pair": {
			"llama", dense(func(l *layers) {
				for i := range l {
					l[i].QK = in(Of(8, 0, 3), Of(8, 0, 3))
					l[i].VO = in(Range(8, 0, 4), Range(8, 0, 4))
				}
			}),
			"[[0 1 2 3] [0 1 2 3]]", "[[0 1] [0 1]]", "[64 64]", 4, 2 * 2 * 3 * 2,
		},
		"qwen2 keeps query heads": {
			"qwen2", dense(func(l *layers) { l[1].Heads = Of(4, 2) }),
			"[[0 1 2 3] [2 -1 -1 -1]]", "[[0 1] [1]]", "[64 64]", 8, 48,
		},
		"qwen3 keeps a head": {
			"qwen3", dense(func(l *layers) { l[1].Heads = Empty(4) }),
			"[[0 1 2 3] [-1]]", "[[0 1] [-1]]", "[64 64]", 8, 32,
		},
		"gemma2 alternates": {
			"gemma2", dense(func(l *layers) { l[0] = none }),
			"[[-1 -1 -1 -1] [0 1 2 3]]", "[[-1 -1] [0 1]]", "[64 64]", 8, 16*6 + 64*3,
		},
		"unknown has equal widths": {
			"unknown", dense(func(l *layers) {
				l[1].Heads = Of(4, 0)
				l[0].Channels = Range(64, 0, 40)
				l[1].Channels = Range(64, 0, 8)
			}),
			"[[0 1 2 3] [0 -1 -1 -1]]", "[[0 1] [0 -1]]", "[40 40]", 8, 16*3 + 16 + 32*3,
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := geometry(c.arch, func(g *Geometry) {
				g.Layers[1] = g.Layers[0]
				g.QKVBias = c.arch == "qwen2"
				g.QKNorm = c.arch == "qwen3"
			})
			m, err := New(g, c.layers[:])
			if err != nil {
				t.Fatal(err)
			}
			cut := m.Cut()
			var heads, groups [][]int
			var channels []int
			for _, l := range cut.Layers {
				heads, groups, channels = append(heads, l.Heads), append(groups, l.Groups), append(channels, len(l.Channels))
			}
			if got := fmt.Sprint(heads); got != c.heads {
				t.Errorf("heads %s, want %s", got, c.heads)
			}
			if got := fmt.Sprint(groups); got != c.groups {
				t.Errorf("groups %s, want %s", got, c.groups)
			}
			if got := fmt.Sprint(channels); got != c.channels {
				t.Errorf("channels %s, want %s", got, c.channels)
			}
			if cut.HeadDim != c.headDim {
				t.Errorf("head size %d, want %d", cut.HeadDim, c.headDim)
			}
			if got := m.Size().ZeroedParams; got != c.zeroed*int64(g.Hidden) {
				t.Errorf("%d zeroed parameters, want %d", got, c.zeroed*int64(g.Hidden))
			}
		})
	}
}

// TestCutBiases: biases of Q, K and V go with the attention, output biases of
// dropped first layers need a layer that carries them.
func TestCutBiases(t *testing.T) {
	biases := func(m Masks, layer string) int {
		n := 0
		for _, tensor := range m.Cut().Tensors(m.Geometry()) {
			if strings.HasPrefix(tensor.Name, layer) && strings.HasSuffix(tensor.Name, ".bias") {
				n++
			}
		}
		return n
	}
	qwen := Dense(geometries()["qwen2"])
	bare := qwen.With(0, Layer{Heads: Empty(4), Channels: Full(64)})
	if dense, got := biases(qwen, "blk.0."), biases(bare, "blk.0."); dense != 3 || got != 0 {
		t.Errorf("%d biases with attention, %d without", dense, got)
	}
	biased := Dense(geometries()["deci, biased"])
	cut := biased.With(0, Layer{Heads: Empty(4), Channels: Empty(64)}).Cut()
	if len(cut.Layers) != 2 || cut.Layers[0].Source != 0 || len(nonZero(cut.Layers[0].Channels)) != 0 || cut.Layers[1].Source != 1 {
		t.Errorf("dropping a biased first layer gives %+v", cut.Layers)
	}
}
