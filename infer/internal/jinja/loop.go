package jinja

import (
	"errors"
	"fmt"
)

// loopValue is the variable loop.
type loopValue struct {
	items   []value
	index   int
	depth   int
	changed []value // arguments of the last call of changed; nil before the first
	again   *callable
}

func (r *renderer) loop(st forStmt, s *scope) error {
	v, err := r.eval(st.over, s)
	if err != nil {
		return err
	}
	return r.loopOver(st, v, s, 0)
}

func (r *renderer) loopOver(st forStmt, v value, s *scope, depth int) error {
	items, err := r.iterate(v)
	if err != nil {
		return err
	}
	if st.when != nil {
		var kept []value
		for _, e := range items {
			inner := s.child()
			if err := r.assign(st.target, e, inner); err != nil {
				return err
			}
			ok, err := r.eval(st.when, inner)
			if err != nil {
				return err
			}
			if truth(ok) {
				kept = append(kept, e)
			}
		}
		items = kept
	}
	l := &loopValue{items: items, depth: depth}
	if st.recursive {
		l.again = &callable{name: "loop", call: func(r *renderer, a arguments) (value, error) {
			if len(a.positional) != 1 {
				return nil, errors.New("loop takes one argument")
			}
			if err := r.enter(); err != nil {
				return nil, err
			}
			defer func() { r.depth-- }()
			return r.captured(func() error { return r.loopOver(st, a.positional[0], s, depth+1) })
		}}
	}
	ended := false // as in Jinja2, the else part runs unless a body has come to its end
	for i, e := range items {
		if err := r.step(); err != nil {
			return err
		}
		l.index = i
		inner := &scope{vars: map[string]value{"loop": l}, parent: s}
		if err := r.assign(st.target, e, inner); err != nil {
			return err
		}
		f, err := r.run(st.body, inner)
		if err != nil {
			return err
		}
		if f == broken {
			break
		}
		ended = ended || f == onward
	}
	if ended || len(st.none) == 0 {
		return nil
	}
	_, err = r.run(st.none, s.child())
	return err
}

// macroValue returns what calls a macro. Its body sees the scope of its definition.
func macroValue(m *macroStmt, s *scope) *callable {
	return &callable{name: m.name, call: func(r *renderer, a arguments) (value, error) {
		if err := r.enter(); err != nil {
			return nil, err
		}
		defer func() { r.depth-- }()
		inner := s.child()
		named := newDict()
		var caller value = undefined{"No caller defined"}
		if a.named != nil {
			for i, k := range a.named.keys {
				if k == "caller" {
					caller = a.named.values[i]
					continue
				}
				_ = named.set(k, a.named.values[i])
			}
		}
		inner.set("caller", caller)
		for i, p := range m.params {
			switch v, ok := named.get(p); {
			case i < len(a.positional):
				if ok {
					return nil, fmt.Errorf("macro '%s' got several values for argument '%s'", m.name, p)
				}
				inner.set(p, a.positional[i])
			case ok:
				inner.set(p, v)
				named = without(named, p)
			case i >= len(m.params)-len(m.defaults):
				v, err := r.eval(m.defaults[i-len(m.params)+len(m.defaults)], inner)
				if err != nil {
					return nil, err
				}
				inner.set(p, v)
			default:
				inner.set(p, undefined{fmt.Sprintf("parameter '%s' was not provided", p)})
			}
		}
		var rest tuple
		if len(a.positional) > len(m.params) {
			rest = a.positional[len(m.params):]
		}
		if len(rest) > 0 && !m.varargs {
			return nil, fmt.Errorf("macro '%s' takes not more than %d argument(s)", m.name, len(m.params))
		}
		if named.len() > 0 && !m.kwargs {
			return nil, fmt.Errorf("macro '%s' takes no keyword argument '%s'", m.name, named.keys[0])
		}
		inner.set("varargs", rest)
		inner.set("kwargs", named)
		return r.body(m.body, inner)
	}}
}

func without(d *dict, key value) *dict {
	out := newDict()
	for i, k := range d.keys {
		if k != key {
			_ = out.set(k, d.values[i])
		}
	}
	return out
}
