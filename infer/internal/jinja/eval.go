package jinja

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// evalMarked returns the value of an expression, which may be markup.
func (r *renderer) evalMarked(e expr, s *scope) (value, error) {
	if err := r.step(); err != nil {
		return nil, err
	}
	switch e := e.(type) {
	case constant:
		return e.v, nil
	case nameExpr:
		if v, ok := s.get(e.name); ok {
			return v, nil
		}
		return undefined{fmt.Sprintf("'%s' is undefined", e.name)}, nil
	case listExpr:
		items, err := r.evalAll(e.items, s)
		return &list{items}, err
	case tupleExpr:
		items, err := r.evalAll(e.items, s)
		return tuple(items), err
	case dictExpr:
		return r.dict(e, s)
	case condExpr:
		return r.conditional(e, s)
	case logic:
		left, err := r.evalMarked(e.left, s)
		if err != nil || truth(plain(left)) != e.and {
			return left, err
		}
		return r.evalMarked(e.right, s)
	case not:
		v, err := r.eval(e.e, s)
		return !truth(v), err
	case unary:
		v, err := r.eval(e.e, s)
		if err != nil {
			return nil, err
		}
		return negated(v, e.minus)
	case binary:
		left, err := r.evalMarked(e.left, s)
		if err != nil {
			return nil, err
		}
		right, err := r.evalMarked(e.right, s)
		if err != nil {
			return nil, err
		}
		return r.markedBinary(e.op, left, right)
	case concat:
		return r.concat(e, s)
	case comparison:
		return r.comparison(e, s)
	case getAttr:
		v, err := r.eval(e.e, s)
		if err != nil {
			return nil, err
		}
		return r.attribute(v, e.name)
	case getItem:
		return r.getItem(e, s)
	case call:
		return r.call(e, s, nil)
	case filter:
		v, err := r.evalMarked(e.e, s)
		if err != nil {
			return nil, err
		}
		return r.markedFilter(e, v, s)
	case test:
		return r.test(e, s)
	}
	return nil, fmt.Errorf("unexpected expression %T", e)
}

func (r *renderer) evalAll(items []expr, s *scope) ([]value, error) {
	if err := r.allocate(len(items) * itemSize); err != nil {
		return nil, err
	}
	out := make([]value, len(items))
	for i, e := range items {
		v, err := r.eval(e, s)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

func (r *renderer) dict(e dictExpr, s *scope) (value, error) {
	if err := r.allocate(2 * len(e.keys) * itemSize); err != nil {
		return nil, err
	}
	d := newDict()
	for i, k := range e.keys {
		key, err := r.eval(k, s)
		if err != nil {
			return nil, err
		}
		v, err := r.eval(e.values[i], s)
		if err != nil {
			return nil, err
		}
		if err := d.set(key, v); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (r *renderer) conditional(e condExpr, s *scope) (value, error) {
	test, err := r.eval(e.test, s)
	switch {
	case err != nil:
		return nil, err
	case truth(test):
		return r.evalMarked(e.then, s)
	case e.otherwise == nil:
		return undefined{"the inline if-expression evaluated to false and no else section was defined"}, nil
	}
	return r.evalMarked(e.otherwise, s)
}

func (r *renderer) concat(e concat, s *scope) (value, error) {
	var b strings.Builder
	for _, item := range e.items {
		v, err := r.eval(item, s)
		if err != nil {
			return nil, err
		}
		text, err := r.str(v)
		if err != nil {
			return nil, err
		}
		if err := r.allocate(len(text)); err != nil {
			return nil, err
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

func (r *renderer) comparison(e comparison, s *scope) (value, error) {
	left, err := r.eval(e.first, s)
	if err != nil {
		return nil, err
	}
	for i, op := range e.ops {
		right, err := r.eval(e.rest[i], s)
		if err != nil {
			return nil, err
		}
		ok, err := r.compared(op, left, right)
		if err != nil || !ok {
			return false, err
		}
		left = right
	}
	return true, nil
}

func (r *renderer) compared(op string, a, b value) (bool, error) {
	switch op {
	case "==":
		return r.equal(a, b), nil
	case "!=":
		return !r.equal(a, b), nil
	case "in":
		return r.contains(b, a)
	case "not in":
		ok, err := r.contains(b, a)
		return !ok, err
	}
	if x, y, ok := numbers(a, b); ok && (math.IsNaN(asFloat(x)) || math.IsNaN(asFloat(y))) {
		return false, nil
	}
	c, err := r.compare(a, b)
	if err != nil {
		if _, ok := a.(undefined); !ok {
			if _, ok := b.(undefined); !ok {
				err = fmt.Errorf("'%s' not supported between instances of '%s' and '%s'", op, typeName(a), typeName(b))
			}
		}
		return false, err
	}
	switch op {
	case "<":
		return c < 0, nil
	case "<=":
		return c <= 0, nil
	case ">":
		return c > 0, nil
	}
	return c >= 0, nil
}

func (r *renderer) arguments(args callArgs, s *scope) (arguments, error) {
	var a arguments
	var err error
	if a.positional, err = r.evalAll(args.positional, s); err != nil {
		return a, err
	}
	if args.star != nil {
		v, err := r.eval(args.star, s)
		if err != nil {
			return a, err
		}
		items, err := r.iterate(v)
		if err != nil {
			return a, err
		}
		a.positional = append(a.positional, items...)
	}
	if len(args.names) > 0 || args.twice != nil {
		a.named = newDict()
	}
	for i, n := range args.names {
		v, err := r.eval(args.named[i], s)
		if err != nil {
			return a, err
		}
		_ = a.named.set(n, v)
	}
	if args.twice != nil {
		v, err := r.eval(args.twice, s)
		if err != nil {
			return a, err
		}
		d, ok := v.(*dict)
		if !ok {
			return a, fmt.Errorf("argument after ** must be a mapping, not %s", typeName(v))
		}
		for i, k := range d.keys {
			if _, ok := k.(string); !ok {
				return a, errors.New("keywords must be strings")
			}
			_ = a.named.set(k, d.values[i])
		}
	}
	return a, nil
}

func (r *renderer) call(e call, s *scope, caller *callable) (value, error) {
	f, err := r.eval(e.f, s)
	if err != nil {
		return nil, err
	}
	a, err := r.arguments(e.args, s)
	if err != nil {
		return nil, err
	}
	if caller != nil {
		if a.named == nil {
			a.named = newDict()
		}
		_ = a.named.set("caller", caller)
	}
	return r.invoke(f, a)
}

func (r *renderer) invoke(f value, a arguments) (value, error) {
	switch f := f.(type) {
	case *callable:
		return f.call(r, a)
	case *loopValue:
		if f.again != nil {
			return f.again.call(r, a)
		}
		return nil, errors.New("the loop must have the 'recursive' modifier to be called")
	case undefined:
		return nil, errors.New(f.problem)
	}
	return nil, fmt.Errorf("'%s' object is not callable", typeName(f))
}

func (r *renderer) filter(e filter, v value, s *scope) (value, error) {
	a, err := r.arguments(e.args, s)
	if err != nil {
		return nil, err
	}
	return r.applyFilter(e.name, v, a)
}

func (r *renderer) applyFilter(n string, v value, a arguments) (value, error) {
	if _, isText := v.(string); isText || !constantTime[n] {
		if err := r.spendOn(v, a); err != nil {
			return nil, err
		}
	}
	if f, ok := variadic[n]; ok {
		return f(r, v, a)
	}
	f, ok := filterTable[n]
	if !ok {
		return nil, fmt.Errorf("no filter named '%s'", n)
	}
	p, err := bind(n, f.params, f.required, a)
	if err != nil {
		return nil, err
	}
	return f.apply(r, v, p)
}

// constantTime holds the filters that do not read all of a list or dict.
var constantTime = map[string]bool{"length": true, "count": true, "first": true, "last": true, "default": true, "d": true, "attr": true}

// spendOn counts the reading of a value and of arguments.
func (r *renderer) spendOn(v value, a arguments) error {
	n := read(v)
	for _, e := range a.positional {
		n += read(e)
	}
	if a.named != nil {
		for _, e := range a.named.values {
			n += read(e)
		}
	}
	return r.spend(n)
}

// filterText applies a chain of filters whose innermost has no expression to text.
func (r *renderer) filterText(e expr, text string, s *scope) (value, error) {
	f, ok := e.(filter)
	if !ok {
		return nil, errors.New("unexpected expression in a chain of filters")
	}
	var v value = text
	if f.e != nil {
		var err error
		if v, err = r.filterText(f.e, text, s); err != nil {
			return nil, err
		}
	}
	return r.filter(f, v, s)
}

func (r *renderer) test(e test, s *scope) (value, error) {
	v, err := r.eval(e.e, s)
	if err != nil {
		return nil, err
	}
	a, err := r.arguments(e.args, s)
	if err != nil {
		return nil, err
	}
	ok, err := r.applyTest(e.name, v, a)
	return ok != e.negate, err
}

func (r *renderer) applyTest(n string, v value, a arguments) (bool, error) {
	t, ok := testTable[n]
	if !ok {
		return false, fmt.Errorf("no test named '%s'", n)
	}
	if len(a.positional) != t.args || a.named != nil && a.named.len() > 0 {
		return false, fmt.Errorf("test '%s' takes %d argument(s)", n, t.args)
	}
	return t.apply(r, v, a.positional)
}
