package jinja

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// copied returns the items of an iterable in a slice of its own.
func (r *renderer) copied(v value) ([]value, error) {
	items, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	return slices.Clone(items), r.allocate(len(items) * itemSize)
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

// itemsAndCount returns the items of an iterable, and the positive argument of that name.
func (r *renderer) itemsAndCount(v value, p params, name string) ([]value, int, error) {
	items, err := r.copied(v)
	if err != nil {
		return nil, 0, err
	}
	n, err := p.int(name, 1)
	if err != nil {
		return nil, 0, err
	}
	if n < 1 {
		return nil, 0, errors.New(name + " must be positive")
	}
	return items, n, nil
}

func batchFilter(r *renderer, v value, p params) (value, error) {
	return lazily("do_batch", func() ([]value, error) { return r.batches(v, p) }), nil
}

func (r *renderer) batches(v value, p params) ([]value, error) {
	items, n, err := r.itemsAndCount(v, p, "linecount")
	if err != nil {
		return nil, err
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
	items, n, err := r.itemsAndCount(v, p, "slices")
	if err != nil {
		return nil, err
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
