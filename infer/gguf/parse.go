package gguf

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"reflect"
	"slices"
)

// parser reads a header. It keeps its first error: every later read returns zero values.
type parser struct {
	r         *bufio.Reader
	pos, size int64
	err       error
}

// parseHeader reads and checks the header of a file of size bytes.
func parseHeader(r io.ReaderAt, size int64) (header, error) {
	limit := min(size, MaxHeaderBytes)
	p := &parser{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, limit), 64<<10), size: limit}
	h := p.header()
	if p.err != nil {
		return header{}, p.err
	}
	if err := checkTensors(h, size); err != nil {
		return header{}, err
	}
	return h, nil
}

func (p *parser) header() header {
	if m := p.uint32("magic"); p.err == nil && m != magic {
		p.fail("magic", "%q is not %q", binary.LittleEndian.AppendUint32(nil, m), "GGUF")
	}
	version := p.uint32("version")
	if p.err == nil && version != 2 && version != 3 {
		if v := bits.ReverseBytes32(version); v >= 1 && v <= 3 {
			p.fail("version", "the file is big-endian")
		} else {
			p.fail("version", "%d is not 2 or 3", version)
		}
	}
	tensors := p.count("tensor count", MaxTensors, 24)
	keys := p.count("key count", MaxKeys, 13)

	h := header{kv: &KV{values: make(map[string]any, min(keys, 1024))}, alignment: defaultAlignment}
	for i := 0; i < keys && p.err == nil; i++ {
		key := p.string(fmt.Sprintf("key %d", i), MaxKeyBytes)
		field := fmt.Sprintf("key %q", key)
		value := p.value(field)
		if p.err != nil {
			break
		}
		if h.kv.Has(key) {
			p.fail(field, "occurs twice")
			break
		}
		h.kv.keys = append(h.kv.keys, key)
		h.kv.values[key] = value
	}
	if p.err == nil && h.kv.Has("general.alignment") {
		a, ok := h.kv.Uint("general.alignment")
		if !ok || a == 0 || a > MaxAlignment || a&(a-1) != 0 {
			p.fail(`key "general.alignment"`, "%v is not a power of two up to %d", h.kv.values["general.alignment"], MaxAlignment)
		}
		h.alignment = int64(a)
	}
	for i := 0; i < tensors && p.err == nil; i++ {
		h.tensors = append(h.tensors, p.tensor(i))
	}
	if p.err == nil {
		h.dataStart = alignUp(p.pos, h.alignment)
	}
	return h
}

func (p *parser) tensor(i int) Tensor {
	t := Tensor{Name: p.string(fmt.Sprintf("tensor %d: name", i), MaxNameBytes)}
	field := fmt.Sprintf("tensor %q", t.Name)
	n := p.uint32(field)
	if p.err == nil && (n == 0 || n > MaxDims) {
		p.fail(field, "%d dimensions", n)
		return t
	}
	elements := uint64(1)
	for range n {
		d := p.uint64(field)
		if p.err != nil {
			return t
		}
		hi, lo := bits.Mul64(elements, d)
		if d == 0 || hi != 0 || lo > MaxElements {
			p.fail(field, "dimension %d in a tensor that may hold 1 to %d numbers", d, int64(MaxElements))
			return t
		}
		elements = lo
		t.Dims = append(t.Dims, int(d))
	}
	slices.Reverse(t.Dims)
	t.Type = Type(p.uint32(field))
	offset := p.uint64(field)
	if p.err != nil {
		return t
	}
	if !t.Type.Known() {
		p.err = fmt.Errorf("%s: %w: %s", field, ErrType, t.Type)
		return t
	}
	row := t.Dims[len(t.Dims)-1]
	rowSize, whole := t.Type.RowSize(row)
	if !whole {
		p.fail(field, "rows of %d are not a multiple of the %d that %s stores together", row, t.Type.Block(), t.Type)
		return t
	}
	if offset > math.MaxInt64 {
		p.fail(field, "offset %d", offset)
		return t
	}
	t.Offset = int64(offset)
	t.Size = int64(elements) / int64(row) * rowSize
	return t
}

// checkTensors turns the offsets of h, which count from the start of the data, into positions in the file. It checks that every tensor is
// inside the file, aligned, overlaps no other and has a unique name.
func checkTensors(h header, size int64) error {
	names := make(map[string]bool, len(h.tensors))
	for i := range h.tensors {
		t := &h.tensors[i]
		if names[t.Name] {
			return fmt.Errorf("tensor %q: occurs twice: %w", t.Name, ErrFormat)
		}
		names[t.Name] = true
		if t.Offset%h.alignment != 0 {
			return fmt.Errorf("tensor %q: offset %d is not a multiple of the alignment %d: %w", t.Name, t.Offset, h.alignment, ErrFormat)
		}
		if data := size - h.dataStart; data < t.Size || t.Offset > data-t.Size {
			return fmt.Errorf("tensor %q: %d bytes at offset %d end after the end of the file: %w",
				t.Name, t.Size, t.Offset, ErrFormat)
		}
		t.Offset += h.dataStart
	}
	byOffset := slices.Clone(h.tensors)
	slices.SortFunc(byOffset, func(a, b Tensor) int {
		switch {
		case a.Offset < b.Offset:
			return -1
		case a.Offset > b.Offset:
			return 1
		}
		return 0
	})
	for i := 1; i < len(byOffset); i++ {
		if a, b := byOffset[i-1], byOffset[i]; a.Offset+a.Size > b.Offset {
			return fmt.Errorf("tensor %q: overlaps tensor %q: %w", b.Name, a.Name, ErrFormat)
		}
	}
	return nil
}

// value reads a value and its kind.
func (p *parser) value(field string) any {
	k := kind(p.uint32(field))
	if p.err != nil {
		return nil
	}
	if k != kindArray {
		return p.scalar(field, k)
	}
	switch elem := kind(p.uint32(field)); {
	case p.err != nil:
	case elem == kindString:
		n := p.count(field+": length", MaxArrayLength, 8)
		list := make([]string, 0, min(n, 1<<16))
		for i := 0; i < n && p.err == nil; i++ {
			list = append(list, p.string(field, MaxStringBytes))
		}
		return list
	case elem == kindArray:
		p.fail(field, "a list of lists")
	case int(elem) >= len(kinds):
		p.fail(field, "a list of values of unknown kind %d", elem)
	default:
		return p.list(field, kinds[elem])
	}
	return nil
}

// list reads a list of numbers or bools.
func (p *parser) list(field string, t reflect.Type) any {
	n := p.count(field+": length", MaxArrayLength, int(t.Size()))
	if p.err != nil {
		return nil
	}
	if t.Kind() == reflect.Bool {
		list := make([]bool, n)
		for i := range list {
			list[i] = p.bool(field)
		}
		return list
	}
	list := reflect.MakeSlice(reflect.SliceOf(t), n, n).Interface()
	p.check(field, binary.Read(p.r, binary.LittleEndian, list))
	p.pos += int64(n) * int64(t.Size())
	return list
}

func (p *parser) scalar(field string, k kind) any {
	switch {
	case k == kindBool:
		return p.bool(field)
	case k == kindString:
		return p.string(field, MaxStringBytes)
	case int(k) >= len(kinds):
		p.fail(field, "a value of unknown kind %d", k)
		return nil
	}
	v := reflect.New(kinds[k])
	b := make([]byte, kinds[k].Size())
	p.read(field, b)
	p.check(field, binary.Read(bytes.NewReader(b), binary.LittleEndian, v.Interface()))
	return v.Elem().Interface()
}

func (p *parser) bool(field string) bool {
	var b [1]byte
	p.read(field, b[:])
	if b[0] > 1 {
		p.fail(field, "%d is neither true nor false", b[0])
	}
	return b[0] == 1
}

// count reads the number of items that take at least width bytes each.
func (p *parser) count(field string, limit, width int) int {
	n := p.uint64(field)
	if p.err != nil {
		return 0
	}
	if n > uint64(limit) {
		p.fail(field, "%d is more than the %d allowed", n, limit)
		return 0
	}
	if int64(n)*int64(width) > p.size-p.pos {
		p.fail(field, "%d items do not fit into the rest of the header", n)
		return 0
	}
	return int(n)
}

func (p *parser) string(field string, limit int) string {
	b := make([]byte, p.count(field+": length", limit, 1))
	p.read(field, b)
	return string(b)
}

func (p *parser) uint32(field string) uint32 {
	var b [4]byte
	p.read(field, b[:])
	return binary.LittleEndian.Uint32(b[:])
}

func (p *parser) uint64(field string) uint64 {
	var b [8]byte
	p.read(field, b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// read fills b, with zeros after an error.
func (p *parser) read(field string, b []byte) {
	if p.err != nil {
		return
	}
	n, err := io.ReadFull(p.r, b)
	p.pos += int64(n)
	if err != nil {
		clear(b)
		p.check(field, err)
	}
}

// check keeps a read error. The end of the input is a truncated file or a header beyond its limit.
func (p *parser) check(field string, err error) {
	switch {
	case err == nil || p.err != nil:
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		if p.size == MaxHeaderBytes {
			p.fail(field, "the header is longer than %d bytes", MaxHeaderBytes)
		} else {
			p.fail(field, "the file ends at byte %d, inside the header", p.size)
		}
	default:
		p.err = fmt.Errorf("%s: %w", field, err)
	}
}

// fail keeps an error about the format.
func (p *parser) fail(field, format string, args ...any) {
	if p.err != nil {
		return
	}
	p.err = fmt.Errorf("%s: %s: %w", field, fmt.Sprintf(format, args...), ErrFormat)
}

func alignUp(n, alignment int64) int64 {
	return (n + alignment - 1) &^ (alignment - 1)
}
