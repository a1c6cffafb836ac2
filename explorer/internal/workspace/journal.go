package workspace

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"

	"github.com/lathe-llm/lathe/explorer/internal/fault"

	"github.com/lathe-llm/lathe/infer/durable"
)

// A Journal is an append-only file of records of type R, one line each: the CRC-32 of the JSON text in eight hexadecimal
// digits, a space, the JSON. A line whose sum does not match was torn by a crash, if it is the last, or damaged.
type Journal[R any] struct {
	f    *os.File
	size int64 // bytes of whole lines
	fail error // set when the file's end can no longer be trusted
}

// Bounds of a journal that is read.
const (
	maxRecord  = 256 << 20
	maxJournal = 4 << 30
)

// Damage is a line of a journal that could not be read.
type Damage struct {
	Line int
	Err  error
}

// ReadJournal calls fold for every whole record of the file, in order. Lines that cannot be read are skipped and returned.
// size is the number of bytes up to the end of the last whole line.
func ReadJournal[R any](path string, fold func(R) error) (size int64, records int, damaged []Damage, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, nil, nil
	}
	if err != nil {
		return 0, 0, nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	info, err := f.Stat()
	if err != nil {
		return 0, 0, nil, err
	}
	if info.Size() > maxJournal {
		return 0, 0, nil, fmt.Errorf("%s: %w: %d bytes, more than %d", path, fault.ErrDamaged, info.Size(), int64(maxJournal))
	}
	in := bufio.NewReaderSize(f, 1<<20)
	for number := 1; ; number++ {
		line, err := readLine(in, maxRecord)
		if errors.Is(err, io.EOF) {
			if len(line) > 0 { // no end of line: torn by a crash while it was written: its command had not returned
				damaged = append(damaged, Damage{number, fmt.Errorf("%w: the line is not complete", fault.ErrDamaged)})
			}
			return size, records, damaged, nil
		}
		if err != nil {
			return size, records, damaged, fmt.Errorf("%s: line %d: %w", path, number, err)
		}
		size += int64(len(line)) + 1
		r, err := parseRecord[R](line)
		if err == nil {
			err = fold(r)
		}
		if err != nil {
			damaged = append(damaged, Damage{number, err})
			continue
		}
		records++
	}
}

func parseRecord[R any](line []byte) (R, error) {
	var r R
	sum, text, ok := bytes.Cut(line, []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !ok || err != nil || len(sum) != 8 || uint64(crc32.ChecksumIEEE(text)) != want {
		return r, fmt.Errorf("%w: the checksum does not match", fault.ErrDamaged)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%w: %w", fault.ErrDamaged, err)
	}
	return r, nil
}

// appendRecord adds a record's line to b.
func appendRecord[R any](b []byte, r R) ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	b = fmt.Appendf(b, "%08x ", crc32.ChecksumIEEE(text))
	return append(append(b, text...), '\n'), nil
}

// OpenJournal opens a file for appending after its first size bytes; what follows them is cut off.
func OpenJournal[R any](path string, size int64) (*Journal[R], error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = f.Truncate(size)
	if err == nil {
		_, err = f.Seek(size, io.SeekStart)
	}
	if err == nil {
		err = durable.SyncName(path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Journal[R]{f: f, size: size}, nil
}

// Append writes records and forces them to the disk. If that fails none of them remains.
func (j *Journal[R]) Append(records []R) error {
	if j.fail != nil {
		return j.fail
	}
	var b []byte
	for _, r := range records {
		var err error
		if b, err = appendRecord(b, r); err != nil {
			return err
		}
	}
	if len(b) == 0 {
		return nil
	}
	_, err := j.f.Write(b)
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		undo := j.f.Truncate(j.size)
		if undo == nil {
			_, undo = j.f.Seek(j.size, io.SeekStart)
		}
		if undo != nil {
			j.fail = fmt.Errorf("%s: what was written last could not be taken back: %w", j.f.Name(), undo)
		}
		return errors.Join(err, undo)
	}
	j.size += int64(len(b))
	return nil
}

// Close closes the file.
func (j *Journal[R]) Close() error { return j.f.Close() }

// RewriteJournal replaces the journal at path by one of these records, atomically, and returns its size in bytes.
func RewriteJournal[R any](path string, records []R) (int64, error) {
	var size int64
	err := durable.Write(path, 0o600, func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 1<<20)
		for _, r := range records {
			line, err := appendRecord(nil, r)
			if err != nil {
				return err
			}
			size += int64(len(line))
			if _, err := out.Write(line); err != nil {
				return err
			}
		}
		return out.Flush()
	})
	return size, err
}
