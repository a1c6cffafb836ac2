//go:build cgo && darwin && arm64 && !noxla

package decoder

// quiet does nothing: there are no plugins for CUDA on this system.
func quiet() (restore func()) { return func() {} }
