package jinja

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

func (r *renderer) getItem(e getItem, s *scope) (value, error) {
	v, err := r.eval(e.e, s)
	if err != nil {
		return nil, err
	}
	if sl, ok := e.key.(slicing); ok {
		return r.slice(v, sl, s)
	}
	key, err := r.eval(e.key, s)
	if err != nil {
		return nil, err
	}
	return r.item(v, key)
}

// item is v[key]: an item, or else the attribute of that name.
func (r *renderer) item(v, key value) (value, error) {
	if u, ok := v.(undefined); ok {
		return nil, errors.New(u.problem)
	}
	work := read(key)
	if _, ok := v.(string); ok {
		work += read(v)
	}
	if err := r.spend(work); err != nil {
		return nil, err
	}
	if found, ok := itemOf(v, key); ok {
		return found, nil
	}
	if n, ok := key.(string); ok {
		return r.attributeOnly(v, n)
	}
	if typeName(v) == "NoneType" {
		return undefined{fmt.Sprintf("'None' has no element %s", brief(key))}, nil
	}
	return undefined{fmt.Sprintf("'%s object' has no element %s", typeName(v), brief(key))}, nil
}

func itemOf(v, key value) (value, bool) {
	if d, ok := v.(*dict); ok {
		return d.get(key)
	}
	if g, ok := v.(*group); ok {
		v = tuple{g.grouper, g.list}
	}
	n, ok := number(key)
	if !ok {
		return nil, false
	}
	i, ok := n.(int64)
	if !ok {
		return nil, false
	}
	at := func(n int) (int, bool) {
		if i < 0 {
			i += int64(n)
		}
		return int(i), i >= 0 && i < int64(n)
	}
	switch v := v.(type) {
	case *list:
		if i, ok := at(len(v.items)); ok {
			return v.items[i], true
		}
	case tuple:
		if i, ok := at(len(v)); ok {
			return v[i], true
		}
	case string:
		if i, ok := at(utf8.RuneCountInString(v)); ok {
			return substring(v, i, i+1), true
		}
	case *rangeValue:
		if i, ok := at(int(v.n)); ok {
			return v.start + int64(i)*v.step, true
		}
	}
	return nil, false
}

// substring returns the code points from i up to j.
func substring(s string, i, j int) string {
	n, from := 0, len(s)
	for at := range s {
		if n == i {
			from = at
		}
		if n == j {
			return s[from:at]
		}
		n++
	}
	return s[from:]
}

func (r *renderer) slice(v value, e slicing, s *scope) (value, error) {
	var bounds [3]*int64
	for i, part := range []expr{e.start, e.stop, e.step} {
		if part == nil {
			continue
		}
		b, err := r.eval(part, s)
		if err != nil {
			return nil, err
		}
		if b == nil {
			continue
		}
		n, _ := number(b)
		at, ok := n.(int64)
		if !ok {
			return nil, errors.New("slice indices must be integers or None")
		}
		bounds[i] = &at
	}
	pick := func(items []value) ([]value, error) {
		at, err := indices(int64(len(items)), bounds)
		if err != nil {
			return nil, err
		}
		if err := r.allocate(len(at) * itemSize); err != nil {
			return nil, err
		}
		out := make([]value, len(at))
		for i, j := range at {
			out[i] = items[j]
		}
		return out, nil
	}
	switch v := v.(type) {
	case undefined:
		return nil, errors.New(v.problem)
	case string:
		if err := r.allocate(len(v) * 4); err != nil {
			return nil, err
		}
		runes := []rune(v)
		at, err := indices(int64(len(runes)), bounds)
		if err != nil {
			return nil, err
		}
		var b strings.Builder
		for _, j := range at {
			b.WriteRune(runes[j])
		}
		return b.String(), nil
	case *list:
		items, err := pick(v.items)
		return &list{items}, err
	case tuple:
		items, err := pick(v)
		return tuple(items), err
	case *rangeValue:
		start, stop, step, err := resolved(v.n, bounds)
		if err != nil {
			return nil, err
		}
		if step > maxRange || step < -maxRange {
			step = max(min(step, maxRange), -maxRange)
		}
		return newRange(v.start+start*v.step, v.start+stop*v.step, v.step*step)
	}
	return nil, fmt.Errorf("'%s' object is not subscriptable", typeName(v))
}

// resolved returns the bounds of a slice of n items.
func resolved(n int64, bounds [3]*int64) (start, stop, step int64, err error) {
	step = 1
	if bounds[2] != nil {
		step = *bounds[2]
	}
	if step == 0 {
		return 0, 0, 0, errors.New("slice step cannot be zero")
	}
	low, high := int64(0), n
	if step < 0 {
		low, high = -1, n-1
	}
	bound := func(b *int64, otherwise int64) int64 {
		if b == nil {
			return otherwise
		}
		at := *b
		if at < 0 {
			at += n
		}
		return min(max(at, low), high)
	}
	if step < 0 {
		return bound(bounds[0], high), bound(bounds[1], low), step, nil
	}
	return bound(bounds[0], low), bound(bounds[1], high), step, nil
}

// indices returns what a slice picks of n items.
func indices(n int64, bounds [3]*int64) ([]int, error) {
	start, stop, step, err := resolved(n, bounds)
	var out []int
	for i := start; err == nil && (step > 0 && i < stop || step < 0 && i > stop); {
		out = append(out, int(i))
		if step > n || step < -n {
			break
		}
		i += step
	}
	return out, err
}

// attribute is v.name: an attribute, or else the item of that name.
func (r *renderer) attribute(v value, n string) (value, error) {
	if u, ok := v.(undefined); ok {
		return nil, errors.New(u.problem)
	}
	found, err := r.attributeOnly(v, n)
	if err != nil {
		return nil, err
	}
	if _, missing := found.(undefined); missing {
		if d, ok := v.(*dict); ok {
			if item, ok := d.get(n); ok {
				return item, nil
			}
		}
	}
	return found, nil
}

func (r *renderer) attributeOnly(v value, n string) (value, error) {
	if strings.HasPrefix(n, "_") {
		if _, ok := v.(*namespace); !ok {
			return undefined{fmt.Sprintf("access to attribute '%s' of '%s' object is unsafe.", n, typeName(v))}, nil
		}
	}
	switch v := v.(type) {
	case *namespace:
		if found, ok := v.d.get(n); ok {
			return found, nil
		}
		return undefined{fmt.Sprintf("'Namespace object' has no attribute '%s'", n)}, nil
	case *loopValue:
		if found, ok := v.attribute(n); ok {
			return found, nil
		}
	case *group:
		switch n {
		case "grouper":
			return v.grouper, nil
		case "list":
			return v.list, nil
		}
	case *cycler:
		switch n {
		case "current":
			return v.items[v.at], nil
		case "next":
			return &callable{"next", func(*renderer, arguments) (value, error) {
				item := v.items[v.at]
				v.at = (v.at + 1) % len(v.items)
				return item, nil
			}}, nil
		case "reset":
			return &callable{"reset", func(*renderer, arguments) (value, error) { v.at = 0; return nil, nil }}, nil
		}
	case *callable:
		if n == "name" {
			return v.name, nil
		}
	}
	if m, ok := methodOf(v, n); ok {
		return m, nil
	}
	if v == nil {
		return undefined{fmt.Sprintf("'None' has no attribute '%s'", n)}, nil
	}
	return undefined{fmt.Sprintf("'%s object' has no attribute '%s'", typeName(v), n)}, nil
}

func (l *loopValue) attribute(n string) (value, bool) {
	i, count := int64(l.index), int64(len(l.items))
	neighbour := func(at int, problem string) value {
		if at < 0 || at >= len(l.items) {
			return undefined{problem}
		}
		return l.items[at]
	}
	switch n {
	case "index":
		return i + 1, true
	case "index0":
		return i, true
	case "revindex":
		return count - i, true
	case "revindex0":
		return count - i - 1, true
	case "first":
		return i == 0, true
	case "last":
		return i == count-1, true
	case "length":
		return count, true
	case "depth":
		return int64(l.depth) + 1, true
	case "depth0":
		return int64(l.depth), true
	case "previtem":
		return neighbour(l.index-1, "there is no previous item"), true
	case "nextitem":
		return neighbour(l.index+1, "there is no next item"), true
	case "cycle":
		return &callable{"cycle", func(_ *renderer, a arguments) (value, error) {
			if len(a.positional) == 0 {
				return nil, errors.New("no items for cycling given")
			}
			return a.positional[l.index%len(a.positional)], nil
		}}, true
	case "changed":
		return &callable{"changed", func(r *renderer, a arguments) (value, error) {
			same := l.changed != nil && r.equal(tuple(l.changed), tuple(a.positional))
			l.changed = append([]value{}, a.positional...)
			return !same, nil
		}}, true
	}
	return nil, false
}
