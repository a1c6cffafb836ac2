package jinja

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// braces is str.format.
func (r *renderer) braces(format, what string, a arguments) (value, error) {
	if what == "format_map" {
		if len(a.positional) != 1 {
			return nil, errors.New("format_map takes one argument")
		}
		d, ok := a.positional[0].(*dict)
		if !ok {
			return nil, errors.New("format_map takes a mapping")
		}
		a = arguments{named: d}
	}
	next := 0 // of the fields without a number; negative once one has a number
	return r.bracesIn(format, a, &next, 0)
}

func (r *renderer) bracesIn(format string, a arguments, next *int, depth int) (string, error) {
	if depth > 2 {
		return "", errors.New("max string recursion exceeded")
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		c := format[i]
		if c != '{' && c != '}' {
			b.WriteByte(c)
			continue
		}
		if i+1 < len(format) && format[i+1] == c {
			b.WriteByte(c)
			i++
			continue
		}
		if c == '}' {
			return "", errors.New("single '}' encountered in format string")
		}
		end, level := i+1, 1
		for ; end < len(format) && level > 0; end++ {
			switch format[end] {
			case '{':
				level++
			case '}':
				level--
			}
		}
		if level > 0 {
			return "", errors.New("single '{' encountered in format string")
		}
		text, err := r.field(format[i+1:end-1], a, next, depth)
		if err != nil {
			return "", err
		}
		b.WriteString(text)
		if err := r.allocate(len(text)); err != nil {
			return "", err
		}
		i = end - 1
	}
	return b.String(), r.allocate(len(format))
}

var errMixed = errors.New("cannot mix automatic and manual field numbering")

// asciiText escapes the characters of a repr() that are not ASCII.
func asciiText(s string) string {
	var b strings.Builder
	for _, c := range s {
		switch {
		case c <= 0x7f:
			b.WriteRune(c)
		case c < 0x100:
			fmt.Fprintf(&b, `\x%02x`, c)
		case c < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			fmt.Fprintf(&b, `\U%08x`, c)
		}
	}
	return b.String()
}

// fieldKey returns the first attribute or index of the path behind a field's name, and the rest of the path.
func fieldKey(path string) (key value, rest string, err error) {
	var text string
	switch path[0] {
	case '.':
		end := strings.IndexAny(path[1:], ".[")
		if end < 0 {
			end = len(path) - 1
		}
		text, rest = path[1:1+end], path[1+end:]
	case '[':
		end := strings.IndexByte(path, ']')
		if end < 0 {
			return nil, "", errors.New("missing ']' in format string")
		}
		text, rest = path[1:end], path[end+1:]
	default:
		return nil, "", errors.New("only '.' or '[' may follow ']' in format field specifier")
	}
	if text == "" {
		return nil, "", errors.New("empty attribute in format string")
	}
	if n, err := strconv.ParseUint(text, 10, 63); err == nil && path[0] == '[' { // an index has digits alone
		return int64(n), rest, nil
	}
	return text, rest, nil
}

// field writes one replacement field: name, conversion and format.
func (r *renderer) field(field string, a arguments, next *int, depth int) (string, error) {
	name, format, _ := strings.Cut(field, ":")
	name, conversion, _ := strings.Cut(name, "!")
	end := strings.IndexAny(name, ".[")
	if end < 0 {
		end = len(name)
	}
	first, path := name[:end], name[end:]
	var v value
	number, err := strconv.ParseUint(first, 10, 31)
	index := int(number)
	switch {
	case first == "":
		if *next < 0 {
			return "", errMixed
		}
		index = *next
		*next++
	case err == nil:
		if *next > 0 {
			return "", errMixed
		}
		*next = -1
	}
	switch {
	case first == "" || err == nil:
		if index < 0 || index >= len(a.positional) {
			return "", fmt.Errorf("replacement index %d out of range for positional args tuple", index)
		}
		v = a.positional[index]
	default:
		found := false
		if a.named != nil {
			v, found = a.named.get(first)
		}
		if !found {
			return "", fmt.Errorf("'%s'", first)
		}
	}
	for path != "" {
		var key value
		if key, path, err = fieldKey(path); err != nil {
			return "", err
		}
		if v, err = r.item(v, key); err != nil {
			return "", err
		}
		if u, ok := v.(undefined); ok && path != "" {
			return "", errors.New(u.problem)
		}
	}
	switch conversion {
	case "":
	case "s":
		v = r.text(v)
	case "r":
		v = r.repr(v)
	case "a":
		v = asciiText(r.repr(v))
	default:
		return "", fmt.Errorf("unknown conversion specifier '%s'", conversion)
	}
	if strings.Contains(format, "{") {
		if format, err = r.bracesIn(format, a, next, depth+1); err != nil {
			return "", err
		}
	}
	return r.formatted(v, format)
}

// formatted is Python's format().
func (r *renderer) formatted(v value, format string) (string, error) {
	if format == "" {
		return r.str(v)
	}
	s, err := parseSpec(format)
	if err != nil {
		return "", err
	}
	n, isNumber := number(v)
	if !isNumber {
		text, ok := v.(string)
		if !ok {
			return "", fmt.Errorf("unsupported format string passed to %s.__format__", typeName(v))
		}
		if s.verb != 0 && s.verb != 's' || s.sign != 0 || s.group != 0 || s.align == '=' {
			return "", fmt.Errorf("invalid format specifier '%s' for object of type 'str'", format)
		}
		if s.precision >= 0 {
			text = substring(text, 0, s.precision)
		}
		if s.align == 0 {
			s.align = '<'
		}
		return r.padded(text, s.width, s.fill, s.align)
	}
	if s.align == 0 {
		s.align = '>'
	}
	if i, ok := n.(int64); ok {
		switch s.verb {
		case 0, 'n':
			s.verb = 'd'
		case 'c':
			return r.padded(string(rune(i)), s.width, s.fill, s.align)
		case 'e', 'E', 'f', 'F', 'g', 'G', '%':
			n = float64(i)
		}
		if n == i && strings.IndexByte("dxXob", s.verb) < 0 {
			return "", fmt.Errorf("unknown format code '%c' for object of type 'int'", s.verb)
		}
	}
	f, ok := n.(float64)
	if !ok {
		s.precision = -1
		return r.numberText(s, n)
	}
	switch {
	case s.verb == 0 && s.precision < 0:
		digits := floatText(math.Abs(f))
		sign := ""
		if math.Signbit(f) {
			sign = "-"
		} else if s.sign != 0 {
			sign = string(s.sign)
		}
		if s.group != 0 {
			digits = grouped(digits, s.group)
		}
		return r.padded(sign+digits, s.width, s.fill, s.align)
	case s.verb == 0 || s.verb == 'n':
		s.verb = 'g'
	case s.verb == '%':
		s.verb = 'f'
		if s.precision < 0 {
			s.precision = 6
		}
		width := s.width
		s.width = 0
		text, err := r.numberText(s, f*100)
		if err != nil {
			return "", err
		}
		return r.padded(text+"%", width, s.fill, s.align)
	case strings.IndexByte("eEfFgG", s.verb) < 0:
		return "", fmt.Errorf("unknown format code '%c' for object of type 'float'", s.verb)
	}
	if s.precision < 0 {
		s.precision = 6
	}
	return r.numberText(s, f)
}

// parseSpec reads [[fill]align][sign][#][0][width][,][.precision][type].
func parseSpec(f string) (spec, error) {
	s := spec{fill: ' ', precision: -1}
	isAlign := func(c byte) bool { return c == '<' || c == '>' || c == '^' || c == '=' }
	c, n := utf8.DecodeRuneInString(f)
	if len(f) > n && isAlign(f[n]) {
		s.fill, s.align, f = c, f[n], f[n+1:]
	} else if f != "" && isAlign(f[0]) {
		s.align, f = f[0], f[1:]
	}
	if f != "" && strings.IndexByte("+- ", f[0]) >= 0 {
		if f[0] != '-' {
			s.sign = f[0]
		}
		f = f[1:]
	}
	if strings.HasPrefix(f, "#") {
		s.alternate, f = true, f[1:]
	}
	if strings.HasPrefix(f, "0") {
		if f = f[1:]; s.align == 0 {
			s.fill, s.align = '0', '='
		}
	}
	digits := func() (int, error) {
		i := 0
		for i < len(f) && f[i] >= '0' && f[i] <= '9' {
			i++
		}
		n, _ := strconv.Atoi(f[:i])
		f = f[i:]
		if i > 6 || n > maxWidth {
			return 0, errors.New("width too big")
		}
		return n, nil
	}
	var err error
	if s.width, err = digits(); err != nil {
		return s, err
	}
	if f != "" && (f[0] == ',' || f[0] == '_') {
		s.group, f = f[0], f[1:]
	}
	if strings.HasPrefix(f, ".") {
		f = f[1:]
		if s.precision, err = digits(); err != nil {
			return s, err
		}
	}
	switch len(f) {
	case 0:
	case 1:
		s.verb = f[0]
	default:
		return s, errors.New("invalid format specifier")
	}
	return s, nil
}
