package gguf

import (
	"bytes"
	"os"
)

// SetOutput redirects the writer to another file.
func SetOutput(w *Writer, f *os.File) {
	w.buf.Reset(f)
}

// DecodePure and EncodePure are the conversions in Go, the reference for ggml's in tests.
var (
	DecodePure = decodePure
	EncodePure = encodePure
)

// NewFile opens a file in memory.
func NewFile(b []byte) (*File, error) {
	return newFile("memory", bytes.NewReader(b), int64(len(b)))
}
