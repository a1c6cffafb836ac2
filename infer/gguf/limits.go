package gguf

// Limits on what a header may claim. They are far above any model in use and keep a hostile file from taking memory or time out of
// proportion to its size; every length is also held against the bytes that are left in the file before anything is allocated.
const (
	magic = 0x46554747 // "GGUF", little-endian

	// MaxHeaderBytes bounds the metadata and tensor table together.
	MaxHeaderBytes = 256 << 20
	// MaxKeys and MaxTensors bound the two counts at the head of a file.
	MaxKeys    = 1 << 16
	MaxTensors = 1 << 17
	// MaxKeyBytes bounds the length of a key, MaxNameBytes that of a tensor's name, as ggml does.
	MaxKeyBytes  = 1<<16 - 1
	MaxNameBytes = 63
	// MaxStringBytes bounds a text value, MaxArrayLength the elements of a list.
	MaxStringBytes = 16 << 20
	MaxArrayLength = 1 << 24
	// MaxDims is the number of dimensions that ggml knows.
	MaxDims = 4
	// MaxElements bounds the numbers in one tensor.
	MaxElements = 1 << 42
	// MaxAlignment bounds general.alignment.
	MaxAlignment = 1 << 20

	defaultAlignment = 32
)
