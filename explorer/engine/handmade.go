package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// place is a row of a matrix of the source.
type place struct{ layer, row int }

// recognise finds the masks of a file that another tool cut from this model, by looking up its rows among the model's: the
// gates of the MLP (W_U where it has none) and the queries of the attention, which cutting copies as they are. It needs both
// files to be of one type, whole heads, and units in their original order.
func (m *model) recognise(ctx context.Context, f *gguf.File) (subnet.Masks, error) {
	config, err := f.Config()
	if err != nil {
		return subnet.Masks{}, err
	}
	g := m.geometry()
	if config.Hidden != g.Hidden || config.HeadDim != g.HeadDim {
		return subnet.Masks{}, fmt.Errorf("%s: %w: it was not cut from this model in a way that can be told: hidden size %d with heads of %d, not %d with heads of %d",
			f.Path(), explorer.ErrInvalid, config.Hidden, config.HeadDim, g.Hidden, g.HeadDim)
	}
	inner := "ffn_gate"
	if config.Ungated {
		inner = "ffn_up"
	}
	gates, err := m.index(ctx, inner)
	if err != nil {
		return subnet.Masks{}, err
	}
	queries, err := m.index(ctx, "attn_q")
	if err != nil {
		return subnet.Masks{}, err
	}
	layers := make([]subnet.Layer, len(g.Layers))
	for i, l := range g.Layers {
		layers[i] = subnet.Layer{Heads: subnet.Empty(l.Heads), Channels: subnet.Empty(l.FFN)}
	}
	last := -1
	for i, l := range config.Layers {
		channels, err := find(f, fmt.Sprintf("blk.%d.%s.weight", i, inner), l.FFN, 1, gates)
		if err != nil {
			return subnet.Masks{}, err
		}
		rows, err := find(f, fmt.Sprintf("blk.%d.attn_q.weight", i), l.Heads, g.HeadDim, queries)
		if err != nil {
			return subnet.Masks{}, err
		}
		places := slices.Concat(channels, rows)
		if len(places) == 0 {
			return subnet.Masks{}, unrecognised(f, i, "nothing of it is the model's")
		}
		source := places[0].layer
		if source <= last || slices.ContainsFunc(places, func(p place) bool { return p.layer != source }) {
			return subnet.Masks{}, unrecognised(f, i, "its rows are of several layers, or out of order")
		}
		last = source
		for _, p := range channels {
			layers[source].Channels = layers[source].Channels.With(p.row)
		}
		for _, p := range rows {
			layers[source].Heads = layers[source].Heads.With(p.row / g.HeadDim)
		}
	}
	return subnet.New(g, layers)
}

func unrecognised(f *gguf.File, layer int, why string) error {
	return fmt.Errorf("%s: %w: layer %d: %s", f.Path(), explorer.ErrInvalid, layer, why)
}

// index says where each row of a matrix of every layer is.
func (m *model) index(ctx context.Context, matrix string) (map[string]place, error) {
	rows := make(map[string]place)
	for layer := range m.geometry().Layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name := fmt.Sprintf("blk.%d.%s.weight", layer, matrix)
		t, ok := m.file.Tensor(name)
		if !ok {
			continue
		}
		data, err := m.file.Read(name)
		if err != nil {
			return nil, err
		}
		size := len(data) / t.Dims[0]
		for row := range t.Dims[0] {
			rows[string(data[row*size:(row+1)*size])] = place{layer, row}
		}
	}
	return rows, nil
}

// find looks up every step-th row of a matrix of a file, of which units are expected. Rows of zeros, which formats that
// cannot drop a unit hold in its place, are passed over.
func find(f *gguf.File, name string, units, step int, index map[string]place) ([]place, error) {
	t, ok := f.Tensor(name)
	if !ok || units == 0 {
		return nil, nil
	}
	data, err := f.Read(name)
	if err != nil {
		return nil, err
	}
	if t.Dims[0] != units*step {
		return nil, fmt.Errorf("%s: tensor %q is %v, %d units of %d rows were expected: %w", f.Path(), name, t.Dims, units, step, gguf.ErrFormat)
	}
	size := len(data) / t.Dims[0]
	var found []place
	for u := range units {
		row := data[u*step*size : (u*step+1)*size]
		p, ok := index[string(row)]
		switch {
		case ok && len(found) > 0 && p.row <= found[len(found)-1].row, ok && p.row%step != 0:
			return nil, fmt.Errorf("%s: tensor %q: %w: its rows are not in the model's order", f.Path(), name, explorer.ErrInvalid)
		case ok:
			found = append(found, p)
		case slices.ContainsFunc(row, func(b byte) bool { return b != 0 }):
			return nil, fmt.Errorf("%s: tensor %q: %w: row %d is none of the model's: the file was changed otherwise than by cutting, or is of another type", f.Path(), name, explorer.ErrInvalid, u*step)
		}
	}
	return found, nil
}
