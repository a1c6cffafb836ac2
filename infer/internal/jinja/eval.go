package jinja

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

func (r *renderer) eval(e expr, s *scope) (value, error) {
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
		left, err := r.eval(e.left, s)
		if err != nil || truth(left) != e.and {
			return left, err
		}
		return r.eval(e.right, s)
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
		left, err := r.eval(e.left, s)
		if err != nil {
			return nil, err
		}
		right, err := r.eval(e.right, s)
		if err != nil {
			return nil, err
		}
		return r.binary(e.op, left, right)
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
		v, err := r.eval(e.e, s)
		if err != nil {
			return nil, err
		}
		return r.filter(e, v, s)
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
		return r.eval(e.then, s)
	case e.otherwise == nil:
		return undefined{"the inline if-expression evaluated to false and no else section was defined"}, nil
	}
	return r.eval(e.otherwise, s)
}

func negated(v value, minus bool) (value, error) {
	if u, ok := v.(undefined); ok {
		return nil, errors.New(u.problem)
	}
	n, ok := number(v)
	if !ok {
		return nil, fmt.Errorf("bad operand type for unary operator: '%s'", typeName(v))
	}
	if !minus {
		return n, nil
	}
	if i, ok := n.(int64); ok {
		if i == math.MinInt64 {
			return nil, errOverflow
		}
		return -i, nil
	}
	return -n.(float64), nil
}

var errOverflow = errors.New("integer of more than 64 bits")

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

func (r *renderer) binary(op string, a, b value) (value, error) {
	if s, ok := a.(string); ok && op == "%" {
		return r.percent(s, b)
	}
	for _, v := range []value{a, b} {
		if u, ok := v.(undefined); ok {
			return nil, errors.New(u.problem)
		}
	}
	if x, y, ok := numbers(a, b); ok {
		i, iOK := x.(int64)
		j, jOK := y.(int64)
		if iOK && jOK {
			return integers(op, i, j)
		}
		return floats(op, asFloat(x), asFloat(y))
	}
	switch op {
	case "+":
		switch a := a.(type) {
		case string:
			if b, ok := b.(string); ok {
				return a + b, r.allocate(len(a) + len(b))
			}
		case *list:
			if b, ok := b.(*list); ok {
				return &list{slices.Concat(a.items, b.items)}, r.allocate((len(a.items) + len(b.items)) * itemSize)
			}
		case tuple:
			if b, ok := b.(tuple); ok {
				return slices.Concat(a, b), r.allocate((len(a) + len(b)) * itemSize)
			}
		}
	case "*":
		if n, ok := number(a); ok {
			a, b = b, n
		}
		if n, ok := number(b); ok {
			if n, ok := n.(int64); ok {
				return r.repeated(a, n)
			}
		}
	}
	return nil, fmt.Errorf("unsupported operand type(s) for %s: '%s' and '%s'", op, typeName(a), typeName(b))
}

func (r *renderer) repeated(v value, n int64) (value, error) {
	n = max(n, 0)
	size := func(bytes int) error {
		if bytes > 0 && n > r.limits.Allocated/int64(bytes) {
			return r.allocate(math.MaxInt)
		}
		return r.allocate(bytes * int(n))
	}
	switch v := v.(type) {
	case string:
		if err := size(len(v)); err != nil || v == "" {
			return "", err
		}
		return strings.Repeat(v, int(n)), nil
	case *list:
		if err := size(len(v.items) * itemSize); err != nil || len(v.items) == 0 {
			return &list{}, err
		}
		return &list{slices.Repeat(v.items, int(n))}, nil
	case tuple:
		if err := size(len(v) * itemSize); err != nil || len(v) == 0 {
			return tuple{}, err
		}
		return slices.Repeat(v, int(n)), nil
	}
	return nil, fmt.Errorf("can't multiply sequence by non-int of type '%s'", typeName(v))
}

func integers(op string, i, j int64) (value, error) {
	switch op {
	case "+":
		if s := i + j; (s > i) == (j > 0) {
			return s, nil
		}
		return nil, errOverflow
	case "-":
		if d := i - j; (d < i) == (j > 0) {
			return d, nil
		}
		return nil, errOverflow
	case "*":
		if i == 0 || j == 0 {
			return int64(0), nil
		}
		if p := i * j; p/j == i && (i != -1 || j != math.MinInt64) && (j != -1 || i != math.MinInt64) {
			return p, nil
		}
		return nil, errOverflow
	case "**":
		return intPower(i, j)
	}
	if j == 0 {
		return nil, errors.New("division by zero")
	}
	switch op {
	case "/":
		return float64(i) / float64(j), nil
	case "//":
		if i == math.MinInt64 && j == -1 {
			return nil, errOverflow
		}
		q := i / j
		if i%j != 0 && (i < 0) != (j < 0) {
			q--
		}
		return q, nil
	}
	if j == -1 {
		return int64(0), nil
	}
	m := i % j
	if m != 0 && (m < 0) != (j < 0) {
		m += j
	}
	return m, nil
}

func intPower(i, j int64) (value, error) {
	if j < 0 {
		return floats("**", float64(i), float64(j))
	}
	out := int64(1)
	for range min(j, 64) {
		p, err := integers("*", out, i)
		if err != nil {
			return nil, err
		}
		out = p.(int64)
		if i >= -1 && i <= 1 {
			break
		}
	}
	if i == -1 && j%2 == 0 {
		out = 1
	}
	if j > 64 && (i < -1 || i > 1) {
		return nil, errOverflow
	}
	return out, nil
}

func floats(op string, x, y float64) (value, error) {
	switch op {
	case "+":
		return x + y, nil
	case "-":
		return x - y, nil
	case "*":
		return x * y, nil
	case "**":
		if x == 0 && y < 0 {
			return nil, errors.New("0.0 cannot be raised to a negative power")
		}
		return math.Pow(x, y), nil
	}
	if y == 0 {
		return nil, errors.New("float division by zero")
	}
	switch op {
	case "/":
		return x / y, nil
	case "//":
		return math.Floor(x / y), nil
	}
	m := math.Mod(x, y)
	if m != 0 && (m < 0) != (y < 0) {
		m += y
	}
	return m, nil
}

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
