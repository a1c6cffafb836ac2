package gguf

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// layerName returns the name of a tensor of one layer.
func layerName(layer int, rest string) string {
	return fmt.Sprintf("blk.%d.%s", layer, rest)
}

// expected lists the tensors of a model of these counts.
func expected(c *Config) []subnet.Tensor {
	f := c.family()
	list := f.ModelTensors(c.Vocab, c.Hidden, c.HeadDim, c.Positions)
	for i, l := range c.Layers {
		list = append(list, f.LayerTensors(i, c.Hidden, c.HeadDim, l)...)
	}
	return list
}

// checkShapes sets the fields of c that the tensors determine. It checks that each tensor has the extents of the family, and that the network
// uses all of them.
func (f *File) checkShapes(c *Config) error {
	embd, ok := f.Tensor("token_embd.weight")
	if !ok {
		return fmt.Errorf("tensor %q: %w", "token_embd.weight", ErrMissing)
	}
	c.Vocab = embd.Dims[0]
	c.Tied = !f.Has("output.weight")

	known := make(map[string]bool, len(f.byName))
	for _, want := range expected(c) {
		t, ok := f.Tensor(want.Name)
		if !ok {
			if !want.Optional {
				return fmt.Errorf("tensor %q: %w", want.Name, ErrMissing)
			}
			continue
		}
		known[want.Name] = true
		if !slices.Equal(t.Dims, want.Dims()) {
			return fmt.Errorf("tensor %q: extents %v where the metadata needs %v: %w", want.Name, t.Dims, want.Dims(), ErrFormat)
		}
		c.OutBias = c.OutBias || want.IsOutBias()
		c.QKVBias = c.QKVBias || want.IsQKVBias()
	}
	for _, t := range f.Tensors() {
		if !known[t.Name] && !isFused(t.Name) && !isIgnored(t.Name) {
			return fmt.Errorf("%w: %q with a tensor %q", ErrArchitecture, c.Arch, t.Name)
		}
	}
	return nil
}

// isIgnored reports whether llama.cpp ignores a tensor of that name: inverse rotary frequencies, which some files hold.
func isIgnored(name string) bool {
	return strings.HasSuffix(name, "rotary_emb.inv_freq") || strings.HasSuffix(name, "attn_rot_embd.weight")
}

const fusedSuffix = "attn_qkv.weight"

func isFused(name string) bool {
	return strings.HasPrefix(name, "blk.") && strings.HasSuffix(name, fusedSuffix)
}

// splitFused adds W_Q, W_K and W_V to the tensors by name, for every fused attn_qkv. It does nothing for a file whose counts contradict its
// tensors: [File.Config] then reports the tensor that is missing.
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
		for _, m := range []struct {
			name string
			rows int
		}{{"attn_q.weight", l.Heads}, {"attn_k.weight", l.KVHeads}, {"attn_v.weight", l.KVHeads}} {
			t := Tensor{
				Name: layerName(i, m.name), Type: fused.Type, Dims: []int{m.rows * c.HeadDim, fused.Dims[1]},
				Offset: offset, Size: int64(m.rows*c.HeadDim) * rowSize,
			}
			offset += t.Size
			f.byName[t.Name] = t
		}
	}
}
