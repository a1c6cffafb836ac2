package oneshot

import (
	"fmt"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/reform/linalg"
)

// compensationRidge keeps the second moments of inputs from being singular, as a share of their mean diagonal.
const compensationRidge = 0.01

// round rounds a re-fitted output matrix to its type. It implements [reform.Rounder].
func (k *sizing) round(o reform.Output) (keep, stored []float32, err error) {
	tensor := outputTensor(o.Layer, o.Module)
	t, ok := k.types[tensor]
	if !ok {
		if t, err = subnet.ParseType(k.groupOf(o.Layer, o.Module, true).Source); err != nil {
			return nil, nil, err
		}
	}
	width := len(o.Columns)
	for t.Known() && (width%t.Block() != 0 || !gguf.Writable(t)) { // as the writer of the file does
		t = t.Fallback()
	}
	var weights []float32
	if of := k.size.Losses.Importance[tensor]; of != nil && ok {
		weights = make([]float32, width)
		for i, c := range o.Columns {
			weights[i] = of[c]
		}
	}
	keep = o.Weights
	if k.size.Compensate && t.Block() > 1 && t.Block() < width {
		factor, err := inverseFactor(o.Algebra, shrunk(o.Gram(), width, o.Tokens), width)
		if err != nil {
			return nil, nil, fmt.Errorf("compensation: %w", err)
		}
		if keep, err = compensated(t, o.Weights, o.Out, factor, weights); err != nil {
			return nil, nil, err
		}
	}
	stored, err = gguf.Round(t, keep, width, weights)
	return keep, stored, err
}

// compensated returns weights whose rounding to a type has less error in the outputs: block of columns after block of columns is rounded, and
// the error of each is compensated by the columns after it, as in GPTQ (arXiv 2210.17323) with the type's own rounding of a block in place of
// that of one number. Rounding the result gives the same numbers again, since types round blocks independently. The matrix has out rows, factor is
// the inverse factor of the second moments of its inputs, and weights is the importance of its columns.
func compensated(t subnet.Type, matrix []float32, out int, factor []float64, weights []float32) ([]float32, error) {
	n, block := len(matrix)/out, t.Block()
	w := linalg.Widen(matrix)
	for at := 0; at < n; at += block {
		part := make([]float32, out*block)
		for r := range out {
			for j := range block {
				part[r*block+j] = float32(w[r*n+at+j])
			}
		}
		var of []float32
		if weights != nil {
			of = weights[at : at+block]
		}
		back, err := gguf.Round(t, part, block, of)
		if err != nil {
			return nil, err
		}
		rest := n - at - block
		if rest == 0 {
			break
		}
		// The error E of the block moves the columns after it by −E·L_bb⁻ᵀ·L_rbᵀ.
		scaled := make([]float64, out*block)
		for r := range out {
			e := scaled[r*block : (r+1)*block]
			for j := range block {
				v := float64(part[r*block+j]) - float64(back[r*block+j])
				for i := range j {
					v -= e[i] * factor[(at+j)*n+at+i]
				}
				e[j] = v / factor[(at+j)*n+at+j]
			}
		}
		after := make([]float64, 0, rest*block)
		for i := at + block; i < n; i++ {
			after = append(after, factor[i*n+at:i*n+at+block]...)
		}
		moved := linalg.ProductT(out, rest, block, scaled, after)
		for r := range out {
			for j, v := range moved[r*rest : (r+1)*rest] {
				w[r*n+at+block+j] -= v
			}
		}
	}
	return linalg.Narrow(w), nil
}

// shrunk returns second moments with the products of different columns multiplied by T/(T + n), for T tokens and n columns: with few tokens
// they are mostly chance, and errors would be moved where they do harm.
func shrunk(gram []float64, n, tokens int) []float64 {
	share := float64(tokens) / float64(tokens+n)
	out := make([]float64, len(gram))
	for i, v := range gram {
		if out[i] = share * v; i/n == i%n {
			out[i] = v
		}
	}
	return out
}

// inverseFactor returns the lower triangular L [n, n] with L·Lᵀ = (H + ridge)⁻¹.
func inverseFactor(by linalg.Algebra, gram []float64, n int) ([]float64, error) {
	inverse, err := linalg.Inverse(linalg.OrCPU(by), gram, n, compensationRidge)
	if err != nil {
		return nil, err
	}
	lower, err := linalg.Factorize(inverse, n, 0)
	if err != nil {
		return nil, err
	}
	return lower.Lower(), nil
}
