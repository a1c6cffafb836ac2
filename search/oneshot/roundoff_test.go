//go:build cgo && !nocgo

package oneshot

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/linalg"
)

// TestCompensated compares the errors of outputs, tr(ΔW·H·ΔWᵀ), of rounding with and without compensation, for correlated inputs: compensation
// must take away a fifth at least.
func TestCompensated(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const n, out, tokens = 256, 16, 1024
	x := make([]float64, tokens*n)
	for i := range tokens {
		var common [4]float64
		for k := range common {
			common[k] = rng.NormFloat64()
		}
		for j := range n {
			x[i*n+j] = rng.NormFloat64()/2 + common[j%4]
		}
	}
	gram := make([]float64, n*n)
	for i := range tokens {
		for a := range n {
			for b := range n {
				gram[a*n+b] += x[i*n+a] * x[i*n+b] / tokens
			}
		}
	}
	matrix := make([]float32, out*n)
	for i := range matrix {
		matrix[i] = float32(rng.NormFloat64())
	}
	factor, err := inverseFactor(nil, shrunk(gram, n, tokens), n)
	if err != nil {
		t.Fatal(err)
	}
	errorOf := func(w []float32, typ subnet.Type) float64 {
		back, err := gguf.Round(typ, w, n, nil)
		if err != nil {
			t.Fatal(err)
		}
		d := make([]float64, len(back))
		for i := range d {
			d[i] = float64(back[i]) - float64(matrix[i])
		}
		return linalg.Dot(linalg.Product(out, n, n, d, gram), d)
	}
	for _, typ := range []subnet.Type{subnet.Q4_0, subnet.IQ4_NL, subnet.Q5_1} {
		w, err := compensated(typ, matrix, out, factor, nil)
		if err != nil {
			t.Fatal(err)
		}
		plain, own := errorOf(matrix, typ), errorOf(w, typ)
		t.Logf("%v: %.4g, compensated %.4g", typ, plain, own)
		if !(own < 0.8*plain) || math.IsNaN(own) {
			t.Errorf("%v: error %g, %g without compensation", typ, own, plain)
		}
	}
}
