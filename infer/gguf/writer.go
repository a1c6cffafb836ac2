package gguf

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"

	"github.com/lathe-llm/lathe/infer/durable"
)

// Writer writes a file whose metadata and tensors are known in advance, tensor after tensor. The bytes go to a hidden file beside the
// destination. [Writer.Commit] renames it to the destination when everything is on disk.
//
//	w, err := gguf.Create("out.gguf", kv, tensors)
//	if err != nil {
//		return err
//	}
//	defer w.Abort()
//	for _, t := range tensors {
//		if err := w.Append(t.Name, data(t)); err != nil {
//			return err
//		}
//	}
//	return w.Commit()
type Writer struct {
	path      string
	file      *durable.File
	buf       *bufio.Writer
	tensors   []Tensor
	alignment int64
	pos       int64
	next      int   // index of the tensor being written
	left      int64 // bytes that it still needs
	done      bool
}

// Create starts a file. It uses the name, type and extents of each tensor and computes offset and size. The alignment is general.alignment
// where kv has it, else 32.
func Create(path string, kv *KV, tensors []Tensor) (*Writer, error) {
	w := newWriter(path, kv)
	head, err := w.layOut(kv, tensors)
	if err != nil {
		return nil, fmt.Errorf("gguf: writing %s: %w", path, err)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("gguf: writing %s: not a regular file", path)
	}
	if w.file, err = durable.Create(path, 0o666); err != nil {
		return nil, w.wrap(err)
	}
	w.buf = bufio.NewWriterSize(w.file, 1<<20)
	if err := w.write(head); err != nil {
		w.Abort()
		return nil, err
	}
	if len(w.tensors) > 0 {
		w.left = w.tensors[0].Size
	}
	return w, nil
}

func newWriter(path string, kv *KV) *Writer {
	w := &Writer{path: path, alignment: defaultAlignment}
	if a, ok := kv.Uint("general.alignment"); ok {
		w.alignment = int64(min(a, MaxAlignment+1))
	}
	return w
}

// Tensors returns the tensors as laid out.
func (w *Writer) Tensors() []Tensor { return w.tensors }

// Bytes returns the size of the complete file.
func (w *Writer) Bytes() int64 {
	if len(w.tensors) == 0 {
		return w.pos
	}
	last := w.tensors[len(w.tensors)-1]
	return alignUp(last.Offset+last.Size, w.alignment)
}

// Append writes the next bytes of a tensor. Tensors must come in the order given to [Create], each in any number of pieces.
func (w *Writer) Append(name string, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if w.next >= len(w.tensors) || w.tensors[w.next].Name != name || int64(len(data)) > w.left {
		return fmt.Errorf("gguf: writing %s: %d bytes of tensor %q are out of order", w.path, len(data), name)
	}
	if err := w.write(data); err != nil {
		return err
	}
	if w.left -= int64(len(data)); w.left > 0 {
		return nil
	}
	if err := w.write(make([]byte, alignUp(w.pos, w.alignment)-w.pos)); err != nil {
		return err
	}
	if w.next++; w.next < len(w.tensors) {
		w.left = w.tensors[w.next].Size
	}
	return nil
}

// Commit renames the file to its destination when it is complete and on disk. After an error nothing is left.
func (w *Writer) Commit() error {
	if w.done {
		return fmt.Errorf("gguf: writing %s: already committed or aborted", w.path)
	}
	defer w.Abort()
	if w.next < len(w.tensors) {
		return fmt.Errorf("gguf: writing %s: tensor %q is not complete", w.path, w.tensors[w.next].Name)
	}
	if err := w.buf.Flush(); err != nil {
		return w.wrap(err)
	}
	return w.wrap(w.file.Commit())
}

// Abort removes the hidden file. It does nothing after [Writer.Commit].
func (w *Writer) Abort() {
	if w.done {
		return
	}
	w.done = true
	_ = w.file.Close() // nothing can be done about a temporary file that cannot be removed
}

func (w *Writer) write(b []byte) error {
	n, err := w.buf.Write(b)
	w.pos += int64(n)
	return w.wrap(err)
}

// wrap adds what was done, with the path once.
func (w *Writer) wrap(err error) error {
	if err == nil {
		return nil
	}
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Errorf("gguf: writing %s: %w", w.path, err)
}

// layOut sets the offset and the size of each tensor and returns the header.
func (w *Writer) layOut(kv *KV, tensors []Tensor) ([]byte, error) {
	if w.alignment <= 0 || w.alignment > MaxAlignment || w.alignment&(w.alignment-1) != 0 {
		return nil, fmt.Errorf("alignment %d is not a power of two up to %d", w.alignment, MaxAlignment)
	}
	var b bytes.Buffer
	put(&b, uint32(magic))
	put(&b, uint32(3))
	put(&b, uint64(len(tensors)))
	put(&b, uint64(kv.Len()))
	for _, key := range kv.keys {
		putString(&b, key)
		putValue(&b, kv.values[key])
	}
	names := make(map[string]bool, len(tensors))
	var offset int64
	for _, t := range tensors {
		if t.Name == "" || len(t.Name) > MaxNameBytes || names[t.Name] {
			return nil, fmt.Errorf("tensor %q: the name occurs twice or is not 1 to %d bytes long", t.Name, MaxNameBytes)
		}
		names[t.Name] = true
		if len(t.Dims) == 0 || len(t.Dims) > MaxDims || t.Elements() <= 0 {
			return nil, fmt.Errorf("tensor %q: extents %v", t.Name, t.Dims)
		}
		row := t.Dims[len(t.Dims)-1]
		rowSize, ok := t.Type.RowSize(row)
		if !ok {
			return nil, fmt.Errorf("tensor %q: %w: rows of %d cannot be %s", t.Name, ErrType, row, t.Type)
		}
		t.Offset, t.Size = offset, rowSize*(t.Elements()/int64(row))
		offset = alignUp(offset+t.Size, w.alignment)
		putString(&b, t.Name)
		put(&b, uint32(len(t.Dims)))
		for i := range t.Dims {
			put(&b, uint64(t.Dims[len(t.Dims)-1-i]))
		}
		put(&b, uint32(t.Type))
		put(&b, uint64(t.Offset))
		w.tensors = append(w.tensors, t)
	}
	b.Write(make([]byte, alignUp(int64(b.Len()), w.alignment)-int64(b.Len())))
	for i := range w.tensors {
		w.tensors[i].Offset += int64(b.Len())
	}
	if b.Len() > MaxHeaderBytes {
		return nil, fmt.Errorf("the header takes %d bytes of %d allowed", b.Len(), MaxHeaderBytes)
	}
	return b.Bytes(), nil
}

// put writes a number, or a list of numbers, in little-endian order. That cannot fail in memory.
func put(b *bytes.Buffer, v any) {
	if err := binary.Write(b, binary.LittleEndian, v); err != nil {
		panic(err)
	}
}

func putString(b *bytes.Buffer, s string) {
	put(b, uint64(len(s)))
	b.WriteString(s)
}

// putValue writes the kind of a value of a KV and the value.
func putValue(b *bytes.Buffer, value any) {
	t := reflect.TypeOf(value)
	if k, ok := kindOf(t); ok {
		put(b, k)
		if s, ok := value.(string); ok {
			putString(b, s)
			return
		}
		put(b, value)
		return
	}
	elem, _ := kindOf(t.Elem())
	put(b, kindArray)
	put(b, elem)
	put(b, uint64(reflect.ValueOf(value).Len()))
	list, ok := value.([]string)
	if !ok {
		put(b, value)
		return
	}
	for _, s := range list {
		putString(b, s)
	}
}
