package gguf

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// plan is the layout of a subnet in a file: its shape, its architecture and the sources of its tensors.
type plan struct {
	src    *File
	config Config // of the source
	subnet Subnet
	opts   WriteOptions
	cut    subnet.Cut
	to     subnet.Family // of the file
	// biasO and biasD hold the output biases of the layers of the file, nil for none.
	biasO, biasD [][]float32
	// vocab holds the entries of the vocabulary that the file has, nil for all.
	vocab   []int
	targets []target
	report  Report
	// sizing is set in the plan of a file that is not written: it has neither the values of biases and re-fitted weights nor the positions in
	// re-fitted matrices.
	sizing bool
	zeros  []float32 // stand for biases [hidden] in such a plan
	every  []int     // the numbers from 0 on, see all
}

// newPlan lays out a subnet. It returns an error where the subnet does not fit the model or no file can hold it.
func newPlan(src *File, s Subnet, o WriteOptions) (*plan, error) {
	config, err := src.Config()
	if err != nil {
		return nil, err
	}
	p := &plan{src: src, config: config, subnet: s, opts: o}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("gguf: %s: %w", src.path, err)
	}
	if err := p.layOut(); err != nil {
		return nil, err
	}
	p.account()
	return p, nil
}

// layOut chooses the shape, the architecture and the tensors of the file.
func (p *plan) layOut() error {
	if p.opts.Zeroed {
		p.cut = zeroedCut(p.subnet.Masks)
	} else {
		p.cut = p.subnet.Masks.Cut()
	}
	if p.subnet.Masks.TrimsVocab() {
		p.vocab = p.subnet.Masks.Vocab().Indices()
	}
	if err := p.foldBiases(); err != nil {
		return err
	}
	if err := p.chooseArchitecture(); err != nil {
		return fmt.Errorf("gguf: %s: %w", p.src.path, err)
	}
	if err := p.layOutTensors(); err != nil {
		return fmt.Errorf("gguf: %s: %w", p.src.path, err)
	}
	return nil
}

// checkMasks compares the masks with the model.
func (p *plan) checkMasks() error {
	m := p.subnet.Masks
	if err := m.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrSubnet, err)
	}
	if g := p.config.Geometry(); !g.Equal(m.Geometry()) {
		return fmt.Errorf("%w: the masks are for a model of another shape", ErrSubnet)
	}
	return nil
}

// check compares the masks and the re-fitted weights with the model.
func (p *plan) check() error {
	if err := errors.Join(p.checkMasks(), p.checkTypes()); err != nil || p.subnet.Refit == nil {
		return err
	}
	m := p.subnet.Masks
	if len(p.subnet.Refit) != m.Layers() {
		return fmt.Errorf("%w: re-fitted weights of %d layers, the model has %d", ErrSubnet, len(p.subnet.Refit), m.Layers())
	}
	for i, r := range p.subnet.Refit {
		hidden := p.config.Hidden
		if l := m.Layer(i); (r.WQ != nil || r.WK != nil || r.WV != nil) && (l.QK != nil || l.VO != nil) {
			return fmt.Errorf("%w: layer %d: re-fitted W_Q, W_K or W_V with channels dropped inside heads", ErrSubnet, i)
		}
		for _, w := range []struct {
			name   string
			values []float32
			want   int
		}{
			{"W_O", r.WO, hidden * len(m.OColumns(i))},
			{"W_D", r.WD, hidden * m.Layer(i).Channels.Len()},
			{"W_U", r.WU, hidden * m.Layer(i).Channels.Len()},
			{"W_G", r.WG, hidden * m.Layer(i).Channels.Len()},
			{"W_Q", r.WQ, hidden * len(m.QRows(i))},
			{"W_K", r.WK, hidden * len(m.KVRows(i))},
			{"W_V", r.WV, hidden * len(m.KVRows(i))},
			{"bias of the attention output", r.BO, hidden},
			{"bias of the MLP output", r.BD, hidden},
			{"gain of the attention norm", r.GA, hidden},
			{"gain of the MLP norm", r.GM, hidden},
		} {
			if w.values == nil {
				continue
			}
			if len(w.values) != w.want {
				return fmt.Errorf("%w: layer %d: re-fitted %s has %d numbers, its units need %d", ErrSubnet, i, w.name, len(w.values), w.want)
			}
			for _, v := range w.values {
				if v-v != 0 {
					return fmt.Errorf("%w: layer %d: re-fitted %s holds %v", ErrSubnet, i, w.name, v)
				}
			}
		}
	}
	return nil
}

// checkTypes compares the types of matrices and the importance of their columns with the model.
func (p *plan) checkTypes() error {
	for name, t := range p.subnet.Types {
		src, ok := p.src.Tensor(name)
		if !ok || len(src.Dims) != 2 {
			return fmt.Errorf("%w: it has a type for %.100q, which is no matrix of the model", ErrSubnet, name)
		}
		if t != src.Type && !Writable(t) {
			return fmt.Errorf("%w: %s of %q cannot be written", ErrType, t, name)
		}
		if of := p.subnet.Importance[name]; of != nil && len(of) != src.Dims[1] {
			return fmt.Errorf("%w: importance of %d columns of %q, it has %d", ErrSubnet, len(of), name, src.Dims[1])
		}
	}
	return nil
}

// refit returns the re-fitted weights of a layer of the source, all nil where there are none.
func (p *plan) refit(layer int) Refit {
	if p.subnet.Refit == nil {
		return Refit{}
	}
	return p.subnet.Refit[layer]
}

// zeroedCut is the shape of the dense model with zeros where units were dropped.
func zeroedCut(m subnet.Masks) subnet.Cut {
	g := m.Geometry()
	keptOrZero := func(kept subnet.Set) []int {
		out := make([]int, kept.N())
		for i := range out {
			out[i] = subnet.Zero
			if kept.Has(i) {
				out[i] = i
			}
		}
		return out
	}
	cut := subnet.Cut{HeadDim: g.HeadDim, Pairs: subnet.Full(g.HeadDim).Indices(), Vocab: m.VocabLen()}
	for i, lg := range g.Layers {
		l := m.Layer(i)
		c := subnet.CutLayer{Source: i, Groups: keptOrZero(l.Groups(lg)), Heads: keptOrZero(l.Heads), Channels: keptOrZero(l.Channels)}
		for group := range lg.KVHeads {
			c.QK = append(c.QK, keptOrZero(l.QKOf(group, g.HeadDim)))
			c.VO = append(c.VO, keptOrZero(l.VOOf(group, g.HeadDim)))
		}
		cut.Layers = append(cut.Layers, c)
	}
	return cut
}

// zeroLayer returns a layer of the file that only adds its biases, with the norms of a layer of the source.
func zeroLayer(source, headDim int) subnet.CutLayer {
	zeros := func(n int) []int { return slices.Repeat([]int{subnet.Zero}, n) }
	return subnet.CutLayer{
		Source: source, Groups: zeros(1), Heads: zeros(1), Channels: zeros(subnet.MinChannels),
		QK: [][]int{zeros(headDim)}, VO: [][]int{zeros(headDim)},
	}
}

// foldBiases assigns the output bias of every block of the source to a block of the file. A bias is not a unit: when all units of its block
// are dropped it remains, as a constant added to the residual stream. No block reads that stream in between, so the bias of a dropped block is
// added to the MLP output of the kept layer before it, which is exact. Where there is none, a layer of zeros is inserted to carry it.
func (p *plan) foldBiases() error {
	byLayer := make(map[int]int, len(p.cut.Layers))
	for i, l := range p.cut.Layers {
		byLayer[l.Source] = i
	}
	p.biasO, p.biasD = make([][]float32, len(p.cut.Layers)), make([][]float32, len(p.cut.Layers))
	last := -1 // layer of the file before
	for i := range p.config.Layers {
		biasO, err := p.outputBias(p.refit(i).BO, i, "attn_output.bias")
		if err != nil {
			return err
		}
		biasD, err := p.outputBias(p.refit(i).BD, i, "ffn_down.bias")
		if err != nil {
			return err
		}
		at, kept := byLayer[i]
		if kept && len(p.cut.Layers[at].Heads) > 0 {
			p.biasO[at], biasO = biasO, nil
		}
		if biasO != nil || !kept && biasD != nil {
			if last < 0 {
				p.cut.Layers = slices.Insert(p.cut.Layers, 0, zeroLayer(i, p.cut.HeadDim))
				p.biasO, p.biasD = slices.Insert(p.biasO, 0, nil), slices.Insert(p.biasD, 0, nil)
				for source := range byLayer {
					byLayer[source]++
				}
				at, last = at+1, 0
			}
			p.biasD[last] = sum(p.biasD[last], biasO)
		}
		if kept {
			last = at
		}
		if biasD != nil {
			p.biasD[last] = sum(p.biasD[last], biasD)
		}
	}
	return nil
}

// outputBias returns the bias of a block: the re-fitted one, else that of the source, else nil.
func (p *plan) outputBias(refit []float32, layer int, name string) ([]float32, error) {
	if refit != nil || !p.src.Has(layerName(layer, name)) {
		return refit, nil
	}
	if p.sizing {
		return p.zeros, nil
	}
	values, _, err := p.src.Float32(layerName(layer, name))
	return values, err
}

// sum returns a + b in new memory. Either may be nil.
func sum(a, b []float32) []float32 {
	if a == nil {
		return slices.Clone(b)
	}
	out := slices.Clone(a)
	for i, v := range b {
		out[i] += v
	}
	return out
}

// chooseArchitecture takes the source's own architecture where it can hold the subnet, and otherwise the one for layers that differ.
func (p *plan) chooseArchitecture() error {
	biased := slices.ContainsFunc(slices.Concat(p.biasO, p.biasD), func(b []float32) bool { return b != nil })
	first := p.cut.Layers[0]
	differ := slices.ContainsFunc(p.cut.Layers, func(l subnet.CutLayer) bool {
		return len(l.Heads) != len(first.Heads) || len(l.Groups) != len(first.Groups) || len(l.Channels) != len(first.Channels)
	})
	p.to = p.config.family()
	ragged, ok := subnet.FamilyOf(p.to.Ragged)
	if ok && (differ || biased && !p.to.OutBias && ragged.OutBias || p.to.FullQuery && p.cut.HeadDim*len(first.Heads) != p.config.Hidden) {
		p.to = ragged
	}
	if biased && !p.to.OutBias {
		return fmt.Errorf("%w: %s files hold no output biases", ErrSubnet, p.to.Arch)
	}
	if !p.config.QKVBias || p.to.QKVBias != subnet.HiddenBias {
		return nil
	}
	for i, l := range p.cut.Layers {
		if p.hasQKVBias(l) && len(l.Heads)*p.cut.HeadDim != p.config.Hidden {
			return fmt.Errorf("%w: layer %d of the file: a bias on %d rows of Q, where the format needs %d", ErrSubnet, i,
				len(l.Heads)*p.cut.HeadDim, p.config.Hidden)
		}
	}
	return nil
}

// hasQKVBias reports whether a layer of the file has biases on Q, K and V. In a compact file a layer whose heads are all zeros has none, since
// the bias of Q could not be that short.
func (p *plan) hasQKVBias(l subnet.CutLayer) bool {
	return p.src.Has(layerName(l.Source, "attn_q.bias")) &&
		(p.opts.Zeroed || slices.ContainsFunc(l.Heads, func(h int) bool { return h != subnet.Zero }))
}

// ropeFactors returns the factors with which the kept rotary pairs have the frequencies of the source, nil where the file needs none. Pair
// i of c channels would rotate by base^(−2i/c), its pair in the source by base^(−2·pair/d) divided by its factor there.
func (p *plan) ropeFactors() []float32 {
	c, d := p.cut.HeadDim, p.config.HeadDim
	if c == d {
		return p.config.RopeFactors
	}
	factors := make([]float32, c/2)
	for i := range factors {
		pair := p.cut.Pairs[2*i] / 2
		factor := math.Pow(p.config.RopeBase, 2*float64(pair)/float64(d)-2*float64(i)/float64(c))
		if p.config.RopeFactors != nil {
			factor *= float64(p.config.RopeFactors[pair])
		}
		factors[i] = float32(factor)
	}
	return factors
}
