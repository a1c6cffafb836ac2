package jinja

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

func separator(p params) (sep string, blank bool, n int, err error) {
	if n, err = p.int("maxsplit", -1); err != nil {
		return "", false, 0, err
	}
	if p["sep"] == nil {
		return "", true, n, nil
	}
	if sep, err = p.text("sep", ""); err == nil && sep == "" {
		err = errors.New("empty separator")
	}
	return sep, false, n, err
}

func splitMethod(r *renderer, s string, p params) (value, error) {
	sep, blank, n, err := separator(p)
	if err != nil {
		return nil, err
	}
	if !blank {
		if n >= 0 {
			n++
		}
		return r.texts(strings.SplitN(s, sep, n))
	}
	var out []string
	for s = strings.TrimLeftFunc(s, isSpace); s != ""; s = strings.TrimLeftFunc(s, isSpace) {
		i := strings.IndexFunc(s, isSpace)
		if i < 0 || n >= 0 && len(out) == n {
			out = append(out, s)
			break
		}
		out = append(out, s[:i])
		s = s[i:]
	}
	return r.texts(out)
}

func rsplitMethod(r *renderer, s string, p params) (value, error) {
	sep, blank, n, err := separator(p)
	if err != nil {
		return nil, err
	}
	var out []string
	if !blank {
		for i := strings.LastIndex(s, sep); i >= 0 && (n < 0 || len(out) < n); i = strings.LastIndex(s, sep) {
			out = append(out, s[i+len(sep):])
			s = s[:i]
		}
		out = append(out, s)
	} else {
		for s = strings.TrimRightFunc(s, isSpace); s != ""; s = strings.TrimRightFunc(s, isSpace) {
			i := strings.LastIndexFunc(s, isSpace)
			if i < 0 || n >= 0 && len(out) == n {
				out = append(out, s)
				break
			}
			_, size := utf8.DecodeRuneInString(s[i:])
			out = append(out, s[i+size:])
			s = s[:i]
		}
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return r.texts(out)
}

func replaceMethod(r *renderer, s string, p params) (value, error) {
	old, err := p.text("old", "")
	if err != nil {
		return nil, err
	}
	by, err := p.text("new", "")
	if err != nil {
		return nil, err
	}
	n, err := p.int("count", -1)
	if err != nil {
		return nil, err
	}
	return r.replaced(s, old, by, n)
}

func countMethod(_ *renderer, s string, p params) (value, error) {
	sub, err := p.text("sub", "")
	if err != nil {
		return nil, err
	}
	from, part, err := p.part(s)
	if err != nil || from > utf8.RuneCountInString(s) {
		return int64(0), err
	}
	return int64(strings.Count(part, sub)), nil
}

func joinMethod(r *renderer, s string, p params) (value, error) {
	items, err := r.iterate(p["iterable"])
	if err != nil {
		return nil, errors.New("can only join an iterable")
	}
	var b strings.Builder
	for i, e := range items {
		text, ok := e.(string)
		if !ok {
			return nil, fmt.Errorf("sequence item %d: expected str instance, %s found", i, typeName(e))
		}
		if i > 0 {
			b.WriteString(s)
		}
		if err := r.allocate(len(text) + len(s)); err != nil {
			return nil, err
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

func zfillMethod(r *renderer, s string, p params) (value, error) {
	n, err := p.int("width", 0)
	if err != nil {
		return nil, err
	}
	sign := ""
	if s != "" && (s[0] == '-' || s[0] == '+') {
		sign, s = s[:1], s[1:]
	}
	out, err := r.padded(s, n-len(sign), '0', '>')
	return sign + out, err
}

func expandTabsMethod(r *renderer, s string, p params) (value, error) {
	size, err := p.int("tabsize", 8)
	if err != nil {
		return nil, err
	}
	size = max(size, 0)
	if tabs := strings.Count(s, "\t"); size > 0 && tabs > math.MaxInt32/size {
		return nil, r.allocate(math.MaxInt)
	} else if err := r.allocate(len(s) + tabs*size); err != nil {
		return nil, err
	}
	var b strings.Builder
	column := 0
	for _, c := range s {
		switch {
		case c == '\t' && size > 0:
			n := size - column%size
			b.WriteString(strings.Repeat(" ", n))
			column += n
		case c == '\t':
		default:
			b.WriteRune(c)
			column++
			if c == '\n' || c == '\r' {
				column = 0
			}
		}
	}
	return b.String(), nil
}
