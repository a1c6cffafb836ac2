package records

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Lines calls each with every line of a file of JSON lines, counted from 1, without empty ones. An error of each ends the reading;
// ErrStop does so without an error.
func Lines(r io.Reader, b Bounds, each func(row int, object []byte) error) error {
	scan := bufio.NewScanner(r)
	scan.Buffer(make([]byte, 0, min(b.Row, 64<<10)), b.Row)
	n := 0
	for scan.Scan() {
		n++
		text := scan.Bytes()
		if n == 1 {
			text = bytes.TrimPrefix(text, []byte("\ufeff"))
		}
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		if int64(n) > b.Rows {
			return fmt.Errorf("line %d: %w: at most %d lines", n, ErrFormat, b.Rows)
		}
		err := each(n, text)
		if errors.Is(err, ErrStop) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	err := scan.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("line %d: %w: more than %d bytes", n+1, ErrFormat, b.Row)
	}
	if err != nil {
		return fmt.Errorf("after line %d: %w", n, err)
	}
	return nil
}
