package jinja

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type kind uint8

const (
	eof kind = iota
	data
	blockBegin
	blockEnd
	variableBegin
	variableEnd
	name
	stringLiteral
	integerLiteral
	floatLiteral
	operator
)

type token struct {
	kind kind
	text string // of a string literal: its value
	line int
}

func (t token) String() string {
	switch t.kind {
	case eof:
		return "end of template"
	case data:
		return "text"
	case stringLiteral:
		return "string"
	default: // nothing for the others
	}
	return "'" + t.text + "'"
}

// SyntaxError is an error in a template's source.
type SyntaxError struct {
	Line    int
	Problem string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Problem) }

// lexer splits source into tokens, with trim_blocks and lstrip_blocks.
type lexer struct {
	source string
	at     int
	line   int
	tokens []token
	// lineStart reports that the last tag ended with its line, so that white space before the next one may be stripped.
	lineStart bool
}

func scan(source string) ([]token, error) {
	source = strings.ReplaceAll(strings.ReplaceAll(source, "\r\n", "\n"), "\r", "\n")
	source = strings.TrimSuffix(source, "\n")
	l := &lexer{source: source, line: 1, lineStart: true}
	for l.at < len(l.source) {
		if err := l.next(); err != nil {
			return nil, err
		}
	}
	return append(l.tokens, token{kind: eof, line: l.line}), nil
}

func (l *lexer) fail(format string, args ...any) error {
	return &SyntaxError{Line: l.line, Problem: fmt.Sprintf(format, args...)}
}

// next scans text up to a tag, and the tag.
func (l *lexer) next() error {
	rest := l.source[l.at:]
	open := nextTag(rest)
	if open < 0 {
		l.emit(rest)
		l.at = len(l.source)
		return nil
	}
	text, tag := rest[:open], rest[open:open+2]
	after := rest[open+2:]
	sign := byte(0)
	if after != "" && (after[0] == '-' || after[0] == '+' && tag != "{{") {
		sign = after[0]
	}
	switch {
	case sign == '-':
		l.emitStripped(text, strings.TrimRightFunc(text, isSpace))
	case sign == 0 && tag != "{{":
		l.emitStripped(text, l.stripped(text))
	default:
		l.emit(text)
	}
	l.at += open + 2
	if sign != 0 {
		l.at++
	}
	switch tag {
	case "{#":
		return l.comment()
	case "{%":
		if n := l.rawBegin(); n > 0 {
			return l.raw(n)
		}
		l.tokens = append(l.tokens, token{blockBegin, "{%", l.line})
		return l.inside(blockEnd)
	}
	l.tokens = append(l.tokens, token{variableBegin, "{{", l.line})
	return l.inside(variableEnd)
}

// nextTag returns where the next tag begins, -1 if there is none.
func nextTag(s string) int {
	for from := 0; ; {
		i := strings.IndexByte(s[from:], '{')
		if i < 0 || from+i+1 >= len(s) {
			return -1
		}
		i += from
		if c := s[i+1]; c == '{' || c == '%' || c == '#' {
			return i
		}
		from = i + 1
	}
}

// stripped is text without the white space between the start of its last line and a tag, where nothing else is there.
func (l *lexer) stripped(text string) string {
	start := strings.LastIndexByte(text, '\n') + 1
	if (start > 0 || l.lineStart) && strings.TrimFunc(text[start:], isSpace) == "" {
		return text[:start]
	}
	return text
}

func (l *lexer) emit(text string) { l.emitStripped(text, text) }

func (l *lexer) emitStripped(text, kept string) {
	if kept != "" {
		l.tokens = append(l.tokens, token{data, kept, l.line})
	}
	l.line += strings.Count(text, "\n")
}

func (l *lexer) comment() error {
	end := strings.Index(l.source[l.at:], "#}")
	if end < 0 {
		return l.fail("the comment is not closed")
	}
	body := l.source[l.at : l.at+end]
	l.line += strings.Count(body, "\n")
	l.at += end + 2
	l.closeTag(lastSign(body))
	return nil
}

// lastSign returns the sign at the end of a tag's body, 0 if there is none.
func lastSign(body string) byte {
	if n := len(body); n > 0 && (body[n-1] == '-' || body[n-1] == '+') {
		return body[n-1]
	}
	return 0
}

// closeTag skips what the end of a block or a comment removes behind it.
func (l *lexer) closeTag(sign byte) {
	l.lineStart = false
	rest := l.source[l.at:]
	switch {
	case sign == '-':
		trimmed := strings.TrimLeftFunc(rest, isSpace)
		skipped := rest[:len(rest)-len(trimmed)]
		l.line += strings.Count(skipped, "\n")
		l.at += len(skipped)
		l.lineStart = strings.HasSuffix(skipped, "\n")
	case sign == 0 && strings.HasPrefix(rest, "\n"):
		l.line++
		l.at++
		l.lineStart = true
	}
}

// rawBegin returns the length of the rest of a raw tag, 0 for any other tag.
func (l *lexer) rawBegin() int {
	rest := l.source[l.at:]
	s := strings.TrimLeftFunc(rest, isSpace)
	if !strings.HasPrefix(s, "raw") {
		return 0
	}
	s = strings.TrimLeftFunc(s[3:], isSpace)
	switch {
	case strings.HasPrefix(s, "-%}"):
		return len(rest) - len(strings.TrimLeftFunc(s[3:], isSpace))
	case strings.HasPrefix(s, "%}"):
		return len(rest) - len(s) + 2
	}
	return 0
}

// raw scans text up to an endraw tag.
func (l *lexer) raw(begin int) error {
	l.line += strings.Count(l.source[l.at:l.at+begin], "\n")
	l.at += begin
	l.lineStart = false
	rest := l.source[l.at:]
	for from := 0; ; {
		i := strings.Index(rest[from:], "{%")
		if i < 0 {
			return l.fail("raw is not closed by endraw")
		}
		i += from
		s := rest[i+2:]
		sign := byte(0)
		if s != "" && (s[0] == '-' || s[0] == '+') {
			sign, s = s[0], s[1:]
		}
		s = strings.TrimLeftFunc(s, isSpace)
		if !strings.HasPrefix(s, "endraw") {
			from = i + 2
			continue
		}
		s = strings.TrimLeftFunc(s[6:], isSpace)
		last := byte(0)
		if s != "" && (s[0] == '-' || s[0] == '+') {
			last, s = s[0], s[1:]
		}
		if !strings.HasPrefix(s, "%}") {
			from = i + 2
			continue
		}
		text := rest[:i]
		switch sign {
		case '-':
			l.emitStripped(text, strings.TrimRightFunc(text, isSpace))
		case 0:
			l.emitStripped(text, l.stripped(text))
		default:
			l.emit(text)
		}
		l.at += len(rest) - len(s) + 2
		l.closeTag(last)
		return nil
	}
}

// Operators, longest first.
var operators = []string{
	"//", "**", "==", "!=", ">=", "<=",
	"+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";",
}

// inside scans the tokens of a tag up to its end.
func (l *lexer) inside(end kind) error {
	var open []byte
	closing := map[byte]byte{'(': ')', '[': ']', '{': '}'}
	for {
		rest := l.source[l.at:]
		if rest == "" {
			return l.fail("a tag is not closed")
		}
		if len(open) == 0 && l.tagEnd(rest, end) {
			return nil
		}
		c, size := utf8.DecodeRuneInString(rest)
		switch {
		case isSpace(c):
			if c == '\n' {
				l.line++
			}
			l.at += size
			continue
		case c == '\'' || c == '"':
			if err := l.string(rest, byte(c)); err != nil {
				return err
			}
			continue
		case c >= '0' && c <= '9':
			l.number(rest)
			continue
		case c == '_' || unicode.IsLetter(c):
			n := strings.IndexFunc(rest, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
			if n < 0 {
				n = len(rest)
			}
			l.push(name, rest[:n], n)
			continue
		}
		found := false
		for _, op := range operators {
			if !strings.HasPrefix(rest, op) {
				continue
			}
			switch op {
			case "(", "[", "{":
				open = append(open, op[0])
			case ")", "]", "}":
				if len(open) == 0 {
					return l.fail("unexpected '%s'", op)
				}
				if want := closing[open[len(open)-1]]; want != op[0] {
					return l.fail("unexpected '%s', expected '%c'", op, want)
				}
				open = open[:len(open)-1]
			}
			l.push(operator, op, len(op))
			found = true
			break
		}
		if !found {
			return l.fail("unexpected character %q", c)
		}
	}
}

func (l *lexer) push(k kind, text string, n int) {
	l.tokens = append(l.tokens, token{k, text, l.line})
	l.at += n
}

// tagEnd takes the end of a tag where it comes next.
func (l *lexer) tagEnd(rest string, end kind) bool {
	mark := "%}"
	if end == variableEnd {
		mark = "}}"
	}
	sign := byte(0)
	if rest[0] == '-' || rest[0] == '+' && end == blockEnd {
		sign, rest = rest[0], rest[1:]
	}
	if !strings.HasPrefix(rest, mark) {
		return false
	}
	n := len(mark)
	if sign != 0 {
		n++
	}
	l.push(end, mark, n)
	if end == blockEnd || sign == '-' {
		l.closeTag(sign)
	} else {
		l.lineStart = false
	}
	return true
}

func (l *lexer) number(s string) {
	digits := func(i int, ok func(byte) bool) int {
		for i < len(s) && (ok(s[i]) || s[i] == '_' && i > 0 && i+1 < len(s) && ok(s[i+1])) {
			i++
		}
		return i
	}
	decimal := func(c byte) bool { return c >= '0' && c <= '9' }
	if len(s) > 2 && s[0] == '0' {
		var ok func(byte) bool
		switch s[1] {
		case 'x', 'X':
			ok = func(c byte) bool { return decimal(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
		case 'o', 'O':
			ok = func(c byte) bool { return c >= '0' && c <= '7' }
		case 'b', 'B':
			ok = func(c byte) bool { return c == '0' || c == '1' }
		}
		if ok != nil {
			if n := digits(2, ok); n > 2 {
				l.push(integerLiteral, s[:n], n)
				return
			}
		}
	}
	n := digits(0, decimal)
	k := integerLiteral
	before := byte(0)
	if l.at > 0 {
		before = l.source[l.at-1]
	}
	if before != '.' { // a.0.1 has no floats
		if n+1 < len(s) && s[n] == '.' && decimal(s[n+1]) {
			n, k = digits(n+1, decimal), floatLiteral
		}
		if n < len(s) && s[n]|0x20 == 'e' {
			m := n + 1
			if m < len(s) && (s[m] == '+' || s[m] == '-') {
				m++
			}
			if m < len(s) && decimal(s[m]) {
				n, k = digits(m, decimal), floatLiteral
			}
		}
	}
	l.push(k, s[:n], n)
}

// string scans a string literal, whose escapes are those of Python.
func (l *lexer) string(s string, mark byte) error {
	var b strings.Builder
	line := l.line
	for i := 1; i < len(s); {
		c := s[i]
		switch {
		case c == mark:
			l.tokens = append(l.tokens, token{stringLiteral, b.String(), line})
			l.at += i + 1
			return nil
		case c == '\\' && i+1 < len(s):
			n, err := unescape(&b, s[i:])
			if err != nil {
				return l.fail("%v", err)
			}
			l.line += strings.Count(s[i:i+n], "\n")
			i += n
		default:
			if c == '\n' {
				l.line++
			}
			b.WriteByte(c)
			i++
		}
	}
	return l.fail("a string is not closed")
}

// unescape writes the character of the escape that s begins with, and returns the escape's length.
func unescape(b *strings.Builder, s string) (int, error) {
	simple := map[byte]string{
		'\n': "", '\\': `\`, '\'': "'", '"': `"`, 'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
	}
	if text, ok := simple[s[1]]; ok {
		b.WriteString(text)
		return 2, nil
	}
	hex := map[byte]int{'x': 2, 'u': 4, 'U': 8}
	if n, ok := hex[s[1]]; ok {
		if len(s) < 2+n {
			return 0, fmt.Errorf(`truncated \%c escape`, s[1])
		}
		code, err := strconv.ParseUint(s[2:2+n], 16, 32)
		if err != nil || code > unicode.MaxRune {
			return 0, fmt.Errorf(`invalid \%c escape`, s[1])
		}
		b.WriteRune(rune(code))
		return 2 + n, nil
	}
	if s[1] >= '0' && s[1] <= '7' {
		n := 2
		for n < len(s) && n < 4 && s[n] >= '0' && s[n] <= '7' {
			n++
		}
		code, _ := strconv.ParseUint(s[1:n], 8, 32)
		b.WriteRune(rune(code))
		return n, nil
	}
	if s[1] == 'N' {
		return 0, fmt.Errorf(`\N escapes are not supported`)
	}
	_, size := utf8.DecodeRuneInString(s[1:])
	b.WriteString(s[:1+size])
	return 1 + size, nil
}

// isSpace is what Python's regular expressions and strip take for white space.
func isSpace(c rune) bool { return unicode.IsSpace(c) || c >= 0x1c && c <= 0x1f }
