package importance

import (
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/reform/linalg"
)

// perUnit adds up values of output columns, [Output.In], over the columns of each unit.
func (b *Block) perUnit(u Unit, columns []float64) []float64 {
	width := b.columns(u)
	out := make([]float64, b.Count(u))
	for i := range out {
		for c := range width {
			out[i] += columns[b.column(u, i, c)]
		}
	}
	return out
}

// addRows adds value(m, r) to the unit that owns row r, for all rows of the inner matrices.
func (b *Block) addRows(u Unit, scores []float64, value func(m Matrix, r int) float64) {
	for _, m := range b.Inner {
		for r := range m.Out {
			scores[b.owner(u, m, r)] += value(m, r)
		}
	}
}

// columnNorms returns ‖W_:j‖² of each column of the output matrix.
func (b *Block) columnNorms() []float64 {
	return linalg.ColumnEnergies(linalg.Widen(b.Output.Data), b.Output.Out, b.Output.In)
}

func phi(b *Block, u Unit, o Options) ([]float64, error) {
	mid, err := inverseDiagonal(b.Algebra, b.Mid, o)
	if err != nil {
		return nil, err
	}
	in, err := inverseDiagonal(b.Algebra, b.In, o)
	if err != nil {
		return nil, err
	}
	return phiWith(b, u, in, mid), nil
}

func phiDiagonal(b *Block, u Unit, o Options) ([]float64, error) {
	return phiWith(b, u, diagonalInverse(b.In, o), diagonalInverse(b.Mid, o)), nil
}

// phiWith sums W_ij²/d_j over the rows and columns that each unit owns, where d is the diagonal of an inverse: in for the
// inner matrices, mid for the output matrix.
func phiWith(b *Block, u Unit, in, mid []float64) []float64 {
	columns := b.columnNorms()
	for j := range columns {
		columns[j] /= mid[j]
	}
	scores := b.perUnit(u, columns)
	b.addRows(u, scores, func(m Matrix, r int) float64 {
		var s float64
		for j, w := range m.Data[r*m.In : (r+1)*m.In] {
			s += float64(w) * float64(w) / in[j]
		}
		return s
	})
	return scores
}

// inverseDiagonal returns the diagonal of (2H + damp)⁻¹, where damp is the ridge's share of the mean diagonal of 2H, raised
// tenfold until the sum is positive definite.
func inverseDiagonal(by linalg.Algebra, in Inputs, o Options) ([]float64, error) {
	inverse, err := linalg.Inverse(linalg.OrCPU(by), in.Gram, in.N, o.ridge())
	if err != nil {
		return nil, err
	}
	d := make([]float64, in.N)
	for i := range d {
		d[i] = inverse[i*in.N+i] / 2
	}
	return d, nil
}

func diagonalInverse(in Inputs, o Options) []float64 {
	damp := o.ridge() * linalg.MeanDiagonal(in.Gram, in.N)
	d := make([]float64, in.N)
	for i := range d {
		d[i] = 1 / (2 * max(in.Gram[i*in.N+i]+damp, math.SmallestNonzeroFloat32))
	}
	return d
}

func flap(b *Block, u Unit, _ Options) ([]float64, error) {
	columns := b.columnNorms()
	for j, v := range b.Mid.Var {
		columns[j] *= v
	}
	return b.perUnit(u, columns), nil
}

func magnitude(b *Block, u Unit, _ Options) ([]float64, error) {
	scores := b.perUnit(u, b.columnNorms())
	b.addRows(u, scores, func(m Matrix, r int) float64 {
		var s float64
		for _, w := range m.Data[r*m.In : (r+1)*m.In] {
			s += float64(w) * float64(w)
		}
		return s
	})
	return scores, nil
}

func wanda(b *Block, u Unit, _ Options) ([]float64, error) {
	n := b.Output.In
	columns := make([]float64, n)
	for i := range b.Output.Out {
		for j, w := range b.Output.Data[i*n : (i+1)*n] {
			columns[j] += math.Abs(float64(w))
		}
	}
	for j := range columns {
		columns[j] *= math.Sqrt(max(b.Mid.Gram[j*n+j], 0))
	}
	return b.perUnit(u, columns), nil
}

func leverage(b *Block, u Unit, _ Options) ([]float64, error) {
	n := b.Mid.N
	lambda := linalg.MeanDiagonal(b.Mid.Gram, n)
	inverse, err := linalg.Inverse(linalg.OrCPU(b.Algebra), b.Mid.Gram, n, 1)
	if err != nil {
		return nil, err
	}
	// H(H + λI)⁻¹ = I − λ(H + λI)⁻¹
	columns := make([]float64, n)
	for j := range columns {
		columns[j] = 1 - lambda*inverse[j*n+j]
	}
	return b.perUnit(u, columns), nil
}

func taylor(b *Block, u Unit, _ Options) ([]float64, error) {
	for _, m := range append([]Matrix{b.Output}, b.Inner...) {
		if len(m.Gradient) != len(m.Data) {
			return nil, fmt.Errorf("gradients: %w", ErrNeeds)
		}
	}
	n := b.Output.In
	columns := make([]float64, n)
	for i, w := range b.Output.Data {
		columns[i%n] += math.Abs(float64(w) * float64(b.Output.Gradient[i]))
	}
	scores := b.perUnit(u, columns)
	b.addRows(u, scores, func(m Matrix, r int) float64 {
		var s float64
		for j := r * m.In; j < (r+1)*m.In; j++ {
			s += math.Abs(float64(m.Data[j]) * float64(m.Gradient[j]))
		}
		return s
	})
	return scores, nil
}

// Cosine returns the mean over tokens of the cosine between the hidden states before and after a layer, both
// [tokens, hidden] row-major: near 1 for a layer that changes little (ShortGPT, arXiv 2403.03853, calls 1 − cosine the
// block influence). Tokens whose state is zero are left out.
func Cosine(before, after []float32, hidden int) float64 {
	var total float64
	var count int
	for t := 0; t+hidden <= min(len(before), len(after)); t += hidden {
		var xy, xx, yy float64
		for i, x := range before[t : t+hidden] {
			y := after[t+i]
			xy += float64(x) * float64(y)
			xx += float64(x) * float64(x)
			yy += float64(y) * float64(y)
		}
		if xx > 0 && yy > 0 {
			total += xy / math.Sqrt(xx*yy)
			count++
		}
	}
	if count == 0 {
		return 0
	}
	return total / float64(count)
}
