package jinja

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
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

// copied returns the items of an iterable in a slice of its own.
func (r *renderer) copied(v value) ([]value, error) {
	items, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	return slices.Clone(items), r.allocate(len(items) * itemSize)
}

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
	if c <= unicode.MaxASCII {
		return string(unicode.ToUpper(c)) + lower(s[n:])
	}
	return cases.Title(language.Und).String(s[:n]) + lower(s[n:])
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

func firstFilter(r *renderer, v value, _ params) (value, error) {
	if g, ok := v.(*iterator); ok {
		if err := g.fill(); err != nil {
			return nil, err
		}
		if len(g.items) == 0 {
			return undefined{"no first item, sequence was empty"}, nil
		}
		first := g.items[0]
		g.items = g.items[1:]
		return first, nil
	}
	items, err := r.iterate(v)
	if err != nil || len(items) == 0 {
		return undefined{"no first item, sequence was empty"}, err
	}
	return items[0], nil
}

func lastFilter(r *renderer, v value, _ params) (value, error) {
	if g, ok := v.(*iterator); ok {
		return nil, fmt.Errorf("'%s' object is not reversible", typeName(g))
	}
	items, err := r.iterate(v)
	if err != nil || len(items) == 0 {
		return undefined{"no last item, sequence was empty"}, err
	}
	return items[len(items)-1], nil
}

func joinFilter(r *renderer, v value, p params) (value, error) {
	items, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	get, err := r.getter(p)
	if err != nil {
		return nil, err
	}
	d := r.text(p["d"])
	if !p.has("d") {
		d = ""
	}
	var b strings.Builder
	for i, e := range items {
		if e, err = get(e); err != nil {
			return nil, err
		}
		s, err := r.str(e)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteString(d)
		}
		if err := r.allocate(len(s) + len(d)); err != nil {
			return nil, err
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

// getter returns what takes the attribute that a filter is asked for, such as "a.b.0", of an item.
func (r *renderer) getter(p params) (func(value) (value, error), error) {
	switch a := p["attribute"].(type) {
	case nil:
		return func(v value) (value, error) { return v, nil }, nil
	case string:
		return r.path(a, p), nil
	case int64:
		return r.path(strconv.FormatInt(a, 10), p), nil
	}
	return nil, errors.New("an attribute must be a name or a number")
}

func (r *renderer) path(attribute string, p params) func(value) (value, error) {
	names := strings.Split(attribute, ".")
	return func(v value) (value, error) {
		for _, n := range names {
			var key value = n
			if i, err := strconv.ParseInt(n, 10, 64); err == nil && i >= 0 {
				key = i
			}
			var err error
			if v, err = r.item(v, key); err != nil {
				return nil, err
			}
			if _, missing := v.(undefined); missing && p.has("default") {
				v = p["default"]
			}
		}
		return v, nil
	}
}

func reverseFilter(r *renderer, v value, _ params) (value, error) {
	if s, ok := v.(string); ok {
		runes := []rune(s)
		slices.Reverse(runes)
		return string(runes), r.allocate(5 * len(s))
	}
	items, err := r.copied(v)
	slices.Reverse(items)
	return &iterator{items: items, name: "reversed"}, err
}

// folded is a key for sorting and for comparing: without case unless asked for.
func folded(v value, caseSensitive bool) value {
	if s, ok := v.(string); ok && !caseSensitive {
		return strings.ToLower(s)
	}
	return v
}

// keys returns the items of an iterable with the keys that they are sorted by.
func (r *renderer) keys(v value, p params) (items, keys []value, err error) {
	if items, err = r.copied(v); err != nil {
		return nil, nil, err
	}
	var getters []func(value) (value, error)
	if a, ok := p["attribute"].(string); ok && strings.Contains(a, ",") {
		for n := range strings.SplitSeq(a, ",") {
			getters = append(getters, r.path(n, p))
		}
	} else {
		get, err := r.getter(p)
		if err != nil {
			return nil, nil, err
		}
		getters = append(getters, get)
	}
	keys = make([]value, len(items))
	for i, e := range items {
		var key tuple
		for _, get := range getters {
			k, err := get(e)
			if err != nil {
				return nil, nil, err
			}
			key = append(key, folded(k, p.truth("case_sensitive")))
		}
		keys[i] = key
		if len(key) == 1 {
			keys[i] = key[0]
		}
	}
	return items, keys, r.allocate(len(items) * itemSize)
}

// sorted sorts items by keys, stably.
func (r *renderer) sorted(items, keys []value, reverse bool) ([]value, error) {
	at := make([]int, len(items))
	for i := range at {
		at[i] = i
	}
	var failed error
	slices.SortStableFunc(at, func(i, j int) int {
		if failed == nil {
			failed = r.step()
		}
		c, err := r.compare(keys[i], keys[j])
		if err != nil && failed == nil {
			failed = err
		}
		if reverse {
			return -c
		}
		return c
	})
	out := make([]value, len(items))
	for i, j := range at {
		out[i] = items[j]
	}
	return out, failed
}

func sortFilter(r *renderer, v value, p params) (value, error) {
	items, keys, err := r.keys(v, p)
	if err != nil {
		return nil, err
	}
	out, err := r.sorted(items, keys, p.truth("reverse"))
	return &list{out}, err
}

func uniqueFilter(r *renderer, v value, p params) (value, error) {
	return lazily("do_unique", func() ([]value, error) { return r.unique(v, p) }), nil
}

func (r *renderer) unique(v value, p params) ([]value, error) {
	items, keys, err := r.keys(v, p)
	if err != nil {
		return nil, err
	}
	seen := newDict()
	var out []value
	for i, k := range keys {
		if _, ok := seen.get(k); ok {
			continue
		}
		if err := seen.set(k, true); err != nil {
			return nil, err
		}
		out = append(out, items[i])
	}
	return out, nil
}

func sumFilter(r *renderer, v value, p params) (value, error) {
	if _, ok := p["start"].(string); ok {
		return nil, errors.New("sum() can't sum strings")
	}
	items, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	get, err := r.getter(p)
	if err != nil {
		return nil, err
	}
	var sum value = int64(0)
	if p.has("start") {
		sum = p["start"]
	}
	for _, e := range items {
		if e, err = get(e); err != nil {
			return nil, err
		}
		if sum, err = r.binary("+", sum, e); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

func extremeFilter(sign int) filterFunc {
	return func(r *renderer, v value, p params) (value, error) {
		items, keys, err := r.keys(v, p)
		if err != nil {
			return nil, err
		}
		if len(items) == 0 {
			return undefined{"no aggregated item, sequence was empty"}, nil
		}
		best := 0
		for i := 1; i < len(items); i++ {
			c, err := r.compare(keys[i], keys[best])
			if err != nil {
				return nil, err
			}
			if c*sign > 0 {
				best = i
			}
		}
		return items[best], nil
	}
}

func batchFilter(r *renderer, v value, p params) (value, error) {
	return lazily("do_batch", func() ([]value, error) { return r.batches(v, p) }), nil
}

func (r *renderer) batches(v value, p params) ([]value, error) {
	items, err := r.copied(v)
	if err != nil {
		return nil, err
	}
	n, err := p.int("linecount", 1)
	if err != nil {
		return nil, err
	}
	if n < 1 {
		return nil, errors.New("linecount must be positive")
	}
	var out []value
	for chunk := range slices.Chunk(items, n) {
		chunk = slices.Clone(chunk)
		if fill, ok := p["fill_with"]; ok && fill != nil {
			if err := r.allocate((n - len(chunk)) * itemSize); err != nil {
				return nil, err
			}
			for len(chunk) < n {
				chunk = append(chunk, fill)
			}
		}
		out = append(out, &list{chunk})
	}
	return out, nil
}

func sliceFilter(r *renderer, v value, p params) (value, error) {
	return lazily("do_slice", func() ([]value, error) { return r.slices(v, p) }), nil
}

func (r *renderer) slices(v value, p params) ([]value, error) {
	items, err := r.copied(v)
	if err != nil {
		return nil, err
	}
	n, err := p.int("slices", 1)
	if err != nil {
		return nil, err
	}
	if n < 1 {
		return nil, errors.New("slices must be positive")
	}
	if err := r.allocate(n * itemSize); err != nil {
		return nil, err
	}
	each, extra, offset := len(items)/n, len(items)%n, 0
	var out []value
	for i := range n {
		start := offset + i*each
		if i < extra {
			offset++
		}
		end := offset + (i+1)*each
		part := slices.Clone(items[start:end])
		if fill, ok := p["fill_with"]; ok && fill != nil && i >= extra {
			part = append(part, fill)
		}
		out = append(out, &list{part})
	}
	return out, nil
}

func groupFilter(r *renderer, v value, p params) (value, error) {
	items, keys, err := r.keys(v, p)
	if err != nil {
		return nil, err
	}
	at := make([]value, len(items))
	for i := range at {
		at[i] = int64(i)
	}
	if at, err = r.sorted(at, keys, false); err != nil {
		return nil, err
	}
	get, err := r.getter(p)
	if err != nil {
		return nil, err
	}
	out := &list{}
	var last value
	for _, i := range at {
		i := i.(int64)
		if len(out.items) > 0 && r.equal(last, keys[i]) {
			l := out.items[len(out.items)-1].(*group).list.(*list)
			l.items = append(l.items, items[i])
			continue
		}
		last = keys[i]
		name, err := get(items[i])
		if err != nil {
			return nil, err
		}
		out.items = append(out.items, &group{name, &list{[]value{items[i]}}})
	}
	return out, nil
}

func dictSortFilter(r *renderer, v value, p params) (value, error) {
	d, ok := v.(*dict)
	if !ok {
		return nil, fmt.Errorf("'%s' object has no items", typeName(v))
	}
	by, err := p.text("by", "key")
	if err != nil {
		return nil, err
	}
	if by != "key" && by != "value" {
		return nil, errors.New("you can only sort by either 'key' or 'value'")
	}
	items := (&view{d, "items"}).items()
	keys := make([]value, len(items))
	for i, e := range items {
		k := e.(tuple)[0]
		if by == "value" {
			k = e.(tuple)[1]
		}
		keys[i] = folded(k, p.truth("case_sensitive"))
	}
	if err := r.allocate(2 * len(items) * itemSize); err != nil {
		return nil, err
	}
	out, err := r.sorted(items, keys, p.truth("reverse"))
	return &list{out}, err
}

func itemsFilter(r *renderer, v value, _ params) (value, error) {
	return lazily("do_items", func() ([]value, error) {
		switch v := v.(type) {
		case undefined:
			return nil, nil
		case *dict:
			return (&view{v, "items"}).items(), r.allocate(v.len() * itemSize)
		}
		return nil, errors.New("can only get item pairs from a mapping")
	}), nil
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

func mapFilter(r *renderer, v value, a arguments) (value, error) {
	return lazily("sync_do_map", func() ([]value, error) {
		if !truth(v) { // also what is not iterable
			return nil, nil
		}
		return r.mapped(v, a)
	}), nil
}

func (r *renderer) mapped(v value, a arguments) ([]value, error) {
	items, err := r.copied(v)
	if err != nil {
		return nil, err
	}
	var apply func(value) (value, error)
	if len(a.positional) == 0 {
		p, err := bind("map", []string{"attribute", "default"}, 1, a)
		if err != nil {
			return nil, err
		}
		if apply, err = r.getter(p); err != nil {
			return nil, err
		}
	} else {
		n, ok := a.positional[0].(string)
		if !ok {
			return nil, errors.New("map takes the name of a filter")
		}
		rest := arguments{a.positional[1:], a.named}
		apply = func(v value) (value, error) { return r.applyFilter(n, v, rest) }
	}
	for i, e := range items {
		if err := r.step(); err != nil {
			return nil, err
		}
		if items[i], err = apply(e); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// selector makes select, reject, selectattr and rejectattr.
func selector(what string, keep, attribute bool) func(*renderer, value, arguments) (value, error) {
	pick := func(r *renderer, v value, a arguments) ([]value, error) {
		items, err := r.iterate(v)
		if err != nil {
			return nil, err
		}
		get := func(v value) (value, error) { return v, nil }
		rest := a
		if attribute {
			if len(a.positional) == 0 {
				return nil, fmt.Errorf("%s misses the attribute's name", what)
			}
			if get, err = r.getter(params{"attribute": a.positional[0]}); err != nil {
				return nil, err
			}
			rest.positional = a.positional[1:]
		}
		test := func(v value) (bool, error) { return truth(v), nil }
		if len(rest.positional) > 0 {
			n, ok := rest.positional[0].(string)
			if !ok {
				return nil, fmt.Errorf("%s takes the name of a test", what)
			}
			args := arguments{rest.positional[1:], rest.named}
			test = func(v value) (bool, error) { return r.applyTest(n, v, args) }
		}
		var out []value
		for _, e := range items {
			if err := r.step(); err != nil {
				return nil, err
			}
			k, err := get(e)
			if err != nil {
				return nil, err
			}
			ok, err := test(k)
			if err != nil {
				return nil, err
			}
			if ok == keep {
				out = append(out, e)
			}
		}
		return out, r.allocate(len(out) * itemSize)
	}
	return func(r *renderer, v value, a arguments) (value, error) {
		return lazily("select_or_reject", func() ([]value, error) {
			if !truth(v) { // also what is not iterable
				return nil, nil
			}
			return pick(r, v, a)
		}), nil
	}
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
