package gguf

import (
	"bytes"
	"os"
)

// SetOutput sends what the writer writes from now on to another file.
func SetOutput(w *Writer, f *os.File) {
	w.buf.Reset(f)
}

// DecodePure and EncodePure are the conversions in Go that tests hold ggml's against.
var (
	DecodePure = decodePure
	EncodePure = encodePure
)

// NewFile opens a file that lies in memory.
func NewFile(b []byte) (*File, error) {
	return newFile("memory", bytes.NewReader(b), int64(len(b)))
}
