package jinja

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

func absFilter(_ *renderer, v value, _ params) (value, error) {
	n, ok := number(v)
	if !ok {
		return nil, fmt.Errorf("bad operand type for abs(): '%s'", typeName(v))
	}
	if i, ok := n.(int64); ok {
		if i == math.MinInt64 {
			return nil, errOverflow
		}
		return max(i, -i), nil
	}
	return math.Abs(n.(float64)), nil
}

func intFilter(_ *renderer, v value, p params) (value, error) {
	if u, ok := v.(undefined); ok {
		return nil, errors.New(u.problem)
	}
	var otherwise value = int64(0)
	if p.has("default") {
		otherwise = p["default"]
	}
	base, err := p.int("base", 10)
	if err != nil {
		return nil, err
	}
	if s, ok := v.(string); ok {
		s = strings.ReplaceAll(strings.TrimFunc(s, isSpace), "_", "")
		if base == 16 || base == 8 || base == 2 {
			s = strings.TrimPrefix(strings.ToLower(s), map[int]string{16: "0x", 8: "0o", 2: "0b"}[base])
		}
		if i, err := strconv.ParseInt(s, base, 64); err == nil {
			return i, nil
		}
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || math.Abs(f) >= 1<<63 || math.IsNaN(f) {
			return otherwise, nil
		}
		return int64(f), nil
	}
	n, ok := number(v)
	if !ok {
		return otherwise, nil
	}
	if f, ok := n.(float64); ok {
		if math.Abs(f) >= 1<<63 || math.IsNaN(f) {
			return otherwise, nil
		}
		return int64(f), nil
	}
	return n, nil
}

func floatFilter(_ *renderer, v value, p params) (value, error) {
	if u, ok := v.(undefined); ok {
		return nil, errors.New(u.problem)
	}
	if s, ok := v.(string); ok {
		if f, err := strconv.ParseFloat(strings.TrimFunc(s, isSpace), 64); err == nil {
			return f, nil
		}
	}
	if n, ok := number(v); ok {
		return asFloat(n), nil
	}
	if p.has("default") {
		return p["default"], nil
	}
	return 0.0, nil
}

func roundFilter(_ *renderer, v value, p params) (value, error) {
	n, ok := number(v)
	if !ok {
		return nil, fmt.Errorf("type %s doesn't define __round__ method", typeName(v))
	}
	digits, err := p.int("precision", 0)
	if err != nil {
		return nil, err
	}
	method, err := p.text("method", "common")
	if err != nil {
		return nil, err
	}
	f := asFloat(n)
	scale := math.Pow(10, float64(digits))
	switch method {
	case "common":
		if _, isInt := n.(int64); isInt && digits >= 0 {
			return n, nil
		}
		if digits < 0 {
			rounded := math.RoundToEven(f*scale) / scale
			if _, isInt := n.(int64); isInt {
				return int64(rounded), nil
			}
			return rounded, nil
		}
		out, err := strconv.ParseFloat(strconv.FormatFloat(f, 'f', digits, 64), 64) // half to even of the exact value
		return out, err
	case "ceil":
		return math.Ceil(f*scale) / scale, nil
	case "floor":
		return math.Floor(f*scale) / scale, nil
	}
	return nil, errors.New("method must be common, ceil or floor")
}

func indentFilter(r *renderer, v value, p params) (value, error) {
	s, ok := v.(string)
	if !ok {
		return nil, fmt.Errorf("indent takes str, not %s", typeName(v))
	}
	by, ok := p["width"].(string)
	if !ok {
		n, err := p.int("width", 4)
		if err != nil {
			return nil, err
		}
		if err := r.allocate(max(n, 0)); err != nil {
			return nil, err
		}
		by = strings.Repeat(" ", max(n, 0))
	}
	if n := strings.Count(s, "\n") + 1; len(by) > 0 && n > int(r.limits.Allocated)/len(by) {
		return nil, r.allocate(math.MaxInt)
	} else if err := r.allocate(len(s) + n*len(by)); err != nil {
		return nil, err
	}
	var b strings.Builder
	if p.truth("first") {
		b.WriteString(by)
	}
	if p.truth("blank") {
		lines := splitLines(s+"\n", false)
		b.WriteString(strings.Join(lines, "\n"+by))
		return b.String(), nil
	}
	for i, line := range splitLines(s+"\n", false) {
		if i > 0 {
			b.WriteByte('\n')
			if line != "" {
				b.WriteString(by)
			}
		}
		b.WriteString(line)
	}
	return b.String(), nil
}

// splitLines is Python's splitlines.
func splitLines(s string, ends bool) []string {
	var out []string
	start := 0
	for i := 0; i < len(s); {
		c, n := utf8.DecodeRuneInString(s[i:])
		switch c {
		case '\n', '\v', '\f', '\r', 0x1c, 0x1d, 0x1e, 0x85, 0x2028, 0x2029:
			end := i + n
			if c == '\r' && end < len(s) && s[end] == '\n' {
				end++
			}
			line := s[start:i]
			if ends {
				line = s[start:end]
			}
			out = append(out, line)
			start, i = end, end
		default:
			i += n
		}
	}
	if start < len(s) {
		out = append(out, s[start:])
	}
	return out
}

func centerFilter(r *renderer, v value, p params) (value, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	n, err := p.int("width", 80)
	if err != nil {
		return nil, err
	}
	return r.padded(s, n, ' ', '^')
}

// padded fills s up to a width on the left ('>'), the right ('<') or both sides ('^', as Python's center).
func (r *renderer) padded(s string, width int, fill rune, align byte) (string, error) {
	missing := width - utf8.RuneCountInString(s)
	if missing <= 0 {
		return s, nil
	}
	if err := r.allocate(len(s) + missing*utf8.RuneLen(fill)); err != nil {
		return "", err
	}
	left := 0
	switch align {
	case '>':
		left = missing
	case '^':
		left = missing/2 + missing&width&1
	}
	return strings.Repeat(string(fill), left) + s + strings.Repeat(string(fill), missing-left), nil
}

func truncateFilter(r *renderer, v value, p params) (value, error) {
	s, isText := v.(string)
	count, err := length(v)
	if err != nil {
		return nil, err
	}
	n, err := p.int("length", 255)
	if err != nil {
		return nil, err
	}
	end, err := p.text("end", "...")
	if err != nil {
		return nil, err
	}
	leeway, err := p.int("leeway", 5)
	if err != nil {
		return nil, err
	}
	endCount := utf8.RuneCountInString(end)
	if n < endCount {
		return nil, fmt.Errorf("expected length >= %d, got %d", endCount, n)
	}
	if count <= n+leeway {
		return v, nil
	}
	if !isText {
		return nil, fmt.Errorf("truncate takes str, not %s", typeName(v))
	}
	cut := substring(s, 0, n-endCount)
	if !p.truth("killwords") {
		if i := strings.LastIndexByte(cut, ' '); i >= 0 {
			cut = cut[:i]
		}
	}
	return cut + end, r.allocate(len(cut) + len(end))
}

func wordCountFilter(r *renderer, v value, _ params) (value, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	words := strings.FieldsFunc(s, func(c rune) bool { return c != '_' && !unicode.IsLetter(c) && !unicode.IsNumber(c) })
	return int64(len(words)), nil
}

// wordWrapFilter breaks lines at spaces, as textwrap does without tabs.
func wordWrapFilter(r *renderer, v value, p params) (value, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	width, err := p.int("width", 79)
	if err != nil {
		return nil, err
	}
	if width < 1 {
		return nil, errors.New("invalid width")
	}
	wrap := "\n"
	if p["wrapstring"] != nil {
		if wrap, err = p.text("wrapstring", "\n"); err != nil {
			return nil, err
		}
	}
	if err := r.allocate(len(s) * (2 + len(wrap))); err != nil {
		return nil, err
	}
	var out []string
	for _, line := range splitLines(s, false) {
		words := strings.Split(line, " ")
		current := words[0]
		for _, w := range words[1:] {
			if utf8.RuneCountInString(current)+1+utf8.RuneCountInString(w) <= width {
				current += " " + w
				continue
			}
			out = append(out, current)
			current = w
		}
		out = append(out, current)
	}
	return strings.Join(out, wrap), nil
}

func fileSizeFilter(_ *renderer, v value, p params) (value, error) {
	x, err := floatFilter(nil, v, params{"default": nil})
	if err != nil || x == nil {
		return nil, fmt.Errorf("could not convert %s to float", brief(v))
	}
	f, base, names := asFloat(x), 1000.0, []string{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"}
	if p.truth("binary") {
		base, names = 1024, []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}
	}
	switch {
	case f == 1:
		return "1 Byte", nil
	case f < base:
		return fmt.Sprintf("%d Bytes", int64(f)), nil
	}
	i := 0
	for f /= base; f >= base && i < len(names)-1; i++ {
		f /= base
	}
	return fmt.Sprintf("%.1f %s", f, names[i]), nil
}
