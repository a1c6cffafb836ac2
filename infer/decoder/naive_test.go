package decoder_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// naive is the transformer in plain loops over 64-bit floats, at full size with the weights of dropped units zeroed:
// what the package must agree with, and shares no code with.
type naive struct {
	c      gguf.Config
	tensor map[string][]float64
}

func newNaive(tb testing.TB, f *gguf.File) *naive {
	tb.Helper()
	c, err := f.Config()
	if err != nil {
		tb.Fatal(err)
	}
	n := &naive{c: c, tensor: make(map[string][]float64)}
	names := []string{"token_embd.weight", "position_embd.weight", "output.weight", "output_norm.weight", "output_norm.bias"}
	for i := range c.Layers {
		for _, s := range []string{"attn_norm.weight", "attn_norm.bias", "attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_q.bias", "attn_k.bias", "attn_v.bias",
			"attn_q_norm.weight", "attn_k_norm.weight", "attn_output.weight", "attn_output.bias", "post_attention_norm.weight",
			"ffn_norm.weight", "ffn_norm.bias", "ffn_gate.weight", "ffn_up.weight", "ffn_up.bias", "ffn_down.weight", "ffn_down.bias", "post_ffw_norm.weight"} {
			names = append(names, fmt.Sprintf("blk.%d.%s", i, s))
		}
	}
	for _, name := range names {
		if !f.Has(name) {
			continue
		}
		data, _, err := f.Float32(name)
		if err != nil {
			tb.Fatal(err)
		}
		n.tensor[name] = widen(data)
	}
	return n
}

func widen(data []float32) []float64 {
	out := make([]float64, len(data))
	for i, v := range data {
		out[i] = float64(v)
	}
	return out
}

// cut returns the model with the units that s drops zeroed and its re-fitted weights in place.
func (n *naive) cut(s gguf.Subnet) *naive {
	out := &naive{c: n.c, tensor: make(map[string][]float64)}
	for k, v := range n.tensor {
		out.tensor[k] = append([]float64(nil), v...)
	}
	dim := n.c.HeadDim
	for i, geo := range n.c.Layers {
		l := s.Masks.Layer(i)
		name := func(rest string) string { return fmt.Sprintf("blk.%d.%s", i, rest) }
		var refit gguf.Refit
		if s.Refit != nil {
			refit = s.Refit[i]
		}
		zeroRows := func(kept func(r int) bool, rest ...string) {
			for _, r := range rest {
				zero(out.tensor[name(r)], n.c.Hidden, kept)
			}
		}
		zeroItems := func(kept func(r int) bool, rest ...string) {
			for _, r := range rest {
				zero(out.tensor[name(r)], 1, kept)
			}
		}
		put := func(rest string, rows []int, data []float32) {
			for k, r := range rows {
				if data != nil {
					copy(out.tensor[name(rest)][r*n.c.Hidden:], widen(data[k*n.c.Hidden:(k+1)*n.c.Hidden]))
				}
			}
		}
		if geo.Heads > 0 {
			put("attn_q.weight", s.Masks.QRows(i), refit.WQ)
			put("attn_k.weight", s.Masks.KVRows(i), refit.WK)
			put("attn_v.weight", s.Masks.KVRows(i), refit.WV)
			per := geo.Heads / geo.KVHeads
			groups := l.Groups(geo)
			query := func(r int) bool { return l.Heads.Has(r/dim) && l.QKOf(r/dim/per, dim).Has(r%dim) }
			key := func(r int) bool { return groups.Has(r/dim) && l.QKOf(r/dim, dim).Has(r%dim) }
			value := func(r int) bool { return groups.Has(r/dim) && l.VOOf(r/dim, dim).Has(r%dim) }
			zeroRows(query, "attn_q.weight")
			zeroRows(key, "attn_k.weight")
			zeroRows(value, "attn_v.weight")
			zeroItems(query, "attn_q.bias")
			zeroItems(key, "attn_k.bias")
			zeroItems(value, "attn_v.bias")
			out.spread(name("attn_output.weight"), geo.Heads*dim, s.Masks.OColumns(i), refit.WO)
		}
		if geo.FFN > 0 {
			put("ffn_gate.weight", l.Channels.Indices(), refit.WG)
			put("ffn_up.weight", l.Channels.Indices(), refit.WU)
			zeroRows(l.Channels.Has, "ffn_gate.weight", "ffn_up.weight")
			zeroItems(l.Channels.Has, "ffn_up.bias")
			out.spread(name("ffn_down.weight"), geo.FFN, l.Channels.Indices(), refit.WD)
		}
		if refit.GA != nil && geo.Heads > 0 {
			copy(out.tensor[name("attn_norm.weight")], widen(refit.GA))
		}
		if refit.GM != nil && geo.FFN > 0 {
			copy(out.tensor[name("ffn_norm.weight")], widen(refit.GM))
		}
		if refit.BO != nil {
			out.tensor[name("attn_output.bias")] = widen(refit.BO)
		}
		if refit.BD != nil {
			out.tensor[name("ffn_down.bias")] = widen(refit.BD)
		}
	}
	return out
}

// zero clears the rows of a matrix that are not kept.
func zero(data []float64, columns int, kept func(r int) bool) {
	for r := 0; r*columns < len(data); r++ {
		if !kept(r) {
			clear(data[r*columns : (r+1)*columns])
		}
	}
}

// spread clears the columns that are not kept, and takes those that are from fitted where there is one.
func (n *naive) spread(name string, columns int, kept []int, fitted []float32) {
	old := n.tensor[name]
	data := make([]float64, len(old))
	for r := range n.c.Hidden {
		for i, c := range kept {
			data[r*columns+c] = old[r*columns+c]
			if fitted != nil {
				data[r*columns+c] = float64(fitted[r*len(kept)+i])
			}
		}
	}
	n.tensor[name] = data
}

// matmul returns x [t, in] times the transpose of the named [out, in], plus the named bias where there is one.
func (n *naive) matmul(x [][]float64, weight, bias string) [][]float64 {
	w, b := n.tensor[weight], n.tensor[bias]
	out := make([][]float64, len(x))
	for t, row := range x {
		rows := len(w) / len(row)
		out[t] = make([]float64, rows)
		for r := range rows {
			var sum float64
			for i, v := range row {
				sum += v * w[r*len(row)+i]
			}
			if b != nil {
				sum += b[r]
			}
			out[t][r] = sum
		}
	}
	return out
}

// norm is the norm of that name: a LayerNorm where it has a bias, else an RMS norm.
func (n *naive) norm(x [][]float64, name string) [][]float64 {
	out := make([][]float64, len(x))
	gain, bias := n.tensor[name+".weight"], n.tensor[name+".bias"]
	for t, row := range x {
		if bias == nil {
			out[t] = n.normRow(row, gain)
			continue
		}
		var mean float64
		for _, v := range row {
			mean += v / float64(len(row))
		}
		centred := make([]float64, len(row))
		for i, v := range row {
			centred[i] = v - mean
		}
		out[t] = n.normRow(centred, gain)
		for i := range out[t] {
			out[t][i] += bias[i]
		}
	}
	return out
}

func (n *naive) normRow(row, gain []float64) []float64 {
	var sum float64
	for _, v := range row {
		sum += v * v
	}
	scale := 1 / math.Sqrt(sum/float64(len(row))+n.c.NormEps)
	out := make([]float64, len(row))
	for i, v := range row {
		out[i] = v * scale * gain[i]
	}
	return out
}

// local reports whether a layer has a sliding window.
func (n *naive) local(layer int) bool { return n.c.Local != nil && n.c.Local[layer] }

// rotate turns one head in place.
func (n *naive) rotate(head []float64, layer, position int) {
	base, scale := n.c.RopeBase, n.c.RopeScale
	if n.local(layer) && n.c.LocalRopeBase > 0 {
		base, scale = n.c.LocalRopeBase, 1
	}
	for i := range n.c.RopeDims / 2 {
		theta := float64(position) / scale * math.Pow(base, -2*float64(i)/float64(n.c.RopeDims))
		if n.c.RopeFactors != nil {
			theta /= float64(n.c.RopeFactors[i])
		}
		a, b := 2*i, 2*i+1
		if n.c.HalfSplit {
			a, b = i, i+n.c.RopeDims/2
		}
		sin, cos := math.Sincos(theta)
		head[a], head[b] = head[a]*cos-head[b]*sin, head[a]*sin+head[b]*cos
	}
}

// embed returns the embeddings of a window.
func (n *naive) embed(window []int32) [][]float64 {
	x := make([][]float64, len(window))
	for t, id := range window {
		x[t] = append([]float64(nil), n.tensor["token_embd.weight"][int(id)*n.c.Hidden:][:n.c.Hidden]...)
		for i := range x[t] {
			if n.c.EmbedScale != 0 {
				x[t][i] *= n.c.EmbedScale
			}
			if table := n.tensor["position_embd.weight"]; table != nil {
				x[t][i] += table[t*n.c.Hidden+i]
			}
		}
	}
	return x
}

// mix returns the inputs of W_O of a layer, [t, heads·head dimension].
func (n *naive) mix(layer int, x [][]float64) [][]float64 {
	geo, dim := n.c.Layers[layer], n.c.HeadDim
	name := func(rest string) string { return fmt.Sprintf("blk.%d.%s", layer, rest) }
	xn := n.norm(x, name("attn_norm"))
	q := n.matmul(xn, name("attn_q.weight"), name("attn_q.bias"))
	k := n.matmul(xn, name("attn_k.weight"), name("attn_k.bias"))
	v := n.matmul(xn, name("attn_v.weight"), name("attn_v.bias"))
	for t := range x {
		for h := range geo.Heads {
			n.prepare(q[t][h*dim:(h+1)*dim], n.tensor[name("attn_q_norm.weight")], layer, t)
		}
		for h := range geo.KVHeads {
			n.prepare(k[t][h*dim:(h+1)*dim], n.tensor[name("attn_k_norm.weight")], layer, t)
		}
	}
	scale := n.c.AttnScale
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(dim))
	}
	out := make([][]float64, len(x))
	for t := range x {
		out[t] = make([]float64, geo.Heads*dim)
		for h := range geo.Heads {
			g := h * geo.KVHeads / geo.Heads
			weights, sum := make([]float64, t+1), 0.0
			for s := range weights {
				var dot float64
				for c := range dim {
					dot += q[t][h*dim+c] * k[s][g*dim+c]
				}
				if n.local(layer) && t-s >= n.c.Window {
					continue
				}
				weights[s] = math.Exp(bounded(dot*scale, n.c.AttnSoftCap))
				sum += weights[s]
			}
			for s, w := range weights {
				for c := range dim {
					out[t][h*dim+c] += w / sum * v[s][g*dim+c]
				}
			}
		}
	}
	return out
}

// prepare applies the norm of query or key heads, where there is one, and the rotation.
func (n *naive) prepare(head, gain []float64, layer, position int) {
	if gain != nil {
		copy(head, n.normRow(head, gain))
	}
	n.rotate(head, layer, position)
}

// gated returns the inputs of W_D of a layer, [t, FFN].
func (n *naive) gated(layer int, x [][]float64) [][]float64 {
	name := func(rest string) string { return fmt.Sprintf("blk.%d.%s", layer, rest) }
	xn := n.norm(x, name("ffn_norm"))
	up := n.matmul(xn, name("ffn_up.weight"), name("ffn_up.bias"))
	if n.c.Ungated {
		for t := range up {
			for i, v := range up[t] {
				up[t][i] = max(v, 0)
			}
		}
		return up
	}
	gate := n.matmul(xn, name("ffn_gate.weight"), "")
	for t := range gate {
		for i, g := range gate[t] {
			act := g / (1 + math.Exp(-g))
			if n.c.Activation == subnet.GELU {
				act = g / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(g+0.044715*g*g*g)))
			}
			gate[t][i] = act * up[t][i]
		}
	}
	return gate
}

// attend and feed add the output of a module to x.
func (n *naive) attend(layer int, x [][]float64) [][]float64 {
	weight, bias := fmt.Sprintf("blk.%d.attn_output.weight", layer), fmt.Sprintf("blk.%d.attn_output.bias", layer)
	if n.c.Layers[layer].Heads == 0 {
		return n.addBias(x, bias)
	}
	return sum(x, n.post(n.matmul(n.mix(layer, x), weight, bias), fmt.Sprintf("blk.%d.post_attention_norm", layer)))
}

// post returns the output of a block after its norm, where there is one.
func (n *naive) post(y [][]float64, name string) [][]float64 {
	if n.tensor[name+".weight"] == nil {
		return y
	}
	return n.norm(y, name)
}

// bounded is x within a soft bound, 0 for none.
func bounded(x, bound float64) float64 {
	if bound == 0 {
		return x
	}
	return bound * math.Tanh(x/bound)
}

func (n *naive) feed(layer int, x [][]float64) [][]float64 {
	weight, bias := fmt.Sprintf("blk.%d.ffn_down.weight", layer), fmt.Sprintf("blk.%d.ffn_down.bias", layer)
	if n.c.Layers[layer].FFN == 0 {
		return n.addBias(x, bias)
	}
	return sum(x, n.post(n.matmul(n.gated(layer, x), weight, bias), fmt.Sprintf("blk.%d.post_ffw_norm", layer)))
}

func (n *naive) addBias(x [][]float64, bias string) [][]float64 {
	b := n.tensor[bias]
	if b == nil {
		return x
	}
	rows := make([][]float64, len(x))
	for t := range rows {
		rows[t] = b
	}
	return sum(x, rows)
}

func sum(a, b [][]float64) [][]float64 {
	out := make([][]float64, len(a))
	for t := range a {
		out[t] = make([]float64, len(a[t]))
		for i := range a[t] {
			out[t][i] = a[t][i] + b[t][i]
		}
	}
	return out
}

// logits returns the scores after every token of a window, [t, vocab].
func (n *naive) logits(window []int32) [][]float64 {
	x := n.embed(window)
	for i := range n.c.Layers {
		x = n.feed(i, n.attend(i, x))
	}
	return n.scores(x)
}

// scores returns the scores of the last states, [t, vocab].
func (n *naive) scores(x [][]float64) [][]float64 {
	head := "output.weight"
	if n.tensor[head] == nil {
		head = "token_embd.weight"
	}
	out := n.matmul(n.norm(x, "output_norm"), head, "")
	for _, row := range out {
		for i := range row {
			row[i] = bounded(row[i], n.c.LogitSoftCap)
		}
	}
	return out
}

// logProbs returns the log-probability of every token of a window but the first.
func (n *naive) logProbs(window []int32) []float64 {
	var out []float64
	for t, row := range n.logits(window)[:len(window)-1] {
		out = append(out, row[window[t+1]]-logSumExp(row))
	}
	return out
}

func logSumExp(row []float64) float64 {
	peak := math.Inf(-1)
	for _, v := range row {
		peak = max(peak, v)
	}
	var total float64
	for _, v := range row {
		total += math.Exp(v - peak)
	}
	return peak + math.Log(total)
}

// distance returns the largest difference between got [t·n] and want [t][n].
func distance(got []float32, want [][]float64) float64 {
	worst, i := 0.0, 0
	for _, row := range want {
		for _, v := range row {
			if i >= len(got) {
				return math.Inf(1)
			}
			d := math.Abs(float64(got[i]) - v)
			if math.IsNaN(d) {
				return d
			}
			worst = max(worst, d)
			i++
		}
	}
	if i != len(got) {
		return math.Inf(1)
	}
	return worst
}

// randomSet keeps about share of n units, at least one.
func randomSet(r interface{ Float64() float64 }, n int, share float64) subnet.Set {
	var kept []int
	for i := range n {
		if r.Float64() < share {
			kept = append(kept, i)
		}
	}
	return subnet.Of(n, append(kept, int(r.Float64()*float64(n)))...)
}
