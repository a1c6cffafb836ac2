package gguf

import (
	"fmt"
	"strings"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// account fills the report: bytes by type, and the dropped units that the file holds.
func (p *plan) account() {
	r := &p.report
	r.Arch, r.SourceBytes, r.ByType = p.to.Arch, p.src.size, make(map[string]int64)
	var block int64
	for _, j := range p.targets {
		row, _ := j.Type.RowSize(j.Dims[len(j.Dims)-1])
		size := row * (j.Elements() / int64(j.Dims[len(j.Dims)-1]))
		r.TensorBytes += size
		r.ByType[j.Type.String()] += size
		if len(j.Dims) == 2 && strings.HasPrefix(j.Name, "blk.") {
			block += j.Elements()
		}
	}
	size := p.subnet.Masks.Size()
	r.CompactParams = size.DenseBlockParams - block
	r.ZeroedParams = block - size.BlockParams
	for i := range p.cut.Layers {
		p.accountLayer(i)
	}
}

// accountLayer lists the zeros of one layer of the file and the rule that requires them.
func (p *plan) accountLayer(i int) {
	cut := p.cut.Layers[i]
	layer, limits := p.subnet.Masks.Layer(cut.Source), p.subnet.Masks.Geometry().Limits()
	hidden, dim := int64(p.config.Hidden), int64(p.cut.HeadDim)
	add := func(params int64, what, why string) {
		if params > 0 {
			if p.opts.Zeroed {
				why = "the file has the dense model's size"
			}
			p.report.Zeroed = append(p.report.Zeroed, ZeroedUnit{Layer: cut.Source, What: what, Why: why, Params: params})
		}
	}

	heads, groups := countZeros(cut.Heads), countZeros(cut.Groups)
	if heads == len(cut.Heads) && groups == len(cut.Groups) {
		why := "the first layer of a file must have attention"
		switch {
		case layer.IsDropped() && limits.Period > 0:
			why = "the format alternates sliding-window and full-attention layers"
		case !limits.NoAttention:
			why = "every layer of the format has attention"
		case layer.IsDropped():
			why = "a layer must carry the biases of dropped layers before the first"
		}
		add(int64(heads+groups)*2*dim*hidden, fmt.Sprintf("%s and %s", count(heads, "query head"), count(groups, "KV group")), why)
	} else {
		why := "all KV groups of a layer have the same number of query heads"
		if limits.AllQuery {
			why = "the bias of Q has the hidden size"
		} else if !limits.PerLayer {
			why = "all layers of the format have the same heads"
		}
		add(int64(heads)*2*dim*hidden, count(heads, "query head"), why)
		add(int64(groups)*2*dim*hidden, count(groups, "KV group"), why)
	}
	var qk, vo int
	var params int64
	per := len(cut.Heads) / max(len(cut.Groups), 1)
	for j, group := range cut.Groups {
		if group == subnet.Zero {
			continue
		}
		rows := int64(1 + per - countZeros(cut.Heads[j*per:(j+1)*per])) // K or V, and the kept heads of the group
		qk += countZeros(cut.QK[j])
		vo += countZeros(cut.VO[j])
		params += rows * int64(countZeros(cut.QK[j])+countZeros(cut.VO[j])) * hidden
	}
	add(params, fmt.Sprintf("%d Q/K and %d V/O channels inside heads", qk, vo), "all heads of a model have one size and the same rotary pairs")

	channels := countZeros(cut.Channels)
	why := "all layers of the format have one width"
	if layer.Channels.IsEmpty() && limits.PerLayer {
		why = "llama.cpp drops the attention of a layer without MLP"
	}
	add(int64(channels)*p.subnet.Masks.Geometry().MLPMatrices()*hidden, count(channels, "MLP channel"), why)
}

func countZeros(units []int) int {
	n := 0
	for _, u := range units {
		if u == subnet.Zero {
			n++
		}
	}
	return n
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
