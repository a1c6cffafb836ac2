package gguf_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// cutCase is a choice of units of a model with the counts of [gguftest.Tiny]. Together they meet every rule of the format.
type cutCase struct {
	name  string
	masks func(m subnet.Masks) subnet.Masks
}

// set returns masks with the layer changed.
func set(m subnet.Masks, layer int, change func(l *subnet.Layer)) subnet.Masks {
	l := m.Layer(layer)
	change(&l)
	return m.With(layer, l)
}

func dropAttention(m subnet.Masks, layer int) subnet.Masks {
	return set(m, layer, func(l *subnet.Layer) { l.Heads = subnet.Empty(l.Heads.N()); l.QK, l.VO = nil, nil })
}

func dropMLP(m subnet.Masks, layer int) subnet.Masks {
	return set(m, layer, func(l *subnet.Layer) { l.Channels = subnet.Empty(l.Channels.N()) })
}

func dropLayer(m subnet.Masks, layer int) subnet.Masks {
	return dropMLP(dropAttention(m, layer), layer)
}

func keepHeads(m subnet.Masks, layer int, heads ...int) subnet.Masks {
	return set(m, layer, func(l *subnet.Layer) { l.Heads = subnet.Of(l.Heads.N(), heads...) })
}

func everySecondChannel(m subnet.Masks, layer, from int) subnet.Masks {
	return set(m, layer, func(l *subnet.Layer) {
		for c := from; c < l.Channels.N(); c += 2 {
			l.Channels = l.Channels.Without(c)
		}
	})
}

func cutCases() []cutCase {
	return []cutCase{
		{name: "nothing", masks: func(m subnet.Masks) subnet.Masks { return m }},
		{name: "channels", masks: func(m subnet.Masks) subnet.Masks {
			m = everySecondChannel(m, 0, 1)
			return set(m, 2, func(l *subnet.Layer) { l.Channels = subnet.Range(l.Channels.N(), 0, 32) })
		}},
		{name: "group", masks: func(m subnet.Masks) subnet.Masks { return keepHeads(m, 1, 2, 3) }},
		{name: "heads of every group", masks: func(m subnet.Masks) subnet.Masks { return keepHeads(m, 1, 1, 2) }},
		{name: "unequal heads", masks: func(m subnet.Masks) subnet.Masks { return keepHeads(m, 0, 0, 2, 3) }},
		{name: "first layer", masks: func(m subnet.Masks) subnet.Masks { return dropLayer(m, 0) }},
		{name: "middle layer", masks: func(m subnet.Masks) subnet.Masks { return dropLayer(m, 1) }},
		{name: "last layer", masks: func(m subnet.Masks) subnet.Masks { return dropLayer(m, 2) }},
		{name: "attention of the first layer", masks: func(m subnet.Masks) subnet.Masks { return dropAttention(m, 0) }},
		{name: "attention of the middle layer", masks: func(m subnet.Masks) subnet.Masks { return dropAttention(m, 1) }},
		{name: "attention of the last layer", masks: func(m subnet.Masks) subnet.Masks { return dropAttention(m, 2) }},
		{name: "first layer and attention of the next", masks: func(m subnet.Masks) subnet.Masks {
			return dropAttention(dropLayer(m, 0), 1)
		}},
		{name: "MLP of the first layer", masks: func(m subnet.Masks) subnet.Masks { return dropMLP(m, 0) }},
		{name: "MLP of the last layer", masks: func(m subnet.Masks) subnet.Masks { return dropMLP(m, 2) }},
		{name: "V/O channels", masks: func(m subnet.Masks) subnet.Masks {
			return inHead(m, func(layer, group int) (qk, vo subnet.Set) {
				return subnet.Full(16), subnet.Of(16, layer, 3+group, 5, 8, 9, 12)
			})
		}},
		{name: "pairs", masks: func(m subnet.Masks) subnet.Masks {
			return inHead(m, func(layer, group int) (qk, vo subnet.Set) {
				return subnet.Of(16, 0, 1, 4, 5, 6, 7, 10, 11), subnet.Of(16, layer, 3+group, 5, 8, 9, 12)
			})
		}},
		{name: "pairs that differ", masks: func(m subnet.Masks) subnet.Masks {
			return inHead(m, func(layer, group int) (qk, vo subnet.Set) {
				return subnet.Of(16, 2*group, 2*group+1, 6, 7, 8, 9), subnet.Range(16, 0, 9)
			})
		}},
		{name: "halves of pairs", masks: func(m subnet.Masks) subnet.Masks {
			return inHead(m, func(layer, group int) (qk, vo subnet.Set) {
				return subnet.Of(16, 1, 3, 4, 7), subnet.Range(16, 0, 5)
			})
		}},
		{name: "everything at once", masks: func(m subnet.Masks) subnet.Masks {
			return everySecondChannel(keepHeads(dropMLP(dropAttention(m, 0), 1), 2, 1), 2, 0)
		}},
	}
}

func inHead(m subnet.Masks, sets func(layer, group int) (qk, vo subnet.Set)) subnet.Masks {
	for i, lg := range m.Geometry().Layers {
		m = set(m, i, func(l *subnet.Layer) {
			for group := range lg.KVHeads {
				qk, vo := sets(i, group)
				l.QK, l.VO = append(l.QK, qk), append(l.VO, vo)
			}
		})
	}
	return m
}

// geometryOf returns the geometry of an open file.
func geometryOf(t *testing.T, f *gguf.File) *subnet.Geometry {
	t.Helper()
	c, err := f.Config()
	if err != nil {
		t.Fatal(err)
	}
	g := c.Geometry()
	return &g
}

// randomRefit re-fits every layer with random biases, and with matrices that are the original columns, stretched.
func randomRefit(t *testing.T, f *gguf.File, m subnet.Masks, biases bool) []gguf.Refit {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 3))
	refit := make([]gguf.Refit, m.Layers())
	for i := range refit {
		refit[i].WO = stretched(t, f, i, "attn_output.weight", m.OColumns(i))
		refit[i].WD = stretched(t, f, i, "ffn_down.weight", m.Layer(i).Channels.Indices())
		if channels := m.Layer(i).Channels.Indices(); i%2 == 0 && len(channels) > 0 {
			up, dims, err := f.Float32(layerTensor(i, "ffn_up.weight"))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range channels {
				for _, v := range up[c*dims[1] : (c+1)*dims[1]] {
					refit[i].WU = append(refit[i].WU, 1.5*v)
				}
			}
		}
		if i%2 == 1 {
			for name, to := range map[string]*[]float32{"attn_norm.weight": &refit[i].GA, "ffn_norm.weight": &refit[i].GM} {
				if gains, _, err := f.Float32(layerTensor(i, name)); err == nil { // a layer may lack a block
					for _, v := range gains {
						*to = append(*to, 1.5*v)
					}
				}
			}
		}
		if biases {
			refit[i].BO, refit[i].BD = make([]float32, m.Geometry().Hidden), make([]float32, m.Geometry().Hidden)
			for j := range refit[i].BO {
				refit[i].BO[j], refit[i].BD[j] = float32(0.2*rng.NormFloat64()), float32(0.2*rng.NormFloat64())
			}
		}
	}
	return refit
}

// uneven reports whether the counts of a family are not those that the cases are made for.
func uneven(family gguftest.Named) bool {
	return slices.Contains([]string{"deci", "openelm", "opt uneven"}, family.Name)
}

// holdsBiases reports whether files of subnets of a family may have output biases.
func holdsBiases(family gguftest.Named) bool {
	return !slices.Contains([]string{"openelm", "qwen3", "gemma2", "gemma3"}, family.Model.Arch)
}

func stretched(t *testing.T, f *gguf.File, layer int, name string, columns []int) []float32 {
	t.Helper()
	if len(columns) == 0 {
		return nil
	}
	w, dims, err := f.Float32(layerTensor(layer, name))
	if err != nil {
		t.Fatal(err)
	}
	var out []float32
	for r := range dims[0] {
		for _, c := range columns {
			out = append(out, 1.5*w[r*dims[1]+c])
		}
	}
	return out
}

func layerTensor(layer int, rest string) string { return fmt.Sprintf("blk.%d.%s", layer, rest) }
