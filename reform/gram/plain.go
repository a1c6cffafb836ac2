package gram

// kernelPlain sets c to the product of a packed by rows, [k][tileRows], and b packed by columns, [k][tileCols].
func kernelPlain(k int, a, b []float64, c *[tileRows * tileCols]float64) {
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
			o := i*tileCols + j
			c[o], c[o+1], c[o+2], c[o+3] = c00, c01, c02, c03
			o += tileCols
			c[o], c[o+1], c[o+2], c[o+3] = c10, c11, c12, c13
		}
	}
}

// dotPlain is the inner product of two slices of the same length.
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
