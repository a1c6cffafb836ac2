package jinja

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

type methodEntry[T any] struct {
	params   []string
	required int
	apply    func(r *renderer, v T, p params) (value, error)
}

// methodOf returns the method of a value, bound to it.
func methodOf(v value, n string) (value, bool) {
	switch v := v.(type) {
	case string:
		if n == "format" || n == "format_map" {
			return &callable{n, func(r *renderer, a arguments) (value, error) { return r.braces(v, n, a) }}, true
		}
		return bound(textMethods, v, n)
	case *dict:
		return bound(dictMethods, v, n)
	case *list:
		if mutating["list."+n] {
			return undefined{fmt.Sprintf("access to attribute '%s' of 'list' object is unsafe.", n)}, true
		}
		return bound(sequenceMethods, v.items, n)
	case tuple:
		if n != "copy" {
			return bound(sequenceMethods, []value(v), n)
		}
	case *rangeValue:
		if n != "copy" {
			return bound(sequenceMethods, v.items(), n)
		}
	}
	return nil, false
}

// mutating holds the methods that the immutable sandbox forbids.
var mutating = map[string]bool{
	"list.append": true, "list.clear": true, "list.extend": true, "list.insert": true, "list.pop": true, "list.remove": true,
	"list.reverse": true, "list.sort": true, "dict.clear": true, "dict.pop": true, "dict.popitem": true, "dict.setdefault": true,
	"dict.update": true,
}

func bound[T any](table map[string]methodEntry[T], v T, n string) (value, bool) {
	m, ok := table[n]
	if !ok {
		return nil, false
	}
	return &callable{n, func(r *renderer, a arguments) (value, error) {
		p, err := bind(n, m.params, m.required, a)
		if err != nil {
			return nil, err
		}
		var self value
		if text, ok := any(v).(string); ok {
			self = text
		}
		if err := r.spendOn(self, a); err != nil {
			return nil, err
		}
		return m.apply(r, v, p)
	}}, true
}

var sequenceMethods = map[string]methodEntry[[]value]{
	"index": {[]string{"value", "start", "stop"}, 1, func(r *renderer, items []value, p params) (value, error) {
		from, to, err := p.window(len(items))
		if err != nil {
			return nil, err
		}
		for i := from; i < to; i++ {
			if r.equal(items[i], p["value"]) {
				return int64(i), nil
			}
		}
		return nil, fmt.Errorf("%s is not in list", brief(p["value"]))
	}},
	"count": {[]string{"value"}, 1, func(r *renderer, items []value, p params) (value, error) {
		n := int64(0)
		for _, e := range items {
			if r.equal(e, p["value"]) {
				n++
			}
		}
		return n, nil
	}},
	"copy": {nil, 0, func(r *renderer, items []value, _ params) (value, error) {
		return &list{append([]value{}, items...)}, r.allocate(len(items) * itemSize)
	}},
}

// window reads the optional arguments start and stop over n items.
func (p params) window(n int) (from, to int, err error) {
	at := [2]int{0, n}
	for i, name := range []string{"start", "stop"} {
		if p[name] == nil {
			continue
		}
		k, err := p.int(name, 0)
		if err != nil {
			return 0, 0, err
		}
		if k < 0 {
			k = max(0, k+n)
		}
		at[i] = min(k, n+1-i) // a start beyond the end is none
	}
	return at[0], at[1], nil
}

var dictMethods map[string]methodEntry[*dict]

func init() {
	viewOf := func(kind string) methodEntry[*dict] {
		return methodEntry[*dict]{nil, 0, func(_ *renderer, d *dict, _ params) (value, error) { return &view{d, kind}, nil }}
	}
	dictMethods = map[string]methodEntry[*dict]{
		"keys": viewOf("keys"), "values": viewOf("values"), "items": viewOf("items"),
		"get": {[]string{"key", "default"}, 1, func(_ *renderer, d *dict, p params) (value, error) {
			if v, ok := d.get(p["key"]); ok {
				return v, nil
			}
			return p["default"], nil
		}},
		"copy": {nil, 0, func(r *renderer, d *dict, _ params) (value, error) {
			out := newDict()
			for i, k := range d.keys {
				_ = out.set(k, d.values[i])
			}
			return out, r.allocate(2 * d.len() * itemSize)
		}},
	}
	for n := range mutating {
		if n, ok := strings.CutPrefix(n, "dict."); ok {
			dictMethods[n] = methodEntry[*dict]{[]string{"a", "b"}, 0, func(*renderer, *dict, params) (value, error) {
				return nil, fmt.Errorf("access to attribute '%s' of 'dict' object is unsafe", n)
			}}
		}
	}
}

var textMethods map[string]methodEntry[string]

func init() {
	type entry = methodEntry[string]
	mapped := func(f func(string) string) entry {
		return entry{nil, 0, func(r *renderer, s string, _ params) (value, error) { return f(s), r.allocate(len(s)) }}
	}
	asked := func(f func(rune) bool) entry { // true of every character, of which there is one at least
		return entry{nil, 0, func(_ *renderer, s string, _ params) (value, error) {
			return s != "" && strings.IndexFunc(s, func(c rune) bool { return !f(c) }) < 0, nil
		}}
	}
	stripped := func(bySet func(string, string) string, byFunc func(string, func(rune) bool) string) entry {
		return entry{[]string{"chars"}, 0, func(_ *renderer, s string, p params) (value, error) {
			if p["chars"] == nil {
				return byFunc(s, isSpace), nil
			}
			chars, err := p.text("chars", "")
			return bySet(s, chars), err
		}}
	}
	found := func(index func(s, sub string) int, must bool) entry {
		return entry{[]string{"sub", "start", "stop"}, 1, func(_ *renderer, s string, p params) (value, error) {
			sub, err := p.text("sub", "")
			if err != nil {
				return nil, err
			}
			from, part, err := p.part(s)
			if err != nil {
				return nil, err
			}
			i := index(part, sub)
			if i < 0 || from > utf8.RuneCountInString(s) {
				if must {
					return nil, errors.New("substring not found")
				}
				return int64(-1), nil
			}
			return int64(from + utf8.RuneCountInString(part[:i])), nil
		}}
	}
	affix := func(has func(s, affix string) bool) entry {
		return entry{[]string{"prefix", "start", "stop"}, 1, func(_ *renderer, s string, p params) (value, error) {
			_, part, err := p.part(s)
			if err != nil {
				return nil, err
			}
			options, ok := p["prefix"].(tuple)
			if !ok {
				options = tuple{p["prefix"]}
			}
			for _, o := range options {
				a, ok := o.(string)
				if !ok {
					return nil, fmt.Errorf("first arg must be str or a tuple of str, not %s", typeName(o))
				}
				if has(part, a) {
					return true, nil
				}
			}
			return false, nil
		}}
	}
	partition := func(index func(s, sub string) int, front bool) entry {
		return entry{[]string{"sep"}, 1, func(r *renderer, s string, p params) (value, error) {
			sep, err := p.text("sep", "")
			if err != nil {
				return nil, err
			}
			if sep == "" {
				return nil, errors.New("empty separator")
			}
			if i := index(s, sep); i >= 0 {
				return tuple{s[:i], sep, s[i+len(sep):]}, nil
			}
			if front {
				return tuple{s, "", ""}, nil
			}
			return tuple{"", "", s}, nil
		}}
	}
	justified := func(align byte) entry {
		return entry{[]string{"width", "fillchar"}, 1, func(r *renderer, s string, p params) (value, error) {
			n, err := p.int("width", 0)
			if err != nil {
				return nil, err
			}
			fill, err := p.text("fillchar", " ")
			if err != nil {
				return nil, err
			}
			if utf8.RuneCountInString(fill) != 1 {
				return nil, errors.New("the fill character must be exactly one character long")
			}
			c, _ := utf8.DecodeRuneInString(fill)
			return r.padded(s, n, c, align)
		}}
	}
	textMethods = map[string]entry{
		"upper": mapped(upper), "lower": mapped(lower), "casefold": mapped(func(s string) string { return strings.ReplaceAll(lower(s), "ß", "ss") }),
		"capitalize": mapped(capitalize), "title": mapped(titleMethod), "swapcase": mapped(swapCase),
		"strip": stripped(strings.Trim, strings.TrimFunc), "lstrip": stripped(strings.TrimLeft, strings.TrimLeftFunc),
		"rstrip":  stripped(strings.TrimRight, strings.TrimRightFunc),
		"isalpha": asked(unicode.IsLetter), "isdigit": asked(isDigit), "isdecimal": asked(unicode.IsDigit), "isnumeric": asked(unicode.IsNumber),
		"isalnum": asked(func(c rune) bool { return unicode.IsLetter(c) || unicode.IsNumber(c) }),
		"isspace": asked(isSpace), "isascii": {nil, 0, func(_ *renderer, s string, _ params) (value, error) {
			return strings.IndexFunc(s, func(c rune) bool { return c > 0x7f }) < 0, nil
		}},
		"isidentifier": {nil, 0, func(_ *renderer, s string, _ params) (value, error) {
			c, _ := utf8.DecodeRuneInString(s)
			return s != "" && !unicode.IsDigit(c) && strings.IndexFunc(s, func(c rune) bool {
				return c != '_' && !unicode.IsLetter(c) && !unicode.IsDigit(c) && !unicode.IsMark(c)
			}) < 0, nil
		}},
		"isprintable": {nil, 0, func(_ *renderer, s string, _ params) (value, error) {
			return strings.IndexFunc(s, func(c rune) bool { return !printable(c) }) < 0, nil
		}},
		"isupper": {nil, 0, func(_ *renderer, s string, _ params) (value, error) {
			return cased(s, unicode.IsUpper, unicode.IsLower), nil
		}},
		"islower": {nil, 0, func(_ *renderer, s string, _ params) (value, error) {
			return cased(s, unicode.IsLower, unicode.IsUpper), nil
		}},
		"istitle": {nil, 0, func(_ *renderer, s string, _ params) (value, error) {
			return strings.IndexFunc(s, unicode.IsLetter) >= 0 && titleMethod(s) == s, nil
		}},
		"find": found(strings.Index, false), "rfind": found(strings.LastIndex, false),
		"index": found(strings.Index, true), "rindex": found(strings.LastIndex, true),
		"startswith": affix(strings.HasPrefix), "endswith": affix(strings.HasSuffix),
		"partition": partition(strings.Index, true), "rpartition": partition(strings.LastIndex, false),
		"ljust": justified('<'), "rjust": justified('>'), "center": justified('^'),
		"split": {[]string{"sep", "maxsplit"}, 0, splitMethod}, "rsplit": {[]string{"sep", "maxsplit"}, 0, rsplitMethod},
		"removeprefix": {[]string{"prefix"}, 1, func(_ *renderer, s string, p params) (value, error) {
			a, err := p.text("prefix", "")
			return strings.TrimPrefix(s, a), err
		}},
		"removesuffix": {[]string{"suffix"}, 1, func(_ *renderer, s string, p params) (value, error) {
			a, err := p.text("suffix", "")
			return strings.TrimSuffix(s, a), err
		}},
		"replace":    {[]string{"old", "new", "count"}, 2, replaceMethod},
		"count":      {[]string{"sub", "start", "stop"}, 1, countMethod},
		"join":       {[]string{"iterable"}, 1, joinMethod},
		"zfill":      {[]string{"width"}, 1, zfillMethod},
		"expandtabs": {[]string{"tabsize"}, 0, expandTabsMethod},
		"splitlines": {[]string{"keepends"}, 0, func(r *renderer, s string, p params) (value, error) {
			return r.texts(splitLines(s, p.truth("keepends")))
		}},
	}
}

// part returns the part of s between the arguments start and stop, and where it begins.
func (p params) part(s string) (int, string, error) {
	if p["start"] == nil && p["stop"] == nil {
		return 0, s, nil
	}
	n := utf8.RuneCountInString(s)
	from, to, err := p.window(n)
	if err != nil || from > n {
		return n + 1, "", err
	}
	if to < from {
		return n + 1, "", nil
	}
	return from, substring(s, from, to), nil
}

func (r *renderer) texts(parts []string) (value, error) {
	l := &list{make([]value, len(parts))}
	n := 0
	for i, s := range parts {
		l.items[i] = s
		n += len(s) + itemSize
	}
	return l, r.allocate(n)
}

func isDigit(c rune) bool { return unicode.IsDigit(c) || c == '²' || c == '³' || c == '¹' }

func upper(s string) string { return mapCase(cases.Upper(language.Und), s, strings.ToUpper) }

func lower(s string) string {
	return mapCase(cases.Lower(language.Und, cases.HandleFinalSigma(true)), s, strings.ToLower)
}

// mapCase maps a string with Unicode's full case mapping, in which one character may become several.
func mapCase(c cases.Caser, s string, ascii func(string) string) string {
	if strings.IndexFunc(s, func(c rune) bool { return c > unicode.MaxASCII }) < 0 {
		return ascii(s)
	}
	return c.String(s)
}

// titleMethod is str.title: a letter after none is upper case, others are lower case.
func titleMethod(s string) string {
	var b strings.Builder
	inside := false
	for _, c := range s {
		switch {
		case !unicode.IsLetter(c):
			b.WriteRune(c)
		case inside:
			b.WriteString(strings.ToLower(string(c)))
		default:
			b.WriteString(titled(c))
		}
		inside = unicode.IsLetter(c)
	}
	return b.String()
}

// titled is the title case of a character, which may be several: Ss of ß.
func titled(c rune) string {
	if c <= unicode.MaxASCII {
		return string(unicode.ToUpper(c))
	}
	return cases.Title(language.Und).String(string(c))
}

func swapCase(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsUpper(c) {
			return unicode.ToLower(c)
		}
		return unicode.ToUpper(c)
	}, s)
}
