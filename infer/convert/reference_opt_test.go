package convert_test

import (
	"fmt"
	"math"
)

// optNorm is a LayerNorm of every row.
func (r *reference) optNorm(x [][]float64, module string) [][]float64 {
	gain, bias := r.tensor[module+".weight"], r.tensor[module+".bias"]
	out := make([][]float64, len(x))
	for t, row := range x {
		var mean, variance float64
		for _, v := range row {
			mean += v / float64(len(row))
		}
		for _, v := range row {
			variance += (v - mean) * (v - mean) / float64(len(row))
		}
		for i, v := range row {
			out[t] = append(out[t], (v-mean)/math.Sqrt(variance+1e-5)*gain[i]+bias[i])
		}
	}
	return out
}

// optAttention returns the output of the attention of one layer for its input.
func (r *reference) optAttention(x [][]float64, prefix string) [][]float64 {
	q, k, v := r.project(x, prefix+"q_proj"), r.project(x, prefix+"k_proj"), r.project(x, prefix+"v_proj")
	heads := int(r.number("num_attention_heads", 0))
	dim := len(x[0]) / heads
	mixed := make([][]float64, len(x))
	for t := range x {
		for h := range heads {
			sum, out := 0.0, make([]float64, dim)
			for s := range t + 1 {
				var dot float64
				for i := h * dim; i < (h+1)*dim; i++ {
					dot += q[t][i] * k[s][i] / math.Sqrt(float64(dim))
				}
				w := math.Exp(dot)
				sum += w
				for i := range dim {
					out[i] += w * v[s][h*dim+i]
				}
			}
			for _, o := range out {
				mixed[t] = append(mixed[t], o/sum)
			}
		}
	}
	return r.project(mixed, prefix+"out_proj")
}

// optLogits are the scores after every token, of OPT.
func (r *reference) optLogits(tokens []int) [][]float64 {
	const prefix = "model.decoder."
	hidden := int(r.number("hidden_size", 0))
	var x [][]float64
	for t, token := range tokens {
		row := append([]float64(nil), r.tensor[prefix+"embed_tokens.weight"][token*hidden:(token+1)*hidden]...)
		for i, v := range r.tensor[prefix+"embed_positions.weight"][(t+2)*hidden : (t+3)*hidden] {
			row[i] += v
		}
		x = append(x, row)
	}
	for layer := range int(r.number("num_hidden_layers", 0)) {
		name := fmt.Sprintf("%slayers.%d.", prefix, layer)
		add(x, r.optAttention(r.optNorm(x, name+"self_attn_layer_norm"), name+"self_attn."))
		inner := r.project(r.optNorm(x, name+"final_layer_norm"), name+"fc1")
		for t := range inner {
			for i, v := range inner[t] {
				inner[t][i] = max(v, 0)
			}
		}
		add(x, r.project(inner, name+"fc2"))
	}
	return r.project(r.optNorm(x, prefix+"final_layer_norm"), prefix+"embed_tokens")
}
