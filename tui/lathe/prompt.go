package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// prompts reads prompts from a terminal. It takes characters as they are typed rather than lines, of which the system cuts off
// what is beyond 4095 bytes, and asks the terminal to bracket what is pasted, so that several pasted lines are one prompt.
type prompts struct {
	in    *bufio.Reader
	echo  *bufio.Writer // the terminal
	raw   bool          // the terminal neither echoes nor edits
	close func()        // gives the terminal back
}

// Sequences of bracketed paste.
const (
	pasteOn  = "\x1b[?2004h"
	pasteOff = "\x1b[?2004l"
)

// openPrompts prepares the terminal for prompts. Without control over it prompts are the system's lines.
func (a *app) openPrompts() *prompts {
	p := &prompts{in: bufio.NewReader(a.stdin), echo: bufio.NewWriter(a.stderr), close: func() {}}
	tty, ok := a.stdin.(*os.File)
	if !ok {
		return p
	}
	if !isTerminal(a.stderr) {
		p.echo = bufio.NewWriter(tty)
	}
	restore, err := characters(tty)
	if err != nil {
		return p
	}
	p.raw, p.close = true, restore
	if !a.dumb() {
		p.send(pasteOn)
		p.close = func() {
			p.send(pasteOff)
			restore()
		}
	}
	return p
}

// errLongPrompt: a prompt is longer than maxPiped.
var errLongPrompt = usage(fmt.Errorf("the prompt is longer than %d bytes", maxPiped))

// next returns the next prompt, or io.EOF. The goroutine that reads may outlive ctx: a read from a terminal cannot be
// cancelled.
func (p *prompts) next(ctx context.Context) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		r.text, r.err = p.read()
		done <- r
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// read reads one prompt.
func (p *prompts) read() (string, error) {
	var (
		text     []rune
		size     int  // of text in bytes
		long     bool // characters were left out
		pasting  bool
		returned bool // the last character pasted was a carriage return
	)
	insert := func(r rune) {
		if size+utf8.RuneLen(r) > maxPiped {
			long = true
			return
		}
		size += utf8.RuneLen(r)
		text = append(text, r)
		p.show(string(r))
	}
	erase := func(stop func(i int) bool) {
		text = p.erase(text, stop)
		size = len(string(text))
	}
	finish := func() (string, error) {
		if long {
			return "", errLongPrompt
		}
		return string(text), nil
	}
	defer p.send("")
	for {
		if p.in.Buffered() == 0 {
			p.send("")
		}
		r, _, err := p.in.ReadRune()
		if errors.Is(err, io.EOF) && len(text) > 0 {
			return finish()
		}
		if err != nil {
			return "", err
		}
		switch {
		case r == '\x1b' && p.raw:
			switch p.sequence() {
			case "[200~":
				pasting, returned = true, false
			case "[201~":
				pasting = false
			}
		case pasting && r == '\n' && returned: // of a CRLF
			returned = false
		case pasting && (r == '\r' || r == '\n'):
			returned = r == '\r'
			insert('\n')
		case r == '\r' || r == '\n':
			p.show("\n")
			return finish()
		case pasting, r == '\t', !p.raw:
			returned = false
			insert(r)
		case r == '\x04':
			if len(text) == 0 {
				return "", io.EOF
			}
		case r == '\x7f' || r == '\b':
			erase(func(i int) bool { return ansi.StringWidth(string(text[i])) > 0 })
		case r == '\x15':
			erase(func(i int) bool { return i == 0 || text[i-1] == '\n' })
		case r == '\x17':
			erase(func(i int) bool { return i == 0 || unicode.IsSpace(text[i-1]) && !unicode.IsSpace(text[i]) })
		case !unicode.IsControl(r):
			insert(r)
		}
	}
}

// send sends text to the terminal, after what is held back of the echo. A terminal that has hung up is noticed in reading.
func (p *prompts) send(text string) {
	_, _ = p.echo.WriteString(text)
	_ = p.echo.Flush()
}

// sequence reads the rest of an escape sequence.
func (p *prompts) sequence() string {
	var b strings.Builder
	for b.Len() < 32 {
		r, _, err := p.in.ReadRune()
		if err != nil {
			break
		}
		b.WriteRune(r)
		if b.Len() == 1 && (r == '[' || r == 'O') {
			continue
		}
		if b.Len() == 1 || r >= 0x40 && r <= 0x7e {
			break
		}
	}
	return b.String()
}

// show echoes text, without what would control the terminal.
func (p *prompts) show(text string) {
	if !p.raw {
		return
	}
	fmt.Fprint(p.echo, strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == '\n':
			return r
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029':
			return -1
		}
		return r
	}, text))
}

// erase removes characters from the end up to and including the one at which stop holds, but no line break before others, and
// returns what is left.
func (p *prompts) erase(text []rune, stop func(i int) bool) []rune {
	for i := len(text) - 1; i >= 0; i-- {
		last := stop(i)
		w := ansi.StringWidth(string(text[i]))
		if text[i] == '\t' {
			w, last = 1, true
		}
		fmt.Fprint(p.echo, strings.Repeat("\b \b", w))
		broke := text[i] == '\n'
		text = text[:i]
		if last || broke {
			break
		}
	}
	return text
}
