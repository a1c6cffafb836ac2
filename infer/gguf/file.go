package gguf

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/lathe-llm/lathe/infer/durable"
)

// File is an open model file. Its methods may be called concurrently; Close must come last.
type File struct {
	path   string
	size   int64
	r      io.ReaderAt
	closer io.Closer
	header header
	byName map[string]Tensor

	hashing chan struct{} // is full while the hash is computed
	hash    string        // SHA-256, "" until it is computed

	vocabulary vocabularies
}

// header is everything before the tensor data.
type header struct {
	kv        *KV
	tensors   []Tensor
	alignment int64
	dataStart int64
}

// Open opens a model file and checks its header. The error names the file and the fault, and wraps [ErrFormat] where the file
// contradicts the format, [ErrType] where it has tensors of an unknown type, or the error of the operating system.
func Open(path string) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("gguf: %s: not a regular file: %w", path, ErrFormat)
	}
	r, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	f, err := newFile(path, r, info.Size())
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	f.closer = r
	return f, nil
}

// newFile reads the header of a file of size bytes.
func newFile(path string, r io.ReaderAt, size int64) (*File, error) {
	h, err := parseHeader(r, size)
	if err != nil {
		return nil, fmt.Errorf("gguf: %s: %w", path, err)
	}
	f := &File{path: path, size: size, r: r, header: h, hashing: make(chan struct{}, 1), byName: make(map[string]Tensor, len(h.tensors))}
	for _, t := range h.tensors {
		f.byName[t.Name] = t
	}
	f.splitFused()
	return f, nil
}

// Path returns the path that the file was opened by.
func (f *File) Path() string { return f.path }

// Size returns the size of the file in bytes.
func (f *File) Size() int64 { return f.size }

// KV returns the metadata. The caller must not change it.
func (f *File) KV() *KV { return f.header.kv }

// Tensors returns the tensors in the order of the file's header. The caller must not change the slice.
func (f *File) Tensors() []Tensor { return f.header.tensors }

// Tensor returns the description of a tensor, and whether there is one. Where a file holds Q, K and V of a layer in one attn_qkv, it also
// has tensors of the names of the three, each a range of rows of that tensor.
func (f *File) Tensor(name string) (Tensor, bool) {
	t, ok := f.byName[name]
	return t, ok
}

// Has reports whether [File.Tensor] finds the name.
func (f *File) Has(name string) bool {
	_, ok := f.byName[name]
	return ok
}

// Close releases the file.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// SHA256 returns the hash of the whole file in hexadecimal. It is computed once.
func (f *File) SHA256(ctx context.Context) (string, error) {
	select {
	case f.hashing <- struct{}{}:
		defer func() { <-f.hashing }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if f.hash != "" {
		return f.hash, nil
	}
	h := sha256.New()
	if _, err := io.CopyBuffer(h, durable.Reader(ctx, io.NewSectionReader(f.r, 0, f.size)), make([]byte, 1<<20)); err != nil {
		return "", fmt.Errorf("gguf: %s: %w", f.path, err)
	}
	f.hash = hex.EncodeToString(h.Sum(nil))
	return f.hash, nil
}
