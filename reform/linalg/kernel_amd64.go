package linalg

import "golang.org/x/sys/cpu"

var (
	hasAVX2   = cpu.X86.HasAVX2 && cpu.X86.HasFMA
	hasAVX512 = cpu.X86.HasAVX512F
)

//go:noescape
func kernelAVX512(k int, a, b, c *float64, stride int)

//go:noescape
func kernelAVX2(k int, a, b, c *float64, stride int)

//go:noescape
func dotAVX2(n int, x, y *float64) float64

// kernel adds to a tile of c, whose rows are ld apart, the product of a packed by rows, [k][tileRows], and b packed by
// columns, [k][tileCols].
func kernel(k int, a, b, c []float64, ld int) {
	if k == 0 {
		return
	}
	// The assembly does not check bounds.
	a, b, c = a[:k*tileRows], b[:k*tileCols], c[:(tileRows-1)*ld+tileCols]
	const half = tileRows / 2
	switch {
	case hasAVX512:
		kernelAVX512(k, &a[0], &b[0], &c[0], 8*ld)
	case hasAVX2:
		kernelAVX2(k, &a[0], &b[0], &c[0], 8*ld)
		kernelAVX2(k, &a[half], &b[0], &c[half*ld], 8*ld)
	default:
		kernelPlain(k, a, b, c, ld)
	}
}

// dot returns the inner product of two slices of the same length.
func dot(x, y []float64) float64 {
	n := len(x) &^ 7
	if n == 0 || !hasAVX2 {
		return dotPlain(x, y)
	}
	y = y[:len(x)]
	return dotAVX2(n, &x[0], &y[0]) + dotPlain(x[n:], y[n:])
}
