package jinja

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// params are the arguments of a filter or a method by name; those that were not given are absent.
type params map[string]value

func (p params) has(n string) bool { _, ok := p[n]; return ok }

func (p params) truth(n string) bool { return truth(p[n]) }

func (p params) text(n, otherwise string) (string, error) {
	v, ok := p[n]
	if !ok {
		return otherwise, nil
	}
	if s, ok := v.(string); ok {
		return s, nil
	}
	return "", fmt.Errorf("argument '%s' must be str, not %s", n, typeName(v))
}

func (p params) int(n string, otherwise int) (int, error) {
	v, ok := p[n]
	if !ok {
		return otherwise, nil
	}
	x, _ := number(v)
	if i, ok := x.(int64); ok && i >= math.MinInt32 && i <= math.MaxInt32 {
		return int(i), nil
	}
	return 0, fmt.Errorf("argument '%s' must be an integer, not %s", n, brief(v))
}

// bind gives arguments their names. required of the names must be there.
func bind(what string, names []string, required int, a arguments) (params, error) {
	if len(a.positional) > len(names) {
		return nil, fmt.Errorf("%s takes at most %d argument(s), %d given", what, len(names), len(a.positional))
	}
	p := params{}
	for i, v := range a.positional {
		p[names[i]] = v
	}
	if a.named != nil {
		for i, k := range a.named.keys {
			n := k.(string)
			if _, twice := p[n]; twice {
				return nil, fmt.Errorf("%s got several values for argument '%s'", what, n)
			}
			if !slices.Contains(names, n) {
				return nil, fmt.Errorf("%s got an unexpected keyword argument '%s'", what, n)
			}
			p[n] = a.named.values[i]
		}
	}
	for _, n := range names[:required] {
		if !p.has(n) {
			return nil, fmt.Errorf("%s misses the argument '%s'", what, n)
		}
	}
	return p, nil
}

type filterFunc func(r *renderer, v value, p params) (value, error)

type filterEntry struct {
	params   []string
	required int
	apply    filterFunc
}

var filterTable map[string]filterEntry

func init() {
	textFilter := func(f func(string) string) filterEntry {
		return filterEntry{apply: func(r *renderer, v value, _ params) (value, error) {
			s, err := r.str(v)
			if err != nil {
				return nil, err
			}
			return f(s), r.allocate(len(s))
		}}
	}
	filterTable = map[string]filterEntry{
		"upper":       textFilter(upper),
		"lower":       textFilter(lower),
		"title":       textFilter(titleFilter),
		"capitalize":  textFilter(capitalize),
		"escape":      textFilter(escape),
		"e":           textFilter(escape),
		"forceescape": textFilter(escape),
		"safe":        textFilter(func(s string) string { return s }),
		"string":      textFilter(func(s string) string { return s }),
		"urlencode":   {apply: urlencodeFilter},
		"striptags":   textFilter(stripTags),
		"pprint":      {apply: func(r *renderer, v value, _ params) (value, error) { return r.repr(v), nil }},
		"trim":        {params: []string{"chars"}, apply: trimFilter},
		"replace":     {params: []string{"old", "new", "count"}, required: 2, apply: replaceFilter},
		"default":     {params: []string{"default_value", "boolean"}, apply: defaultFilter},
		"length":      {apply: lengthFilter},
		"count":       {apply: lengthFilter},
		"first":       {apply: firstFilter},
		"last":        {apply: lastFilter},
		"join":        {params: []string{"d", "attribute"}, apply: joinFilter},
		"list": {apply: func(r *renderer, v value, _ params) (value, error) {
			items, err := r.copied(v)
			return &list{items}, err
		}},
		"reverse":        {apply: reverseFilter},
		"sort":           {params: []string{"reverse", "case_sensitive", "attribute"}, apply: sortFilter},
		"unique":         {params: []string{"case_sensitive", "attribute"}, apply: uniqueFilter},
		"sum":            {params: []string{"attribute", "start"}, apply: sumFilter},
		"min":            {params: []string{"case_sensitive", "attribute"}, apply: extremeFilter(-1)},
		"max":            {params: []string{"case_sensitive", "attribute"}, apply: extremeFilter(1)},
		"batch":          {params: []string{"linecount", "fill_with"}, required: 1, apply: batchFilter},
		"slice":          {params: []string{"slices", "fill_with"}, required: 1, apply: sliceFilter},
		"groupby":        {params: []string{"attribute", "default", "case_sensitive"}, required: 1, apply: groupFilter},
		"dictsort":       {params: []string{"case_sensitive", "by", "reverse"}, apply: dictSortFilter},
		"items":          {apply: itemsFilter},
		"attr":           {params: []string{"name"}, required: 1, apply: attrFilter},
		"abs":            {apply: absFilter},
		"int":            {params: []string{"default", "base"}, apply: intFilter},
		"float":          {params: []string{"default"}, apply: floatFilter},
		"round":          {params: []string{"precision", "method"}, apply: roundFilter},
		"tojson":         {params: []string{"ensure_ascii", "indent", "separators", "sort_keys"}, apply: jsonFilter},
		"indent":         {params: []string{"width", "first", "blank"}, apply: indentFilter},
		"center":         {params: []string{"width"}, apply: centerFilter},
		"truncate":       {params: []string{"length", "killwords", "end", "leeway"}, apply: truncateFilter},
		"wordcount":      {apply: wordCountFilter},
		"wordwrap":       {params: []string{"width", "break_long_words", "wrapstring", "break_on_hyphens"}, apply: wordWrapFilter},
		"filesizeformat": {params: []string{"binary"}, apply: fileSizeFilter},
		"random": {apply: func(*renderer, value, params) (value, error) {
			return nil, errors.New("filter 'random' is not supported: a template has one result")
		}},
	}
	filterTable["d"] = filterTable["default"]
	// Those that take a filter's or a test's name and its arguments bind them themselves.
	for n, f := range map[string]func(*renderer, value, arguments) (value, error){
		"map": mapFilter, "select": selector("select", true, false), "reject": selector("reject", false, false),
		"selectattr": selector("selectattr", true, true), "rejectattr": selector("rejectattr", false, true), "format": formatFilter,
	} {
		variadic[n] = f
		filterTable[n] = filterEntry{}
	}
}

// variadic holds the filters that take any arguments.
var variadic = map[string]func(*renderer, value, arguments) (value, error){}

func titleFilter(s string) string {
	var b strings.Builder
	start := true
	for _, c := range s {
		switch {
		case strings.ContainsRune("-({[<", c) || isSpace(c):
			start = true
			b.WriteRune(c)
		case start:
			b.WriteString(strings.ToUpper(string(c)))
			start = false
		default:
			b.WriteString(strings.ToLower(string(c)))
		}
	}
	return b.String()
}

func capitalize(s string) string {
	c, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return titled(c) + lower(s[n:])
}

// urlencodeFilter encodes a text, or the pairs of a query.
func urlencodeFilter(r *renderer, v value, _ params) (value, error) {
	if _, isText := v.(string); isText || !isIterable(v) {
		s := url.QueryEscape(r.text(v))
		return strings.ReplaceAll(strings.ReplaceAll(s, "+", "%20"), "%2F", "/"), r.allocate(3 * len(s))
	}
	if d, ok := v.(*dict); ok {
		v = &view{d, "items"}
	}
	items, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range items {
		pair, err := r.iterate(e)
		if err != nil {
			return nil, err
		}
		if len(pair) != 2 {
			return nil, errors.New("urlencode takes a text or pairs")
		}
		s := url.QueryEscape(r.text(pair[0])) + "=" + url.QueryEscape(r.text(pair[1]))
		if err := r.allocate(len(s)); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return strings.Join(out, "&"), nil
}

var escaper = strings.NewReplacer("&", "&amp;", ">", "&gt;", "<", "&lt;", "'", "&#39;", `"`, "&#34;")

func escape(s string) string { return escaper.Replace(s) }

// stripTags removes comments and tags, and folds white space.
func stripTags(s string) string {
	for _, marks := range [][2]string{{"<!--", "-->"}, {"<", ">"}} {
		for {
			i := strings.Index(s, marks[0])
			if i < 0 {
				break
			}
			j := strings.Index(s[i:], marks[1])
			if j < 0 {
				break
			}
			s = s[:i] + s[i+j+len(marks[1]):]
		}
	}
	s = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&#39;", "'", "&#34;", `"`, "&quot;", `"`, "&amp;", "&").Replace(s)
	return strings.Join(strings.FieldsFunc(s, isSpace), " ")
}

func trimFilter(r *renderer, v value, p params) (value, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	if chars, ok := p["chars"].(string); ok {
		return strings.Trim(s, chars), nil
	}
	return strings.TrimFunc(s, isSpace), nil
}

func replaceFilter(r *renderer, v value, p params) (value, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	n, err := p.int("count", -1)
	if err != nil && p["count"] != nil {
		return nil, err
	}
	if p["count"] == nil {
		n = -1
	}
	return r.replaced(s, r.text(p["old"]), r.text(p["new"]), n)
}

func (r *renderer) replaced(s, old, by string, n int) (value, error) {
	found := strings.Count(s, old)
	if n >= 0 {
		found = min(found, n)
	}
	if by != "" && found > int(r.limits.Allocated)/len(by) {
		return nil, r.allocate(math.MaxInt)
	}
	if err := r.allocate(len(s) + found*len(by)); err != nil {
		return nil, err
	}
	return strings.Replace(s, old, by, n), nil
}

func defaultFilter(_ *renderer, v value, p params) (value, error) {
	_, missing := v.(undefined)
	if missing || p.truth("boolean") && !truth(v) {
		if d, ok := p["default_value"]; ok {
			return d, nil
		}
		return "", nil
	}
	return v, nil
}

func lengthFilter(_ *renderer, v value, _ params) (value, error) {
	n, err := length(v)
	return int64(n), err
}

func attrFilter(r *renderer, v value, p params) (value, error) {
	n, err := p.text("name", "")
	if err != nil {
		return nil, err
	}
	if u, ok := v.(undefined); ok {
		return nil, errors.New(u.problem)
	}
	return r.attributeOnly(v, n)
}

func formatFilter(r *renderer, v value, a arguments) (value, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	if a.named != nil && a.named.len() > 0 {
		if len(a.positional) > 0 {
			return nil, errors.New("can't handle positional and keyword arguments at the same time")
		}
		return r.percent(s, a.named)
	}
	return r.percent(s, tuple(a.positional))
}
