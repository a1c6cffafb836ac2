package jinja

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// spec is one conversion of a format.
type spec struct {
	fill             rune
	align            byte // '<', '>', '^', '=' or 0
	sign             byte // '+', ' ' or 0
	alternate        bool
	group            byte // ',', '_' or 0
	width, precision int  // precision is -1 where there is none
	verb             byte
}

// maxWidth bounds widths and precisions.
const maxWidth = 10_000

// percent is the operator % of strings.
func (r *renderer) percent(format string, args value) (value, error) {
	items, isTuple := args.(tuple)
	if !isTuple {
		items = tuple{args}
	}
	named, _ := args.(*dict)
	var b strings.Builder
	next := 0
	for i := 0; i < len(format); {
		j := strings.IndexByte(format[i:], '%')
		if j < 0 {
			b.WriteString(format[i:])
			break
		}
		b.WriteString(format[i : i+j])
		i += j + 1
		var v value
		have := false
		if i < len(format) && format[i] == '(' {
			end := strings.IndexByte(format[i:], ')')
			if end < 0 {
				return nil, errors.New("incomplete format key")
			}
			if named == nil {
				return nil, errors.New("format requires a mapping")
			}
			key := format[i+1 : i+end]
			if v, have = named.get(key); !have {
				return nil, fmt.Errorf("'%s'", key)
			}
			i += end + 1
		}
		take := func() (value, error) {
			if next >= len(items) {
				return nil, errors.New("not enough arguments for format string")
			}
			next++
			return items[next-1], nil
		}
		s := spec{fill: ' ', align: '>', precision: -1}
		for ; i < len(format) && strings.IndexByte("-+ 0#", format[i]) >= 0; i++ {
			switch format[i] {
			case '-':
				s.align = '<'
			case '+':
				s.sign = '+'
			case ' ':
				if s.sign == 0 {
					s.sign = ' '
				}
			case '0':
				s.fill = '0'
			case '#':
				s.alternate = true
			}
		}
		number := func() (int, error) {
			if i < len(format) && format[i] == '*' {
				i++
				v, err := take()
				n, ok := v.(int64)
				if err != nil || !ok || n < 0 || n > maxWidth {
					return 0, errors.New("* takes a small integer")
				}
				return int(n), nil
			}
			n := 0
			for ; i < len(format) && format[i] >= '0' && format[i] <= '9'; i++ {
				if n = n*10 + int(format[i]-'0'); n > maxWidth {
					return 0, errors.New("width too big")
				}
			}
			return n, nil
		}
		var err error
		if s.width, err = number(); err != nil {
			return nil, err
		}
		if i < len(format) && format[i] == '.' {
			i++
			if s.precision, err = number(); err != nil {
				return nil, err
			}
		}
		for i < len(format) && strings.IndexByte("hlL", format[i]) >= 0 {
			i++
		}
		if i >= len(format) {
			return nil, errors.New("incomplete format")
		}
		s.verb = format[i]
		i++
		if s.verb == '%' {
			b.WriteByte('%')
			continue
		}
		if !have {
			if v, err = take(); err != nil {
				return nil, err
			}
		}
		text, err := r.converted(s, v)
		if err != nil {
			return nil, err
		}
		b.WriteString(text)
		if err := r.allocate(len(text)); err != nil {
			return nil, err
		}
	}
	if next < len(items) && named == nil && (len(items) != 1 || isTuple || !isContainer(args)) {
		return nil, errors.New("not all arguments converted during string formatting")
	}
	return b.String(), r.allocate(len(format))
}

func isContainer(v value) bool {
	switch v.(type) {
	case *list, *dict, undefined:
		return true
	}
	return false
}

// converted writes one value as % does.
func (r *renderer) converted(s spec, v value) (string, error) {
	switch s.verb {
	case 's', 'r', 'a':
		text, err := r.str(v)
		if err != nil {
			return "", err
		}
		if s.verb != 's' {
			text = r.repr(v)
		}
		if s.verb == 'a' {
			text = asciiText(text)
		}
		if s.precision >= 0 {
			text = substring(text, 0, s.precision)
		}
		return r.padded(text, s.width, ' ', s.align)
	case 'c':
		if c, ok := v.(string); ok && utf8.RuneCountInString(c) == 1 {
			return r.padded(c, s.width, ' ', s.align)
		}
		if i, ok := v.(int64); ok && i >= 0 && i <= utf8.MaxRune {
			return r.padded(string(rune(i)), s.width, ' ', s.align)
		}
		return "", errors.New("%c requires int or char")
	case 'd', 'i', 'u', 'x', 'X', 'o':
		n, ok := number(v)
		if !ok {
			return "", fmt.Errorf("%%%c format: a real number is required, not %s", s.verb, typeName(v))
		}
		if f, ok := n.(float64); ok {
			if s.verb != 'd' && s.verb != 'i' && s.verb != 'u' {
				return "", fmt.Errorf("%%%c format: an integer is required, not float", s.verb)
			}
			if math.IsNaN(f) || math.Abs(f) >= 1<<63 {
				return "", errors.New("cannot convert float to integer")
			}
			n = int64(f)
		}
		if s.verb == 'i' || s.verb == 'u' {
			s.verb = 'd'
		}
		return r.numberText(s, n)
	case 'e', 'E', 'f', 'F', 'g', 'G':
		n, ok := number(v)
		if !ok {
			return "", fmt.Errorf("must be real number, not %s", typeName(v))
		}
		if s.precision < 0 {
			s.precision = 6
		}
		return r.numberText(s, asFloat(n))
	}
	return "", fmt.Errorf("unsupported format character '%c'", s.verb)
}

// numberText writes an int64 or a float64 with sign, base, grouping and padding.
func (r *renderer) numberText(s spec, n value) (string, error) {
	negative, digits, prefix := false, "", ""
	switch n := n.(type) {
	case int64:
		negative = n < 0
		u := uint64(n)
		if negative {
			u = -u
		}
		base := map[byte]int{'d': 10, 'x': 16, 'X': 16, 'o': 8, 'b': 2}[s.verb]
		digits = strconv.FormatUint(u, base)
		if s.alternate && base != 10 {
			prefix = "0" + string(s.verb)
		}
		if s.verb == 'X' {
			digits = strings.ToUpper(digits)
		}
		if s.precision > len(digits) {
			digits = strings.Repeat("0", s.precision-len(digits)) + digits
		}
	case float64:
		negative = math.Signbit(n) && !math.IsNaN(n)
		digits = floatDigits(math.Abs(n), s)
	}
	if s.group != 0 {
		digits = grouped(digits, s.group)
	}
	sign := ""
	switch {
	case negative:
		sign = "-"
	case s.sign != 0:
		sign = string(s.sign)
	}
	sign += prefix
	if s.fill == '0' && s.align == '>' || s.align == '=' {
		inner, err := r.padded(digits, s.width-len(sign), s.fill, '>')
		return sign + inner, err
	}
	return r.padded(sign+digits, s.width, s.fill, s.align)
}

func floatDigits(f float64, s spec) string {
	verb := s.verb | 0x20
	var out string
	switch {
	case math.IsInf(f, 0):
		out = "inf"
	case math.IsNaN(f):
		out = "nan"
	case verb == 'g':
		out = general(f, max(s.precision, 1), s.alternate)
	default:
		out = strconv.FormatFloat(f, verb, s.precision, 64)
	}
	if s.verb < 'a' {
		return strings.ToUpper(out)
	}
	return out
}

// general is the format g of C: significant digits without trailing zeros.
func general(f float64, precision int, zeros bool) string {
	e := strconv.FormatFloat(f, 'e', precision-1, 64)
	mantissa, exponentText, _ := strings.Cut(e, "e")
	exponent, _ := strconv.Atoi(exponentText)
	trim := func(s string) string {
		if zeros || !strings.Contains(s, ".") {
			return s
		}
		return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	if exponent < -4 || exponent >= precision {
		return trim(mantissa) + "e" + exponentText
	}
	return trim(strconv.FormatFloat(f, 'f', precision-1-exponent, 64))
}

func grouped(digits string, by byte) string {
	whole, rest, point := strings.Cut(digits, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + string(by) + whole[i:]
	}
	if point {
		return whole + "." + rest
	}
	return whole
}
