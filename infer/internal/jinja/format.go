package jinja

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
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
	index, err := strconv.Atoi(first)
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
		if path[0] == '.' {
			end := strings.IndexAny(path[1:], ".[")
			if end < 0 {
				end = len(path) - 1
			}
			key, path = path[1:1+end], path[1+end:]
		} else {
			end := strings.IndexByte(path, ']')
			if end < 0 {
				return "", errors.New("missing ']' in format string")
			}
			key = path[1:end]
			if n, err := strconv.ParseInt(path[1:end], 10, 64); err == nil {
				key = n
			}
			path = path[end+1:]
		}
		if v, err = r.item(v, key); err != nil {
			return "", err
		}
		if u, ok := v.(undefined); ok {
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

// strftime formats t as C's strftime does in the C locale, without a time zone, as for Python's datetime.now(). Unknown letters
// stay as they are.
func strftime(t time.Time, format string) string {
	layouts := map[byte]string{
		'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'b': "Jan", 'h': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday",
		'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'P': "pm", 'Z': "", 'z': "", 'F': "2006-01-02", 'T': "15:04:05",
		'D': "01/02/06", 'R': "15:04", 'c': "Mon Jan _2 15:04:05 2006", 'x': "01/02/06", 'X': "15:04:05", 'f': "000000", 'r': "03:04:05 PM",
	}
	numbers := map[byte]func() int{
		'j': t.YearDay, 'u': func() int { return (int(t.Weekday())+6)%7 + 1 }, 'w': func() int { return int(t.Weekday()) },
		's': func() int { return int(t.Unix()) }, 'G': func() int { y, _ := t.ISOWeek(); return y },
		'V': func() int { _, w := t.ISOWeek(); return w },
		'U': func() int { return (t.YearDay() + 6 - int(t.Weekday())) / 7 },
		'W': func() int { return (t.YearDay() + 6 - (int(t.Weekday())+6)%7) / 7 },
		'C': func() int { return t.Year() / 100 }, 'k': t.Hour, 'l': func() int { return (t.Hour()+11)%12 + 1 },
	}
	widths := map[byte]string{'j': "%03d", 'V': "%02d", 'U': "%02d", 'W': "%02d", 'C': "%02d", 'k': "%2d", 'l': "%2d"}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		start := i
		i++
		bare := format[i] == '-' && i+1 < len(format) // without padding
		if bare {
			i++
		}
		text := ""
		switch layout, ok := layouts[format[i]]; {
		case ok && format[i] == 'f':
			text = fmt.Sprintf("%06d", t.Nanosecond()/1000)
		case ok:
			text = t.Format(layout)
		case numbers[format[i]] != nil:
			width := widths[format[i]]
			if width == "" {
				width = "%d"
			}
			text = fmt.Sprintf(width, numbers[format[i]]())
		case format[i] == '%':
			text = "%"
		case format[i] == 'n':
			text = "\n"
		case format[i] == 't':
			text = "\t"
		default:
			b.WriteString(format[start : i+1])
			continue
		}
		if bare && strings.Trim(text, "0123456789 ") == "" {
			if text = strings.TrimLeft(text, "0 "); text == "" {
				text = "0"
			}
		}
		b.WriteString(text)
	}
	return b.String()
}
