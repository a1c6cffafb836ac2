package jinja

import (
	"fmt"
	"strings"
)

// equal is Python's ==.
func (r *renderer) equal(a, b value) bool { return r.equalAt(a, b, 0) }

func (r *renderer) equalAt(a, b value, depth int) bool {
	r.must(1)
	if depth > maxShown {
		return false
	}
	if x, y, ok := numbers(a, b); ok {
		if i, isInt := x.(int64); isInt {
			if j, isInt := y.(int64); isInt {
				return i == j
			}
		}
		return asFloat(x) == asFloat(y)
	}
	all := func(x, y []value) bool {
		if len(x) != len(y) {
			return false
		}
		for i := range x {
			if !r.equalAt(x[i], y[i], depth+1) {
				return false
			}
		}
		return true
	}
	switch a := a.(type) {
	case nil:
		return b == nil
	case string:
		s, ok := b.(string)
		r.must(int64(min(len(a), len(s)) >> 6))
		return ok && a == s
	case undefined:
		_, ok := b.(undefined)
		return ok
	case *list:
		l, ok := b.(*list)
		return ok && all(a.items, l.items)
	case tuple:
		t, ok := b.(tuple)
		return ok && all(a, t)
	case *dict:
		d, ok := b.(*dict)
		if !ok || a.len() != d.len() {
			return false
		}
		for i, k := range a.keys {
			v, ok := d.get(k)
			if !ok || !r.equalAt(a.values[i], v, depth+1) {
				return false
			}
		}
		return true
	case *rangeValue:
		other, ok := b.(*rangeValue)
		r.must(a.n >> 3)
		return ok && all(a.items(), other.items())
	}
	return a == b // identity
}

// numbers reports whether both values are numbers, True and False among them, and returns them as int64 or float64.
func numbers(a, b value) (x, y value, ok bool) {
	x, ok = number(a)
	if !ok {
		return nil, nil, false
	}
	y, ok = number(b)
	return x, y, ok
}

func number(v value) (value, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return int64(1), true
		}
		return int64(0), true
	case int64, float64:
		return v, true
	}
	return nil, false
}

func asFloat(v value) float64 {
	if i, ok := v.(int64); ok {
		return float64(i)
	}
	return v.(float64)
}

// compare orders two values as Python's < does; it fails for types that have no order.
func (r *renderer) compare(a, b value) (int, error) {
	r.must(1)
	if x, y, ok := numbers(a, b); ok {
		i, iOK := x.(int64)
		j, jOK := y.(int64)
		if iOK && jOK {
			return order(i < j, i > j), nil
		}
		return order(asFloat(x) < asFloat(y), asFloat(x) > asFloat(y)), nil
	}
	switch a := a.(type) {
	case string:
		if s, ok := b.(string); ok {
			r.must(int64(min(len(a), len(s)) >> 6))
			return strings.Compare(a, s), nil
		}
	case *list:
		if l, ok := b.(*list); ok {
			return r.compareAll(a.items, l.items)
		}
	case tuple:
		if t, ok := b.(tuple); ok {
			return r.compareAll(a, t)
		}
	case undefined:
		return 0, fmt.Errorf("%s", a.problem)
	}
	if u, ok := b.(undefined); ok {
		return 0, fmt.Errorf("%s", u.problem)
	}
	return 0, fmt.Errorf("'%s' and '%s' cannot be ordered", typeName(a), typeName(b))
}

func (r *renderer) compareAll(a, b []value) (int, error) {
	for i := range min(len(a), len(b)) {
		if r.equal(a[i], b[i]) {
			continue
		}
		return r.compare(a[i], b[i])
	}
	return order(len(a) < len(b), len(a) > len(b)), nil
}

func order(less, more bool) int {
	switch {
	case less:
		return -1
	case more:
		return 1
	}
	return 0
}

// contains is Python's in.
func (r *renderer) contains(container, v value) (bool, error) {
	r.must(read(container) + read(v))
	switch c := container.(type) {
	case string:
		s, ok := v.(string)
		if !ok {
			return false, fmt.Errorf("'in <string>' requires string as left operand, not %s", typeName(v))
		}
		return strings.Contains(c, s), nil
	case *dict:
		if _, missing := v.(undefined); missing {
			return false, nil
		}
		if _, err := hashKey(v); err != nil {
			return false, err
		}
		_, ok := c.get(v)
		return ok, nil
	}
	items, err := iterate(container)
	if err != nil {
		return false, fmt.Errorf("argument of type '%s' is not iterable", typeName(container))
	}
	for _, e := range items {
		if r.equal(e, v) {
			return true, nil
		}
	}
	return false, nil
}
