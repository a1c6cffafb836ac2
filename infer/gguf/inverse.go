package gguf

import (
	"context"
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// ReadSubnet returns the subnet of src that a file holds: the inverse of [WriteSubnet]. The weights that re-fitting changes are those of the
// file, whether they were re-fitted or not; all others are those of src. A file that another tool cut is recognised by its rows where it has
// the types of src and whole heads in their original order.
//
// It wraps [ErrSource] where the file is not a subnet of src, [ErrSubnet] where its masks do not fit src, and [ErrFormat] where the file
// does not hold what its masks need.
func ReadSubnet(ctx context.Context, src, f *File) (Subnet, error) {
	masks, err := masksOf(ctx, src, f)
	if err != nil {
		return Subnet{}, err
	}
	config, err := f.Config()
	if err != nil {
		return Subnet{}, err
	}
	cut := masks.Cut()
	if why := differs(&config, cut); why != "" {
		if cut = zeroedCut(masks); differs(&config, cut) != "" {
			return Subnet{}, fmt.Errorf("gguf: %s: %w: %s", f.path, ErrFormat, why)
		}
	}
	s := Subnet{Masks: masks, Refit: make([]Refit, masks.Layers())}
	front := len(config.Layers) - len(cut.Layers) // 1 for a layer that carries the biases of dropped ones
	if mixed, _ := f.KV().Bool(mixedKey); mixed {
		s.Types = typesOf(src, f, cut, front)
	}
	for i, l := range cut.Layers {
		if err := ctx.Err(); err != nil {
			return Subnet{}, err
		}
		if s.Refit[l.Source], err = f.readLayer(masks, front+i, l, cut.HeadDim); err != nil {
			return Subnet{}, err
		}
		if inner, _ := f.KV().Bool(innerRefittedKey); inner {
			if err := readInner(src, f, &s, front+i, i, cut); err != nil {
				return Subnet{}, err
			}
		}
	}
	if front > 0 {
		if s.Refit[0].BD, _, err = f.Float32(layerName(0, "ffn_down.bias")); err != nil {
			return Subnet{}, err
		}
	}
	if masks.Geometry().OutBias {
		zeroFoldedBiases(s.Refit, cut, config.Hidden)
	}
	return s, nil
}

// typesOf returns the types of matrices of a file that differ from those of the source. Layer i of the cut is layer front+i of the file.
func typesOf(src, f *File, cut subnet.Cut, front int) map[string]Type {
	types := make(map[string]Type)
	add := func(name, written string) {
		from, ok := src.Tensor(name)
		to, has := f.Tensor(written)
		if ok && has && len(from.Dims) == 2 && from.Type != to.Type {
			types[name] = to.Type
		}
	}
	for _, name := range []string{"token_embd.weight", "position_embd.weight", "output.weight"} {
		add(name, name)
	}
	for i, l := range cut.Layers {
		for _, rest := range []string{"attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight", "ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"} {
			add(layerName(l.Source, rest), layerName(front+i, rest))
		}
	}
	return types
}

// masksOf returns the masks that a file has in its metadata, or those that its rows lead to.
func masksOf(ctx context.Context, src, f *File) (subnet.Masks, error) {
	config, err := src.Config()
	if err != nil {
		return subnet.Masks{}, err
	}
	g := config.Geometry()
	text, ok := f.KV().String(provenancePrefix + "masks")
	if !ok {
		return recognise(ctx, src, f, &g)
	}
	want, _ := f.KV().String(provenancePrefix + "source_sha256")
	hash, err := src.SHA256(ctx)
	if err != nil {
		return subnet.Masks{}, err
	}
	if want != hash {
		name, _ := f.KV().String(provenancePrefix + "source")
		return subnet.Masks{}, fmt.Errorf("gguf: %s: %w: it was cut from %s with hash %.12s…, not %.12s…", f.path, ErrSource, name, want, hash)
	}
	masks, err := subnet.ParseMasks(&g, []byte(text))
	if err != nil {
		return subnet.Masks{}, fmt.Errorf("gguf: %s: key %q: %w: %w", f.path, provenancePrefix+"masks", ErrSubnet, err)
	}
	return masks, nil
}

// zeroFoldedBiases sets the output biases of blocks that the file lacks to zero: the block before holds their sum.
func zeroFoldedBiases(refit []Refit, cut subnet.Cut, hidden int) {
	attention, layer := make([]bool, len(refit)), make([]bool, len(refit))
	for _, l := range cut.Layers {
		attention[l.Source], layer[l.Source] = len(l.Heads) > 0, true
	}
	for i := range refit {
		if !attention[i] {
			refit[i].BO = make([]float32, hidden)
		}
		if !layer[i] && refit[i].BD == nil {
			refit[i].BD = make([]float32, hidden)
		}
	}
}

// readLayer reads what re-fitting changes in layer i of a cut file: matrices in the order in which masks keep their columns, and biases.
func (f *File) readLayer(masks subnet.Masks, i int, l subnet.CutLayer, headDim int) (r Refit, err error) {
	if at := attentionColumns(masks.Geometry().Layers[l.Source], l, headDim); len(at) > 0 {
		if r.WO, err = f.columns(layerName(i, "attn_output.weight"), at); err != nil {
			return r, err
		}
	}
	var channels []int
	for j, c := range l.Channels {
		if c != subnet.Zero {
			channels = append(channels, j)
		}
	}
	if len(channels) > 0 {
		if r.WD, err = f.columns(layerName(i, "ffn_down.weight"), channels); err != nil {
			return r, err
		}
		if refit, _ := f.KV().Bool(upRefittedKey); refit {
			if r.WU, err = f.rows(layerName(i, "ffn_up.weight"), channels); err != nil {
				return r, err
			}
		}
	}
	vectors := map[string]*[]float32{"attn_output.bias": &r.BO, "ffn_down.bias": &r.BD}
	if refit, _ := f.KV().Bool(normsRefittedKey); refit {
		vectors["attn_norm.weight"], vectors["ffn_norm.weight"] = &r.GA, &r.GM
	}
	for name, to := range vectors {
		if name = layerName(i, name); f.Has(name) {
			if *to, _, err = f.Float32(name); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// readInner reads the matrices before the output matrices of layer i of a file, which is layer j of the cut.
func readInner(src, f *File, s *Subnet, i, j int, cut subnet.Cut) error {
	from, err := src.Config()
	if err != nil {
		return err
	}
	to, err := f.Config()
	if err != nil {
		return err
	}
	l := cut.Layers[j]
	r, layer := &s.Refit[l.Source], s.Masks.Layer(l.Source)
	type matrix struct {
		rest    string
		to      *[]float32
		at      []int // rows of the source in the file
		want    []int // those that the masks keep
		scale   float32
		skipped bool
	}
	family, _ := subnet.FamilyOf(to.Arch)
	p := &plan{config: from, cut: cut, to: family}
	var all []matrix
	if len(l.Channels) > 0 && !from.Ungated {
		kept := layer.Channels.Indices()
		all = append(all, matrix{"ffn_gate.weight", &r.WG, l.Channels, kept, 1, len(kept) == 0}, matrix{"ffn_up.weight", &r.WU, l.Channels, kept, 1, len(kept) == 0})
	}
	if len(l.Heads) > 0 && layer.QK == nil && layer.VO == nil && !p.to.FusedQKV {
		q, k, v, _ := p.headRows(l)
		scale, _ := p.scoreScale()
		queries, pairs := s.Masks.QRows(l.Source), s.Masks.KVRows(l.Source)
		all = append(all, matrix{"attn_q.weight", &r.WQ, q, queries, scale, len(queries) == 0},
			matrix{"attn_k.weight", &r.WK, k, pairs, 1, len(pairs) == 0}, matrix{"attn_v.weight", &r.WV, v, pairs, 1, len(pairs) == 0})
	}
	for _, m := range all {
		if m.skipped {
			continue
		}
		at := positions(m.want, m.at)
		if slices.Contains(at, subnet.Zero) {
			return fmt.Errorf("gguf: %s: %w: tensor %q lacks rows that the masks keep", f.path, ErrFormat, layerName(i, m.rest))
		}
		if *m.to, err = f.rows(layerName(i, m.rest), at); err != nil {
			return err
		}
		if m.scale != 1 {
			for n := range *m.to {
				(*m.to)[n] /= m.scale
			}
		}
	}
	return nil
}

// attentionColumns returns the columns of W_O of a file that hold kept units, in the order of the dense model's columns.
func attentionColumns(g subnet.LayerGeometry, l subnet.CutLayer, headDim int) []int {
	var at []int
	for j, head := range l.Heads {
		if head == subnet.Zero {
			continue
		}
		for c, channel := range l.VO[slices.Index(l.Groups, head/g.HeadsPerGroup())] {
			if channel != subnet.Zero {
				at = append(at, j*headDim+c)
			}
		}
	}
	return at
}

// columns returns columns of a matrix [rows, width], as [rows, len(at)].
func (f *File) columns(name string, at []int) ([]float32, error) {
	data, dims, err := f.Float32(name)
	if err != nil {
		return nil, err
	}
	out := make([]float32, 0, dims[0]*len(at))
	for row := range slices.Chunk(data, dims[1]) {
		for _, c := range at {
			out = append(out, row[c])
		}
	}
	return out, nil
}

// rows returns rows of a matrix [rows, width], as [len(at), width].
func (f *File) rows(name string, at []int) ([]float32, error) {
	data, dims, err := f.Float32(name)
	if err != nil {
		return nil, err
	}
	width := dims[1]
	out := make([]float32, 0, len(at)*width)
	for _, r := range at {
		out = append(out, data[r*width:(r+1)*width]...)
	}
	return out, nil
}
