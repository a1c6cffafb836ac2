package explorer

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

	"github.com/lathe-llm/lathe/infer/durable"
)

// A journal is an append-only file of records, one line each: the CRC-32 of the JSON text in eight hexadecimal digits, a
// space, the JSON. A line whose sum does not match was torn by a crash, if it is the last, or damaged.
type journal struct {
	f    *os.File
	size int64 // bytes of whole lines
	fail error // set when the file's end can no longer be trusted
}

// Bounds of a journal that is read.
const (
	maxRecord  = 256 << 20
	maxJournal = 4 << 30
)

// damage is a part of a journal that could not be read.
type damage struct {
	line int
	err  error
}

// readJournal calls fold for every whole record of the file, in order. Parts that cannot be read are skipped and returned.
// size is the number of bytes up to the end of the last whole line.
func readJournal(path string, fold func(record) error) (size int64, records int, damaged []damage, err error) {
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
		return 0, 0, nil, fmt.Errorf("%s: %w: %d bytes, more than %d", path, ErrDamaged, info.Size(), int64(maxJournal))
	}
	in := bufio.NewReaderSize(f, 1<<20)
	for number := 1; ; number++ {
		line, err := readLine(in, maxRecord)
		if errors.Is(err, io.EOF) {
			if len(line) > 0 { // no end of line: torn by a crash while it was written, so nobody was told it is there
				damaged = append(damaged, damage{number, fmt.Errorf("%w: the line is not complete", ErrDamaged)})
			}
			return size, records, damaged, nil
		}
		if err != nil {
			return size, records, damaged, fmt.Errorf("%s: line %d: %w", path, number, err)
		}
		size += int64(len(line)) + 1
		r, err := parseRecord(line)
		if err == nil {
			err = fold(r)
		}
		if err != nil {
			damaged = append(damaged, damage{number, err})
			continue
		}
		records++
	}
}

func parseRecord(line []byte) (record, error) {
	var r record
	sum, text, ok := bytes.Cut(line, []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !ok || err != nil || len(sum) != 8 || crc32.ChecksumIEEE(text) != uint32(want) {
		return r, fmt.Errorf("%w: the checksum does not match", ErrDamaged)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return r, nil
}

// appendRecord adds a record's line to b.
func appendRecord(b []byte, r record) ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	b = fmt.Appendf(b, "%08x ", crc32.ChecksumIEEE(text))
	return append(append(b, text...), '\n'), nil
}

// openJournal opens a file for appending after its first size bytes; what follows them is cut off.
func openJournal(path string, size int64) (*journal, error) {
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
	return &journal{f: f, size: size}, nil
}

// Append writes records and forces them to the disk. If that fails nothing of them remains.
func (j *journal) Append(records []record) error {
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
func (j *journal) Close() error { return j.f.Close() }

// rewrite replaces the journal at path by one of these records, atomically, and returns its size.
func rewrite(path string, records []record) (int64, error) {
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
