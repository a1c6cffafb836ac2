package linalg

// kernelPlain adds to a tile of c, whose rows are ld apart, the product of a packed by rows, [k][tileRows], and b packed by
// columns, [k][tileCols].
func kernelPlain(k int, a, b, c []float64, ld int) {
	// Two rows by four columns at a time fit the scalar registers.
	for i := 0; i < tileRows; i += 2 {
		for j := 0; j < tileCols; j += 4 {
			var c00, c01, c02, c03, c10, c11, c12, c13 float64
			for p := range k {
				x := a[p*tileRows+i : p*tileRows+i+2]
				y := b[p*tileCols+j : p*tileCols+j+4]
				c00 += x[0] * y[0]
				c01 += x[0] * y[1]
				c02 += x[0] * y[2]
				c03 += x[0] * y[3]
				c10 += x[1] * y[0]
				c11 += x[1] * y[1]
				c12 += x[1] * y[2]
				c13 += x[1] * y[3]
			}
			to := c[i*ld+j:][:4]
			to[0], to[1], to[2], to[3] = to[0]+c00, to[1]+c01, to[2]+c02, to[3]+c03
			to = c[(i+1)*ld+j:][:4]
			to[0], to[1], to[2], to[3] = to[0]+c10, to[1]+c11, to[2]+c12, to[3]+c13
		}
	}
}

// dotPlain returns the inner product of two slices of the same length.
func dotPlain(x, y []float64) float64 {
	var s0, s1 float64
	y = y[:len(x)]
	for len(x) >= 2 {
		s0 += x[0] * y[0]
		s1 += x[1] * y[1]
		x, y = x[2:], y[2:]
	}
	if len(x) == 1 {
		s0 += x[0] * y[0]
	}
	return s0 + s1
}
