package gguf

// Limits on headers. They are far above those of any model in use and keep a hostile file from taking memory or time out of
// proportion to its size; every length is also checked against the bytes left in the file before memory is allocated.
const (
	magic = 0x46554747 // "GGUF", little-endian

	// MaxHeaderBytes bounds the metadata and tensor table together.
	MaxHeaderBytes = 256 << 20
	// MaxKeys and MaxTensors bound the two counts at the start of a file.
	MaxKeys    = 1 << 16
	MaxTensors = 1 << 17
	// MaxKeyBytes bounds the length of a key, MaxNameBytes that of a tensor's name, as ggml does.
	MaxKeyBytes  = 1<<16 - 1
	MaxNameBytes = 63
	// MaxStringBytes bounds a string value, MaxArrayLength the elements of a list.
	MaxStringBytes = 16 << 20
	MaxArrayLength = 1 << 24
	// MaxDims is the number of dimensions in ggml.
	MaxDims = 4
	// MaxElements bounds the numbers in one tensor.
	MaxElements = 1 << 42
	// MaxAlignment bounds general.alignment.
	MaxAlignment = 1 << 20

	defaultAlignment = 32
)
