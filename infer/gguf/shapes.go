package gguf

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// expect is a tensor that a model has, with its extents; an optional one may be absent.
type expect struct {
	name     string
	dims     []int
	optional bool
}

// layerName returns the name of a tensor of one layer.
func layerName(layer int, rest string) string {
	return fmt.Sprintf("blk.%d.%s", layer, rest)
}

// expected lists the tensors of a model of these counts, in the order in which they are written. Biases of matrices are optional.
func expected(c *Config) []expect {
	list := []expect{
		{name: "token_embd.weight", dims: []int{c.Vocab, c.Hidden}},
		{name: "output_norm.weight", dims: []int{c.Hidden}},
		{name: "output.weight", dims: []int{c.Vocab, c.Hidden}, optional: true},
	}
	if c.LearnedPositions {
		list = append(list, expect{name: "position_embd.weight", dims: []int{c.Positions, c.Hidden}})
	} else {
		list = append(list, expect{name: "rope_freqs.weight", dims: []int{c.HeadDim / 2}, optional: true})
	}
	if c.LayerNorm {
		list = append(list, expect{name: "output_norm.bias", dims: []int{c.Hidden}})
	}
	for i, l := range c.Layers {
		list = append(list, expectedLayer(c, i, l)...)
	}
	return list
}

func expectedLayer(c *Config, i int, l subnet.LayerGeometry) []expect {
	var list []expect
	add := func(rest string, optional bool, dims ...int) {
		list = append(list, expect{layerName(i, rest), dims, optional})
	}
	q, kv := l.Heads*c.HeadDim, l.KVHeads*c.HeadDim
	if l.Heads > 0 {
		add("attn_norm.weight", false, c.Hidden)
		if c.LayerNorm {
			add("attn_norm.bias", false, c.Hidden)
		}
		add("attn_q.weight", false, q, c.Hidden)
		add("attn_k.weight", false, kv, c.Hidden)
		add("attn_v.weight", false, kv, c.Hidden)
		add("attn_output.weight", false, c.Hidden, q)
		add("attn_q.bias", true, q)
		add("attn_k.bias", true, kv)
		add("attn_v.bias", true, kv)
		add("attn_output.bias", true, c.Hidden)
		if c.QKNorm {
			add("attn_q_norm.weight", false, c.HeadDim)
			add("attn_k_norm.weight", false, c.HeadDim)
		}
		if c.PostNorms {
			add("post_attention_norm.weight", false, c.Hidden)
		}
	}
	if l.FFN > 0 {
		add("ffn_norm.weight", false, c.Hidden)
		if c.LayerNorm {
			add("ffn_norm.bias", false, c.Hidden)
		}
		if !c.Ungated {
			add("ffn_gate.weight", false, l.FFN, c.Hidden)
		}
		add("ffn_up.weight", false, l.FFN, c.Hidden)
		if c.Ungated {
			add("ffn_up.bias", false, l.FFN)
		}
		add("ffn_down.weight", false, c.Hidden, l.FFN)
		add("ffn_down.bias", true, c.Hidden)
		if c.PostNorms {
			add("post_ffw_norm.weight", false, c.Hidden)
		}
	}
	return list
}

// checkShapes takes from the tensors what the metadata does not say and checks that each has the extents it must have and that there is none that
// the network does not know, for its part would be lost.
func (f *File) checkShapes(c *Config) error {
	embd, ok := f.Tensor("token_embd.weight")
	if !ok {
		return fmt.Errorf("tensor %q: %w", "token_embd.weight", ErrMissing)
	}
	c.Vocab = embd.Dims[0]
	c.Tied = !f.Has("output.weight")

	known := make(map[string]bool, len(f.byName))
	for _, e := range expected(c) {
		t, ok := f.Tensor(e.name)
		if !ok {
			if !e.optional {
				return fmt.Errorf("tensor %q: %w", e.name, ErrMissing)
			}
			continue
		}
		known[e.name] = true
		if !slices.Equal(t.Dims, e.dims) {
			return fmt.Errorf("tensor %q: extents %v where the metadata needs %v: %w", e.name, t.Dims, e.dims, ErrFormat)
		}
		switch {
		case strings.HasSuffix(e.name, "attn_output.bias"), strings.HasSuffix(e.name, "ffn_down.bias"):
			c.OutBias = true
		case strings.HasSuffix(e.name, "attn_q.bias"), strings.HasSuffix(e.name, "attn_k.bias"), strings.HasSuffix(e.name, "attn_v.bias"):
			c.QKVBias = true
		}
	}
	for _, t := range f.Tensors() {
		if !known[t.Name] && !isFused(t.Name) && !isIgnored(t.Name) {
			return fmt.Errorf("%w: %q with a tensor %q", ErrArchitecture, c.Arch, t.Name)
		}
	}
	return nil
}

// isIgnored reports whether llama.cpp leaves a tensor of that name unread: inverse rotary frequencies that some files carry.
func isIgnored(name string) bool {
	return strings.HasSuffix(name, "rotary_emb.inv_freq") || strings.HasSuffix(name, "attn_rot_embd.weight")
}

const fusedSuffix = "attn_qkv.weight"

func isFused(name string) bool {
	return strings.HasPrefix(name, "blk.") && strings.HasSuffix(name, fusedSuffix)
}

// splitFused gives the rows of every fused attn_qkv of an openelm file the names of the matrices they are. A file whose counts contradict its
// tensors is left as it is: [File.Config] then says which tensor is missing.
func (f *File) splitFused() {
	c, err := f.hyperparameters()
	if err != nil || !c.family().FusedQKV {
		return
	}
	for i, l := range c.Layers {
		fused, ok := f.byName[layerName(i, fusedSuffix)]
		if !ok || len(fused.Dims) != 2 || fused.Dims[0] != (l.Heads+2*l.KVHeads)*c.HeadDim {
			continue
		}
		rowSize := fused.Size / int64(fused.Dims[0])
		offset := fused.Offset
		for _, part := range []struct {
			name string
			rows int
		}{{"attn_q.weight", l.Heads}, {"attn_k.weight", l.KVHeads}, {"attn_v.weight", l.KVHeads}} {
			t := Tensor{
				Name: layerName(i, part.name), Type: fused.Type, Dims: []int{part.rows * c.HeadDim, fused.Dims[1]},
				Offset: offset, Size: int64(part.rows*c.HeadDim) * rowSize,
			}
			offset += t.Size
			f.byName[t.Name] = t
		}
	}
}
