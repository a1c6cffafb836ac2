// Package logtail reads the last lines of the logs of child processes, which errors quote.
package logtail

import (
	"bytes"
	"io"
	"os"
	"strings"
)

// Lines returns the last lines of a file, at most n, without blank ones and each cut to a readable length.
func Lines(path string, n int) []string {
	const tail, longest = 1 << 14, 200
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	data, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-tail), tail))
	if err != nil {
		return nil
	}
	var lines []string
	for line := range bytes.Lines(data) {
		text := strings.Map(Printable, strings.TrimSpace(string(line)))
		if text == "" {
			continue
		}
		if len(text) > longest {
			text = strings.ToValidUTF8(text[:longest], "") + "…"
		}
		lines = append(lines, text)
	}
	return lines[max(0, len(lines)-n):]
}

// Printable replaces control characters by spaces.
func Printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}
