package levels

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"runtime/debug"
)

// content is the content of an open file: mapped into memory or, where the system cannot do so, read from the file. A mapped file
// needs no descriptor, and its pages are shared by processes and given back when memory is short.
type content struct {
	size   int64
	mapped []byte   // nil where file is read
	file   *os.File // nil where it is mapped
}

// mapper maps so many bytes of a file into memory. Its error means that the file is read instead.
type mapper func(f *os.File, size int64) ([]byte, error)

func openContent(path string, mapped mapper) (content, error) {
	f, err := os.Open(path)
	if err != nil {
		return content{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return content{}, errors.Join(err, f.Close())
	}
	c := content{size: info.Size(), file: f}
	if c.size > 0 && c.size == int64(int(c.size)) {
		if c.mapped, err = mapped(f, c.size); err == nil {
			c.file = nil
			return c, f.Close()
		}
		c.mapped = nil
	}
	return c, nil
}

func (c content) close() error {
	if c.mapped != nil {
		return unmap(c.mapped)
	}
	return c.file.Close()
}

// errGone is returned when a mapped file was cut off or its disk fails.
var errGone = errors.New("the file cannot be read any more")

// guarded calls read, which accesses the mapping, and returns a fault in it as an error.
func (c content) guarded(read func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			err = errGone
		default:
			panic(fault)
		}
	}()
	read()
	return nil
}

// header checks the magic, the length of the header and the checksum of a file and returns its header.
func (c content) header(magic string) ([]byte, error) {
	head := make([]byte, fileStart)
	if err := c.readAt(head, 0); err != nil {
		return nil, fmt.Errorf("its start of %d bytes: %w", fileStart, err)
	}
	if string(head[:len(magic)]) != magic {
		return nil, fmt.Errorf("magic %q is not %q", head[:len(magic)], magic)
	}
	length := int64(binary.LittleEndian.Uint32(head[fileStart-4:]))
	if length > maxHeader || length > c.size-int64(fileStart) {
		return nil, fmt.Errorf("header length %d: at most %d bytes, and the file has %d", length, maxHeader, c.size)
	}
	sum, err := c.checksum(int64(fileStart - 4))
	if err != nil {
		return nil, fmt.Errorf("checksum: %w", err)
	}
	if want := binary.LittleEndian.Uint32(head[len(magic):]); want != sum {
		return nil, fmt.Errorf("checksum %08x, its content has %08x", want, sum)
	}
	text := make([]byte, length)
	if err := c.readAt(text, int64(fileStart)); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	return text, nil
}

// readAt fills p from an offset.
func (c content) readAt(p []byte, at int64) error {
	if at < 0 || at > c.size || int64(len(p)) > c.size-at {
		return io.ErrUnexpectedEOF
	}
	if c.mapped == nil {
		_, err := c.file.ReadAt(p, at)
		return err
	}
	return c.guarded(func() { copy(p, c.mapped[at:]) })
}

// floats fills out with the little-endian numbers from an offset.
func (c content) floats(out []float32, at int64) error {
	size := 4 * int64(len(out))
	if at < 0 || at > c.size || size > c.size-at {
		return io.ErrUnexpectedEOF
	}
	if c.mapped != nil {
		return c.guarded(func() { decode(out, c.mapped[at:at+size]) })
	}
	raw := make([]byte, min(size, 1<<20))
	for len(out) > 0 {
		n := min(len(out), len(raw)/4)
		if err := c.readAt(raw[:4*n], at); err != nil {
			return err
		}
		decode(out[:n], raw)
		out, at = out[n:], at+4*int64(n)
	}
	return nil
}

// decode fills out with the numbers at the start of raw.
func decode(out []float32, raw []byte) {
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
}

// checksum returns the CRC-32C of everything from an offset.
func (c content) checksum(from int64) (sum uint32, err error) {
	if c.mapped != nil {
		err = c.guarded(func() { sum = crc32.Checksum(c.mapped[from:], castagnoli()) })
		return sum, err
	}
	h := crc32.New(castagnoli())
	if _, err := io.Copy(h, io.NewSectionReader(c.file, from, c.size-from)); err != nil {
		return 0, fmt.Errorf("reading: %w", err)
	}
	return h.Sum32(), nil
}
