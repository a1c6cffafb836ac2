package score

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/lathe-llm/lathe/search/space"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Start gathers, in one pass of text through the dense model, the importance that
// the paper's search begins from, and returns what [search.Problem] wants as its
// Start. The score of a unit is the paper's Φ with the inverse taken of the
// diagonal of the second moments alone: Σ W_ij²·2H_jj over the rows of the
// matrices that the unit owns rows of and over the columns of those it owns
// columns of. Channels inside heads are scored per KV group. The gate, unless
// nil, is called between layers and may block.
func Start(ctx context.Context, m *decoder.Model, windows [][]int32, gate func(context.Context) error) (func(space.Space, float64, float64) (subnet.Masks, error), error) {
	st, err := m.NewStates(ctx, windows)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	dense := m.Dense()
	defer dense.Close()
	g := m.Geometry()
	inHead := make([][]float64, len(g.Layers)) // [groups·HeadDim]
	channels := make([][]float64, len(g.Layers))
	for i := range g.Layers {
		if gate != nil {
			if err := gate(ctx); err != nil {
				return nil, err
			}
		}
		p := pass{ctx: ctx, m: m, st: st, layer: i}
		if inHead[i], err = p.attention(dense); err != nil {
			return nil, err
		}
		if channels[i], err = p.mlp(dense); err != nil {
			return nil, err
		}
	}
	return func(s space.Space, attention, mlp float64) (subnet.Masks, error) {
		layers := make([]subnet.Layer, len(g.Layers))
		for i, lg := range g.Layers {
			l := subnet.DenseLayer(lg)
			if lg.FFN > 0 {
				l.Channels = top(channels[i], subnet.Count(lg.FFN, mlp, s.Granularity))
			}
			for group := range lg.KVHeads {
				scores := inHead[i][group*g.HeadDim : (group+1)*g.HeadDim]
				l.VO = append(l.VO, top(scores, subnet.Count(g.HeadDim, attention, s.HeadGranularity)))
			}
			l.QK = l.VO
			layers[i] = l
		}
		return subnet.New(g, layers)
	}, nil
}

// top returns the k units with the largest scores, among equals the first.
func top(scores []float64, k int) subnet.Set {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	return subnet.Of(len(scores), order[:k]...)
}

// pass is text on its way through one layer.
type pass struct {
	ctx   context.Context // of Start, the one call a pass lives for
	m     *decoder.Model
	st    *decoder.States
	layer int
}

// diagonal returns E x_j² of inputs, and closes them.
func (p pass) diagonal(in *decoder.Inputs, err error) ([]float64, error) {
	if err != nil {
		return nil, err
	}
	defer in.Close()
	mo, err := in.Moments(p.ctx)
	if err != nil {
		return nil, err
	}
	d := make([]float64, mo.N)
	for j := range d {
		d[j] = mo.H[j*mo.N+j]
	}
	return d, nil
}

// attention scores the in-head channels of a layer and moves the text past its
// attention.
func (p pass) attention(dense *decoder.Subnet) (scores []float64, err error) {
	g, lg := p.m.Geometry(), p.m.Geometry().Layers[p.layer]
	if lg.Heads == 0 {
		return nil, nil
	}
	before, err := p.diagonal(p.m.NormedInputs(p.ctx, p.layer, subnet.Attention, p.st))
	if err != nil {
		return nil, err
	}
	in, err := p.m.AttentionInputs(p.ctx, p.layer, dense, p.st)
	if err != nil {
		return nil, err
	}
	defer func() { in.Close() }()
	mo, err := in.Moments(p.ctx)
	if err != nil {
		return nil, err
	}
	scores = make([]float64, lg.KVHeads*g.HeadDim)
	// Row head·HeadDim + c of W_Q belongs to channel c of the head's group.
	byHead := func(row int) int { return row/g.HeadDim/lg.HeadsPerGroup()*g.HeadDim + row%g.HeadDim }
	byGroup := func(row int) int { return row }
	err = errors.Join(
		p.addRows(scores, "q", before, byHead), p.addRows(scores, "k", before, byGroup), p.addRows(scores, "v", before, byGroup),
		p.addColumns(scores, "o", mo, byHead),
		p.m.AddAttention(p.ctx, p.layer, dense, in, p.st),
	)
	return scores, err
}

// mlp scores the MLP channels of a layer and moves the text past it.
func (p pass) mlp(dense *decoder.Subnet) (scores []float64, err error) {
	lg := p.m.Geometry().Layers[p.layer]
	if lg.FFN == 0 {
		return nil, nil
	}
	before, err := p.diagonal(p.m.NormedInputs(p.ctx, p.layer, subnet.MLP, p.st))
	if err != nil {
		return nil, err
	}
	in, err := p.m.MLPInputs(p.ctx, p.layer, dense, p.st)
	if err != nil {
		return nil, err
	}
	defer func() { in.Close() }()
	mo, err := in.Moments(p.ctx)
	if err != nil {
		return nil, err
	}
	scores = make([]float64, lg.FFN)
	own := func(row int) int { return row }
	var gate error
	if !p.m.Config().Ungated {
		gate = p.addRows(scores, "gate", before, own)
	}
	err = errors.Join(
		gate, p.addRows(scores, "up", before, own), p.addColumns(scores, "down", mo, own),
		p.m.AddMLP(p.ctx, p.layer, dense, in, p.st),
	)
	return scores, err
}

// addRows adds the scores of a matrix's rows to those of their units.
func (p pass) addRows(scores []float64, name string, inputs []float64, unit func(row int) int) error {
	w, dims, err := p.m.Weights(p.layer, name)
	if err != nil {
		return err
	}
	for row := range dims[0] {
		for j, v := range w[row*dims[1]:][:dims[1]] {
			scores[unit(row)] += 2 * float64(v) * float64(v) * inputs[j]
		}
	}
	return nil
}

// addColumns adds the scores of a matrix's columns to those of their units.
func (p pass) addColumns(scores []float64, name string, mo *decoder.Moments, unit func(column int) int) error {
	w, dims, err := p.m.Weights(p.layer, name)
	if err != nil {
		return err
	}
	for row := range dims[0] {
		for j, v := range w[row*dims[1]:][:dims[1]] {
			scores[unit(j)] += 2 * float64(v) * float64(v) * mo.H[j*mo.N+j]
		}
	}
	return nil
}
