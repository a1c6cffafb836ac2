package linalg

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Each kernel computes what the plain one does. The two assembly kernels add in the same order, so their results are equal to the
// last bit.
func TestKernelsOfAssembly(t *testing.T) {
	rng := rand.New(rand.NewPCG(15, 16))
	const ld = 11
	for _, k := range []int{1, 2, 63, 256} {
		a, b, start := random(rng, k*tileRows), random(rng, k*tileCols), random(rng, tileRows*ld)
		want := slices.Clone(start)
		kernelPlain(k, a, b, want, ld)
		var first []float64
		for name, run := range map[string]func(c []float64){
			"AVX-512": func(c []float64) { kernelAVX512(k, &a[0], &b[0], &c[0], 8*ld) },
			"AVX2": func(c []float64) {
				kernelAVX2(k, &a[0], &b[0], &c[0], 8*ld)
				kernelAVX2(k, &a[tileRows/2], &b[0], &c[tileRows/2*ld], 8*ld)
			},
		} {
			if name == "AVX-512" && !hasAVX512 || !hasAVX2 {
				continue
			}
			got := slices.Clone(start)
			run(got)
			if d := maxDiff(t, got, want); d > 1e-13 {
				t.Errorf("%s, depth %d: differs by %.2g", name, k, d)
			}
			if first == nil {
				first = got
			} else if !slices.Equal(first, got) {
				t.Errorf("%s, depth %d: not the same bits", name, k)
			}
		}
	}
}
