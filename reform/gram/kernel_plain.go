//go:build !(goexperiment.simd && amd64)

package gram

func kernel(k int, a, b []float64, c *[tileRows * tileCols]float64) { kernelPlain(k, a, b, c) }

func dot(x, y []float64) float64 { return dotPlain(x, y) }
