//go:build !amd64

package linalg

func kernel(k int, a, b, c []float64, ld int) { kernelPlain(k, a, b, c, ld) }

func dot(x, y []float64) float64 { return dotPlain(x, y) }
