package subnet

import (
	"slices"
	"strconv"
	"strings"
)

// Tensor is one tensor of a file, under llama.cpp's name.
type Tensor struct {
	Name       string
	Rows, Cols int // Rows is 1 for a vector
	Vector     bool
	Optional   bool // files of the family may lack it
}

// Dims returns [rows, columns] of a matrix and the length of a vector.
func (t Tensor) Dims() []int {
	if t.Vector {
		return []int{t.Cols}
	}
	return []int{t.Rows, t.Cols}
}

// IsOutBias reports whether the tensor is the bias of W_O or W_D.
func (t Tensor) IsOutBias() bool {
	return strings.HasSuffix(t.Name, "attn_output.bias") || strings.HasSuffix(t.Name, "ffn_down.bias")
}

// IsQKVBias reports whether the tensor is the bias of W_Q, W_K or W_V.
func (t Tensor) IsQKVBias() bool {
	return strings.HasSuffix(t.Name, ".bias") && strings.Contains(t.Name, ".attn_") && !t.IsOutBias() && t.Optional
}

// Bytes returns the bytes of the tensor when matrices are stored as typ, see [Type.Fit]. Vectors are stored as F32.
func (t Tensor) Bytes(typ Type) int64 {
	if t.Vector {
		typ = F32
	}
	row, _ := typ.Fit(t.Cols).RowSize(t.Cols)
	return row * int64(t.Rows)
}

// ModelTensors returns the tensors outside the layers. positions is the number of learned positions.
func (f *Family) ModelTensors(vocab, hidden, headDim, positions int) []Tensor {
	l := tensorList{layerNorm: f.LayerNorm}
	l.matrix("token_embd.weight", vocab, hidden)
	if f.LearnedPositions {
		l.matrix("position_embd.weight", positions, hidden)
	}
	l.norm("output_norm", hidden)
	l.optional(Tensor{Name: "output.weight", Rows: vocab, Cols: hidden})
	if !f.LearnedPositions {
		l.optional(Tensor{Name: ropeFreqs, Rows: 1, Cols: headDim / 2, Vector: true})
	}
	return l.list
}

const ropeFreqs = "rope_freqs.weight"

// LayerTensors returns the tensors of layer i of these counts. W_Q, W_K and W_V are listed apart, also where they are fused.
func (f *Family) LayerTensors(i, hidden, headDim int, g LayerGeometry) []Tensor {
	l := tensorList{prefix: "blk." + strconv.Itoa(i) + ".", layerNorm: f.LayerNorm}
	if q, kv := g.Heads*headDim, g.KVHeads*headDim; q > 0 {
		l.norm("attn_norm", hidden)
		l.matrix("attn_q.weight", q, hidden)
		l.matrix("attn_k.weight", kv, hidden)
		l.matrix("attn_v.weight", kv, hidden)
		l.matrix("attn_output.weight", hidden, q)
		l.bias("attn_q.bias", q)
		l.bias("attn_k.bias", kv)
		l.bias("attn_v.bias", kv)
		l.bias("attn_output.bias", hidden)
		if f.QKNorm {
			l.vector("attn_q_norm.weight", headDim)
			l.vector("attn_k_norm.weight", headDim)
		}
		if f.PostNorms {
			l.vector("post_attention_norm.weight", hidden)
		}
	}
	if g.FFN > 0 {
		l.norm("ffn_norm", hidden)
		if f.Ungated {
			l.vector("ffn_up.bias", g.FFN)
		} else {
			l.matrix("ffn_gate.weight", g.FFN, hidden)
		}
		l.matrix("ffn_up.weight", g.FFN, hidden)
		l.matrix("ffn_down.weight", hidden, g.FFN)
		l.bias("ffn_down.bias", hidden)
		if f.PostNorms {
			l.vector("post_ffw_norm.weight", hidden)
		}
	}
	return l.list
}

// tensorList collects the tensors of a layer.
type tensorList struct {
	prefix    string
	layerNorm bool
	list      []Tensor
}

func (l *tensorList) matrix(name string, rows, cols int) {
	l.list = append(l.list, Tensor{Name: l.prefix + name, Rows: rows, Cols: cols})
}

func (l *tensorList) vector(name string, n int) {
	l.list = append(l.list, Tensor{Name: l.prefix + name, Rows: 1, Cols: n, Vector: true})
}

// bias adds the bias of a matrix, which no family needs.
func (l *tensorList) bias(name string, n int) {
	l.optional(Tensor{Name: l.prefix + name, Rows: 1, Cols: n, Vector: true})
}

func (l *tensorList) optional(t Tensor) {
	t.Optional = true
	l.list = append(l.list, t)
}

// norm adds the gains of a norm on the residual stream, and its biases.
func (l *tensorList) norm(name string, n int) {
	l.vector(name+".weight", n)
	if l.layerNorm {
		l.vector(name+".bias", n)
	}
}

// Tensors returns the tensors of a file of that shape, those of the model first.
func (cut Cut) Tensors(g *Geometry) []Tensor {
	f := g.family()
	ts := slices.DeleteFunc(f.ModelTensors(cut.Vocab, g.Hidden, cut.HeadDim, g.Positions), func(t Tensor) bool {
		if t.Name == ropeFreqs {
			return !g.RopeFreqs && cut.HeadDim == g.HeadDim
		}
		return t.Optional && g.Tied
	})
	for i, l := range cut.Layers {
		kept := slices.ContainsFunc(l.Groups, func(group int) bool { return group != Zero })
		for _, t := range f.LayerTensors(i, g.Hidden, cut.HeadDim, LayerGeometry{len(l.Heads), len(l.Groups), len(l.Channels)}) {
			switch {
			case !t.Optional, t.IsOutBias() && g.OutBias, t.IsQKVBias() && g.QKVBias && kept:
				ts = append(ts, t)
			}
		}
	}
	return ts
}
