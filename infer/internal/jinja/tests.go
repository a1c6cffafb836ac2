package jinja

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

type testEntry struct {
	args  int
	apply func(r *renderer, v value, args []value) (bool, error)
}

var testTable map[string]testEntry

func init() {
	plain := func(f func(v value) bool) testEntry {
		return testEntry{apply: func(_ *renderer, v value, _ []value) (bool, error) { return f(v), nil }}
	}
	comparing := func(op string) testEntry {
		return testEntry{1, func(r *renderer, v value, a []value) (bool, error) { return r.compared(op, v, a[0]) }}
	}
	casing := func(wanted, other func(rune) bool) testEntry {
		return testEntry{apply: func(r *renderer, v value, _ []value) (bool, error) {
			text := r.text(v)
			return cased(text, wanted, other), r.spend(read(text))
		}}
	}
	isInt := func(v value) bool { _, ok := v.(int64); return ok }
	isFloat := func(v value) bool { _, ok := v.(float64); return ok }
	remainder := func(r *renderer, v, by value) (value, error) { return r.binary("%", v, by) }
	divides := func(rest int64) func(r *renderer, v value, _ []value) (bool, error) {
		return func(r *renderer, v value, _ []value) (bool, error) {
			m, err := remainder(r, v, int64(2))
			return err == nil && r.equal(m, rest), err
		}
	}
	testTable = map[string]testEntry{
		"defined":   plain(func(v value) bool { _, missing := v.(undefined); return !missing }),
		"undefined": plain(func(v value) bool { _, missing := v.(undefined); return missing }),
		"none":      plain(func(v value) bool { return v == nil }),
		"boolean":   plain(func(v value) bool { _, ok := v.(bool); return ok }),
		"true":      plain(func(v value) bool { return v == true }),
		"false":     plain(func(v value) bool { return v == false }),
		"integer":   plain(isInt),
		"float":     plain(isFloat),
		"number":    plain(func(v value) bool { _, ok := number(v); return ok }),
		"string":    plain(func(v value) bool { _, ok := v.(string); return ok }),
		"mapping":   plain(func(v value) bool { _, ok := v.(*dict); return ok }),
		"callable":  plain(isCallable),
		"escaped":   plain(func(value) bool { return false }),
		"iterable":  plain(isIterable),
		"sequence":  plain(isSequence),
		"lower":     casing(unicode.IsLower, unicode.IsUpper),
		"upper":     casing(unicode.IsUpper, unicode.IsLower),
		"filter":    plain(func(v value) bool { s, ok := v.(string); _, found := filterTable[s]; return ok && found }),
		"test":      plain(func(v value) bool { s, ok := v.(string); _, found := testTable[s]; return ok && found }),
		"odd":       {0, divides(1)},
		"even":      {0, divides(0)},
		"divisibleby": {1, func(r *renderer, v value, a []value) (bool, error) {
			m, err := remainder(r, v, a[0])
			return err == nil && r.equal(m, int64(0)), err
		}},
		"sameas": {1, func(_ *renderer, v value, a []value) (bool, error) { return same(v, a[0]), nil }},
		"in":     comparing("in"),
		"==":     comparing("=="), "!=": comparing("!="), "<": comparing("<"), "<=": comparing("<="), ">": comparing(">"), ">=": comparing(">="),
		"eq": comparing("=="), "equalto": comparing("=="),
		"ne": comparing("!="),
		"lt": comparing("<"), "lessthan": comparing("<"), "le": comparing("<="),
		"gt": comparing(">"), "greaterthan": comparing(">"), "ge": comparing(">="),
	}
}

func isCallable(v value) bool {
	switch v := v.(type) {
	case *callable, undefined:
		return true
	case *loopValue:
		return true
	default:
		_ = v
	}
	return false
}

func isIterable(v value) bool {
	switch v.(type) {
	case string, *list, tuple, *dict, *view, *iterator, *rangeValue, *group, undefined, *loopValue:
		return true
	}
	return false
}

// isSequence: what has a length and items.
func isSequence(v value) bool {
	switch v.(type) {
	case string, *list, tuple, *dict, *rangeValue, *group, undefined:
		return true
	}
	return false
}

// same is Python's is, as far as values have an identity here.
func same(a, b value) bool {
	switch a := a.(type) {
	case undefined:
		return false
	case tuple:
		t, ok := b.(tuple)
		return ok && len(a) == 0 && len(t) == 0
	case float64, int64, bool, string, nil:
		return a == b
	}
	if _, ok := b.(tuple); ok {
		return false
	}
	return a == b
}

// cased is isupper and islower: there are letters of the wanted case and none of the other.
func cased(s string, wanted, other func(rune) bool) bool {
	return strings.IndexFunc(s, wanted) >= 0 && strings.IndexFunc(s, func(c rune) bool { return other(c) || unicode.IsTitle(c) }) < 0
}

// globalTable holds the functions that templates see.
var globalTable = map[string]func(*renderer, arguments) (value, error){
	"range":           rangeFunction,
	"dict":            dictFunction,
	"namespace":       namespaceFunction,
	"cycler":          cyclerFunction,
	"joiner":          joinerFunction,
	"raise_exception": raiseFunction,
	"strftime_now":    strftimeFunction,
	"lipsum": func(*renderer, arguments) (value, error) {
		return nil, errors.New("lipsum is not supported: a template has one result")
	},
}

// maxRange is the sandbox's bound of range.
const maxRange = 100_000

func rangeFunction(_ *renderer, a arguments) (value, error) {
	if len(a.positional) < 1 || len(a.positional) > 3 || a.named != nil {
		return nil, errors.New("range takes 1 to 3 arguments")
	}
	var at [3]int64
	for i, v := range a.positional {
		n, _ := number(v)
		k, ok := n.(int64)
		if !ok {
			if u, missing := v.(undefined); missing {
				return nil, errors.New(u.problem)
			}
			return nil, fmt.Errorf("'%s' object cannot be interpreted as an integer", typeName(v))
		}
		at[i] = k
	}
	r := &rangeValue{0, at[0], 1, 0}
	if len(a.positional) > 1 {
		r.start, r.stop = at[0], at[1]
	}
	if len(a.positional) > 2 {
		r.step = at[2]
	}
	return newRange(r.start, r.stop, r.step)
}

func newRange(start, stop, step int64) (value, error) {
	r := &rangeValue{start, stop, step, 0}
	switch {
	case r.step == 0:
		return nil, errors.New("range() arg 3 must not be zero")
	case r.step > 0 && r.stop > r.start:
		r.n = int64((uint64(r.stop) - uint64(r.start) + uint64(r.step) - 1) / uint64(r.step))
	case r.step < 0 && r.stop < r.start:
		r.n = int64((uint64(r.start) - uint64(r.stop) - uint64(r.step) - 1) / -uint64(r.step))
	}
	if r.n > maxRange || r.n < 0 {
		return nil, fmt.Errorf("range too big: the sandbox blocks ranges larger than %d", maxRange)
	}
	return r, nil
}

// pairsOf reads the arguments of dict and namespace.
func pairsOf(r *renderer, what string, a arguments) (*dict, error) {
	d := newDict()
	if len(a.positional) > 1 {
		return nil, fmt.Errorf("%s expected at most 1 argument, got %d", what, len(a.positional))
	}
	if len(a.positional) == 1 {
		if from, ok := a.positional[0].(*dict); ok {
			for i, k := range from.keys {
				_ = d.set(k, from.values[i])
			}
		} else {
			items, err := r.iterate(a.positional[0])
			if err != nil {
				return nil, err
			}
			for _, e := range items {
				pair, err := r.iterate(e)
				if err != nil {
					return nil, err
				}
				if len(pair) != 2 {
					return nil, fmt.Errorf("%s takes pairs", what)
				}
				if err := d.set(pair[0], pair[1]); err != nil {
					return nil, err
				}
			}
		}
	}
	if a.named != nil {
		for i, k := range a.named.keys {
			_ = d.set(k, a.named.values[i])
		}
	}
	return d, r.allocate(2 * d.len() * itemSize)
}

func dictFunction(r *renderer, a arguments) (value, error) { return pairsOf(r, "dict", a) }

func namespaceFunction(r *renderer, a arguments) (value, error) {
	d, err := pairsOf(r, "namespace", a)
	return &namespace{d}, err
}

func cyclerFunction(_ *renderer, a arguments) (value, error) {
	if len(a.positional) == 0 {
		return nil, errors.New("at least one item has to be provided")
	}
	return &cycler{items: a.positional}, nil
}

func joinerFunction(_ *renderer, a arguments) (value, error) {
	p, err := bind("joiner", []string{"sep"}, 0, a)
	if err != nil {
		return nil, err
	}
	sep, err := p.text("sep", ", ")
	if err != nil {
		return nil, err
	}
	used := false
	return &callable{"joiner", func(*renderer, arguments) (value, error) {
		if used {
			return sep, nil
		}
		used = true
		return "", nil
	}}, nil
}

func raiseFunction(r *renderer, a arguments) (value, error) {
	reason := "no reason given"
	if len(a.positional) > 0 {
		reason = r.text(a.positional[0])
	} else if a.named != nil && a.named.len() > 0 {
		reason = r.text(a.named.values[0])
	}
	return nil, &RaisedError{reason}
}

func strftimeFunction(r *renderer, a arguments) (value, error) {
	p, err := bind("strftime_now", []string{"format"}, 1, a)
	if err != nil {
		return nil, err
	}
	format, err := p.text("format", "")
	if err != nil {
		return nil, err
	}
	return strftime(r.now, format), r.allocate(len(format) * 10)
}
