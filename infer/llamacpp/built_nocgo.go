//go:build !cgo || nocgo

package llamacpp

// BuiltIn reports whether the program has llama.cpp.
const BuiltIn = false
