package gguf

import (
	"context"
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// rowAt is the position of a row of a matrix in the source.
type rowAt struct{ layer, index int }

// recognise finds the masks of a file without provenance: it looks up the rows of its gates (of its W_U in a family without gates) and of its
// queries among those of the source, which cutting copies as they are.
func recognise(ctx context.Context, src, f *File, g *subnet.Geometry) (subnet.Masks, error) {
	config, err := f.Config()
	if err != nil {
		return subnet.Masks{}, err
	}
	if config.Hidden != g.Hidden || config.HeadDim != g.HeadDim {
		return subnet.Masks{}, fmt.Errorf("gguf: %s: %w: hidden size %d with heads of %d, not %d with heads of %d",
			f.path, ErrSource, config.Hidden, config.HeadDim, g.Hidden, g.HeadDim)
	}
	inner := "ffn_gate.weight"
	if config.Ungated {
		inner = "ffn_up.weight"
	}
	channels, err := src.rowIndex(ctx, inner, len(g.Layers))
	if err != nil {
		return subnet.Masks{}, err
	}
	queries, err := src.rowIndex(ctx, "attn_q.weight", len(g.Layers))
	if err != nil {
		return subnet.Masks{}, err
	}
	layers := make([]subnet.Layer, len(g.Layers))
	for i, l := range g.Layers {
		layers[i] = subnet.Layer{Heads: subnet.Empty(l.Heads), Channels: subnet.Empty(l.FFN)}
	}
	last := -1
	for i := range config.Layers {
		found, err := f.findRows(layerName(i, inner), 1, channels)
		if err != nil {
			return subnet.Masks{}, err
		}
		heads, err := f.findRows(layerName(i, "attn_q.weight"), g.HeadDim, queries)
		if err != nil {
			return subnet.Masks{}, err
		}
		all := slices.Concat(found, heads)
		if len(all) == 0 {
			return subnet.Masks{}, fmt.Errorf("gguf: %s: %w: layer %d has no row of it", f.path, ErrSource, i)
		}
		source := all[0].layer
		if source <= last || slices.ContainsFunc(all, func(r rowAt) bool { return r.layer != source }) {
			return subnet.Masks{}, fmt.Errorf("gguf: %s: %w: the rows of layer %d are from several of its layers, or out of order", f.path, ErrSource, i)
		}
		last = source
		for _, r := range found {
			layers[source].Channels = layers[source].Channels.With(r.index)
		}
		for _, r := range heads {
			layers[source].Heads = layers[source].Heads.With(r.index / g.HeadDim)
		}
	}
	masks, err := subnet.New(g, layers)
	if err != nil {
		return subnet.Masks{}, fmt.Errorf("gguf: %s: %w: %w", f.path, ErrSubnet, err)
	}
	return masks, nil
}

// rowIndex maps the stored rows of a matrix of every layer to their positions.
func (f *File) rowIndex(ctx context.Context, matrix string, layers int) (map[string]rowAt, error) {
	index := make(map[string]rowAt)
	for layer := range layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name := layerName(layer, matrix)
		t, ok := f.Tensor(name)
		if !ok {
			continue
		}
		data, err := f.Read(name)
		if err != nil {
			return nil, err
		}
		i := 0
		for stored := range slices.Chunk(data, len(data)/t.Dims[0]) {
			index[string(stored)] = rowAt{layer, i}
			i++
		}
	}
	return index, nil
}

// findRows looks up every step-th row of a matrix. Rows of zeros, which a file may hold for dropped units, are skipped.
func (f *File) findRows(name string, step int, index map[string]rowAt) ([]rowAt, error) {
	t, ok := f.Tensor(name)
	if !ok {
		return nil, nil
	}
	data, err := f.Read(name)
	if err != nil {
		return nil, err
	}
	size := len(data) / t.Dims[0]
	var found []rowAt
	for at := 0; at < t.Dims[0]; at += step {
		stored := data[at*size : (at+1)*size]
		r, ok := index[string(stored)]
		switch {
		case ok && (len(found) > 0 && r.index <= found[len(found)-1].index || r.index%step != 0):
			return nil, fmt.Errorf("gguf: %s: %w: tensor %q: the rows are not in its order", f.path, ErrSource, name)
		case ok:
			found = append(found, r)
		case slices.ContainsFunc(stored, func(b byte) bool { return b != 0 }):
			return nil, fmt.Errorf("gguf: %s: %w: tensor %q: row %d is not one of its rows: the file has another type or was changed otherwise than by cutting",
				f.path, ErrSource, name, at)
		}
	}
	return found, nil
}
