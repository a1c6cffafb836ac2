//go:build goexperiment.simd && amd64

package gram

import "simd/archsimd"

// kernel sets c to the product of a packed by rows, [k][tileRows], and b packed by columns, [k][tileCols].
func kernel(k int, a, b []float64, c *[tileRows * tileCols]float64) {
	if !archsimd.X86.AVX2() || !archsimd.X86.FMA() {
		kernelPlain(k, a, b, c)
		return
	}
	var c00, c01, c10, c11, c20, c21, c30, c31 archsimd.Float64x4
	// Two steps at a time: the results of a step end in other registers than they came from, and half the moves go.
	for ; k >= 2; k -= 2 {
		x, y := (*[2 * tileRows]float64)(a), (*[2 * tileCols]float64)(b)
		b0, b1 := archsimd.LoadFloat64x4((*[4]float64)(y[0:4])), archsimd.LoadFloat64x4((*[4]float64)(y[4:8]))
		v := archsimd.BroadcastFloat64x4(x[0])
		c00, c01 = v.MulAdd(b0, c00), v.MulAdd(b1, c01)
		v = archsimd.BroadcastFloat64x4(x[1])
		c10, c11 = v.MulAdd(b0, c10), v.MulAdd(b1, c11)
		v = archsimd.BroadcastFloat64x4(x[2])
		c20, c21 = v.MulAdd(b0, c20), v.MulAdd(b1, c21)
		v = archsimd.BroadcastFloat64x4(x[3])
		c30, c31 = v.MulAdd(b0, c30), v.MulAdd(b1, c31)
		b0, b1 = archsimd.LoadFloat64x4((*[4]float64)(y[8:12])), archsimd.LoadFloat64x4((*[4]float64)(y[12:16]))
		v = archsimd.BroadcastFloat64x4(x[4])
		c00, c01 = v.MulAdd(b0, c00), v.MulAdd(b1, c01)
		v = archsimd.BroadcastFloat64x4(x[5])
		c10, c11 = v.MulAdd(b0, c10), v.MulAdd(b1, c11)
		v = archsimd.BroadcastFloat64x4(x[6])
		c20, c21 = v.MulAdd(b0, c20), v.MulAdd(b1, c21)
		v = archsimd.BroadcastFloat64x4(x[7])
		c30, c31 = v.MulAdd(b0, c30), v.MulAdd(b1, c31)
		a, b = a[2*tileRows:], b[2*tileCols:]
	}
	if k == 1 {
		x, y := (*[tileRows]float64)(a), (*[tileCols]float64)(b)
		b0, b1 := archsimd.LoadFloat64x4((*[4]float64)(y[0:4])), archsimd.LoadFloat64x4((*[4]float64)(y[4:8]))
		v := archsimd.BroadcastFloat64x4(x[0])
		c00, c01 = v.MulAdd(b0, c00), v.MulAdd(b1, c01)
		v = archsimd.BroadcastFloat64x4(x[1])
		c10, c11 = v.MulAdd(b0, c10), v.MulAdd(b1, c11)
		v = archsimd.BroadcastFloat64x4(x[2])
		c20, c21 = v.MulAdd(b0, c20), v.MulAdd(b1, c21)
		v = archsimd.BroadcastFloat64x4(x[3])
		c30, c31 = v.MulAdd(b0, c30), v.MulAdd(b1, c31)
	}
	c00.Store((*[4]float64)(c[0:4]))
	c01.Store((*[4]float64)(c[4:8]))
	c10.Store((*[4]float64)(c[8:12]))
	c11.Store((*[4]float64)(c[12:16]))
	c20.Store((*[4]float64)(c[16:20]))
	c21.Store((*[4]float64)(c[20:24]))
	c30.Store((*[4]float64)(c[24:28]))
	c31.Store((*[4]float64)(c[28:32]))
}

// dot is the inner product of two slices of the same length.
func dot(x, y []float64) float64 {
	if !archsimd.X86.AVX2() || !archsimd.X86.FMA() {
		return dotPlain(x, y)
	}
	y = y[:len(x)]
	var s0, s1 archsimd.Float64x4
	for len(x) >= 8 {
		s0 = archsimd.LoadFloat64x4((*[4]float64)(x)).MulAdd(archsimd.LoadFloat64x4((*[4]float64)(y)), s0)
		s1 = archsimd.LoadFloat64x4((*[4]float64)(x[4:])).MulAdd(archsimd.LoadFloat64x4((*[4]float64)(y[4:])), s1)
		x, y = x[8:], y[8:]
	}
	var lanes [4]float64
	s0.Add(s1).Store(&lanes)
	return lanes[0] + lanes[1] + lanes[2] + lanes[3] + dotPlain(x, y)
}
