package decoder

import (
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// headLayout lists the source rows and columns of an attention block in its cut shape; -1 is zeros.
type headLayout struct {
	groups, reps, value, rest int
	pairs                     [][]int
	q, k, v, o                []int
	refit                     []int // columns of a re-fitted W_O
	gain                      []int // channels of the norm of query and key heads, [groups or 1, width]
}

// layOutHeads lays out the kept heads and channels of a layer. Rows of Q and K are numbered in the order on the device.
func (m *Model) layOutHeads(geo subnet.LayerGeometry, l subnet.Layer, columns []int) headLayout {
	dim, per := m.config.HeadDim, geo.HeadsPerGroup()
	half := m.config.RopeDims / 2
	groups := l.Groups(geo).Indices()
	p := headLayout{groups: len(groups)}
	heads := make([][]int, len(groups))
	rest := make([][]int, len(groups))
	for i, g := range groups {
		for h := g * per; h < (g+1)*per; h++ {
			if l.Heads.Has(h) {
				heads[i] = append(heads[i], h)
			}
		}
		qk := l.QKOf(g, dim)
		var pairs []int
		for j := range half {
			if qk.Has(m.order[j]) || qk.Has(m.order[j+half]) {
				pairs = append(pairs, j)
			}
		}
		for j := 2 * half; j < dim; j++ {
			if qk.Has(m.order[j]) {
				rest[i] = append(rest[i], j)
			}
		}
		p.pairs = append(p.pairs, pairs)
		p.reps = max(p.reps, len(heads[i]))
		p.value = max(p.value, l.VOOf(g, dim).Len())
		p.rest = max(p.rest, len(rest[i]))
	}
	fill(p.pairs, half)
	p.rest = steps(p.rest, dim-2*half)
	p.value = steps(p.value, dim)
	position := make(map[int]int, len(columns))
	for i, c := range columns {
		position[c] = i
	}
	for i, g := range groups {
		qk := l.QKOf(g, dim)
		channels := m.headChannels(p.pairs[i], pad(rest[i], p.rest), qk)
		p.gain = append(p.gain, channels...)
		p.k = append(p.k, offset(channels, g*dim)...)
		value := pad(l.VOOf(g, dim).Indices(), p.value)
		p.v = append(p.v, offset(value, g*dim)...)
		for _, h := range pad(heads[i], p.reps) {
			base := h * dim
			if h < 0 {
				base = -1
			}
			p.q = append(p.q, offset(channels, base)...)
			for _, c := range offset(value, base) {
				p.o = append(p.o, c)
				if at, ok := position[c]; ok {
					p.refit = append(p.refit, at)
				} else {
					p.refit = append(p.refit, -1)
				}
			}
		}
	}
	if same(p.pairs) && l.QK == nil {
		p.pairs = p.pairs[:1]
		p.gain = p.gain[:2*len(p.pairs[0])+p.rest]
	}
	return p
}

// headChannels returns the source rows, within a head on the device, of one query or key head's channels: first and second
// members of its pairs, then the channels without rotation. A channel that is not kept while the other of its pair is, is -1.
func (m *Model) headChannels(pairs, rest []int, kept subnet.Set) []int {
	half := m.config.RopeDims / 2
	var channels []int
	for _, shift := range []int{0, half} {
		for _, j := range pairs {
			if j >= 0 && kept.Has(m.order[j+shift]) {
				channels = append(channels, j+shift)
			} else {
				channels = append(channels, -1)
			}
		}
	}
	return append(channels, rest...)
}

// headSteps is how many widths channels inside a head may have: each is another graph to compile.
const headSteps = 8

// steps rounds n up to one of the headSteps widths up to full.
func steps(n, full int) int {
	step := max(1, full/headSteps)
	return min((n+step-1)/step*step, full)
}

// fill pads the lists with -1 to the length of the longest, rounded up by steps.
func fill(lists [][]int, full int) {
	longest := 0
	for _, l := range lists {
		longest = max(longest, len(l))
	}
	for i := range lists {
		lists[i] = pad(lists[i], steps(longest, full))
	}
}

func same(lists [][]int) bool {
	for _, l := range lists[1:] {
		if !slices.Equal(l, lists[0]) {
			return false
		}
	}
	return true
}

// offset adds base to each row; where either is negative the result is -1.
func offset(rows []int, base int) []int {
	out := make([]int, len(rows))
	for i, p := range rows {
		if p < 0 || base < 0 {
			out[i] = -1
		} else {
			out[i] = base + p
		}
	}
	return out
}
