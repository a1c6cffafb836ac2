package jinja

import (
	"errors"
	"fmt"
)

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
