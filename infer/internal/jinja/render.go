package jinja

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Limits bound one rendering. Zero values are the defaults.
type Limits struct {
	Steps     int64 // nodes evaluated; default 20 million
	Allocated int64 // bytes of texts and lists made, freed ones too; default 512 MiB
	Output    int64 // bytes of text; default 16 MiB
	Depth     int   // of calls of macros and of nested blocks; default 150
}

// ErrLimit means that a template was stopped by one of its [Limits].
var ErrLimit = errors.New("the template exceeds its limits")

// RaisedError is the error that a template raises by raise_exception.
type RaisedError struct{ Reason string }

func (e *RaisedError) Error() string { return e.Reason }

// RuntimeError is an error during the rendering.
type RuntimeError struct {
	Line int
	Err  error
}

func (e *RuntimeError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the error without its line.
func (e *RuntimeError) Unwrap() error { return e.Err }

// Pair is a key of a dict with its value.
type Pair struct {
	Key   string
	Value any
}

// Input is what a template sees.
type Input struct {
	// Variables are None (nil), bool, int, int64, float64, string, []any, []Pair (a dict with an order) and map[string]any (a
	// dict ordered by key).
	Variables []Pair
	Now       time.Time // for strftime_now
	Limits    Limits
}

// Render renders the template. Errors are *[RaisedError], *[RuntimeError], [ErrLimit] or those of the context.
func (t *Template) Render(ctx context.Context, in Input) (text string, err error) {
	defer func() {
		if e := recover(); e != nil {
			s, ok := e.(stop)
			if !ok {
				panic(e)
			}
			text, err = "", s.err
		}
	}()
	l := in.Limits
	if l.Steps == 0 {
		l.Steps = 20_000_000
	}
	if l.Allocated == 0 {
		l.Allocated = 512 << 20
	}
	if l.Output == 0 {
		l.Output = 16 << 20
	}
	if l.Depth == 0 {
		l.Depth = 150
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	r := &renderer{ctx: ctx, limits: l, now: in.Now}
	globals := &scope{vars: map[string]value{}}
	for n, g := range globalTable {
		globals.vars[n] = &callable{name: n, call: g}
	}
	top := &scope{vars: map[string]value{}, parent: globals}
	for _, p := range in.Variables {
		v, err := fromGo(p.Value, 0)
		if err != nil {
			return "", fmt.Errorf("variable %s: %w", p.Key, err)
		}
		top.vars[p.Key] = v
	}
	top.vars["self"] = &namespace{newDict()}
	var out strings.Builder
	r.out = &out
	if _, err := r.run(t.body, &scope{vars: map[string]value{}, parent: top}); err != nil {
		return "", err
	}
	return out.String(), nil
}

func fromGo(v any, depth int) (value, error) {
	if depth > maxShown {
		return nil, errors.New("nested too deep")
	}
	switch v := v.(type) {
	case nil, bool, int64, float64, string:
		return v, nil
	case int:
		return int64(v), nil
	case []any:
		l := &list{make([]value, len(v))}
		for i, e := range v {
			var err error
			if l.items[i], err = fromGo(e, depth+1); err != nil {
				return nil, err
			}
		}
		return l, nil
	case []Pair:
		d := newDict()
		for _, p := range v {
			e, err := fromGo(p.Value, depth+1)
			if err != nil {
				return nil, err
			}
			_ = d.set(p.Key, e) // strings are hashable
		}
		return d, nil
	case map[string]any:
		d := newDict()
		for _, k := range sortedKeys(v) {
			e, err := fromGo(v[k], depth+1)
			if err != nil {
				return nil, err
			}
			_ = d.set(k, e)
		}
		return d, nil
	}
	return nil, fmt.Errorf("a value of type %T", v)
}

// scope holds the variables that one block sets; others are looked up in its parents.
type scope struct {
	vars   map[string]value
	parent *scope
}

func (s *scope) child() *scope { return &scope{parent: s} }

func (s *scope) set(n string, v value) {
	if s.vars == nil {
		s.vars = map[string]value{}
	}
	s.vars[n] = v
}

func (s *scope) get(n string) (value, bool) {
	for ; s != nil; s = s.parent {
		if v, ok := s.vars[n]; ok {
			return v, true
		}
	}
	return nil, false
}

type renderer struct {
	ctx    context.Context
	limits Limits
	now    time.Time
	out    *strings.Builder
	depth  int
	since  int64 // steps since the context was looked at
}

// flow is how a list of statements ended.
type flow uint8

const (
	onward flow = iota
	broken
	continued
)

func (r *renderer) write(s string) error {
	if int64(r.out.Len()+len(s)) > r.limits.Output {
		return fmt.Errorf("%w: more than %d bytes of text", ErrLimit, r.limits.Output)
	}
	if err := r.allocate(len(s)); err != nil {
		return err
	}
	r.out.WriteString(s)
	return nil
}

// enter bounds the depth of calls and blocks.
func (r *renderer) enter() error {
	if r.depth++; r.depth > r.limits.Depth {
		return fmt.Errorf("%w: nested deeper than %d", ErrLimit, r.limits.Depth)
	}
	return nil
}

// captured returns what f writes.
func (r *renderer) captured(f func() error) (string, error) {
	outer := r.out
	var b strings.Builder
	r.out = &b
	err := f()
	r.out = outer
	return b.String(), err
}

// body captures what statements write.
func (r *renderer) body(body []stmt, s *scope) (string, error) {
	return r.captured(func() error {
		_, err := r.run(body, s)
		return err
	})
}

func (r *renderer) run(body []stmt, s *scope) (flow, error) {
	if err := r.enter(); err != nil {
		return onward, err
	}
	defer func() { r.depth-- }()
	for _, st := range body {
		f, err := r.statement(st, s)
		if err != nil || f != onward {
			return f, err
		}
	}
	return onward, nil
}

func (r *renderer) statement(st stmt, s *scope) (flow, error) {
	if err := r.step(); err != nil {
		return onward, err
	}
	switch st := st.(type) {
	case located:
		f, err := r.statement(st.s, s)
		return f, r.locate(err, st.line)
	case text:
		return onward, r.write(st.s)
	case output:
		v, err := r.eval(st.e, s)
		if err == nil {
			err = r.print(v)
		}
		return onward, err
	case ifStmt:
		for _, b := range st.branches {
			v, err := r.eval(b.test, s)
			if err != nil {
				return onward, r.locate(err, b.line)
			}
			if truth(v) {
				return r.run(b.body, s)
			}
		}
		return r.run(st.none, s)
	case forStmt:
		return onward, r.loop(st, s)
	case setStmt:
		v, err := r.evalMarked(st.e, s)
		if err != nil {
			return onward, err
		}
		return onward, r.assign(st.target, v, s)
	case setBlock:
		text, err := r.body(st.body, s.child())
		if err != nil {
			return onward, err
		}
		var v value = text
		if st.filter != nil {
			if v, err = r.filterText(st.filter, text, s); err != nil {
				return onward, err
			}
		}
		return onward, r.assign(st.target, v, s)
	case *macroStmt:
		s.set(st.name, macroValue(st, s))
	case callBlock:
		caller := macroValue(st.m, s)
		v, err := r.call(*st.call, s, caller)
		if err == nil {
			err = r.print(v)
		}
		return onward, err
	case filterBlock:
		text, err := r.body(st.body, s.child())
		if err != nil {
			return onward, err
		}
		v, err := r.filterText(st.filter, text, s)
		if err == nil {
			err = r.print(v)
		}
		return onward, err
	case withStmt:
		inner := s.child()
		for i, target := range st.targets {
			v, err := r.eval(st.values[i], s)
			if err != nil {
				return onward, err
			}
			if err := r.assign(target, v, inner); err != nil {
				return onward, err
			}
		}
		return r.run(st.body, inner)
	case scoped:
		return r.run(st.body, s.child())
	case breakStmt:
		return broken, nil
	case nextStmt:
		return continued, nil
	}
	return onward, nil
}

// locate gives an error a line, unless it has one or needs none.
func (r *renderer) locate(err error, line int) error {
	var raised *RaisedError
	var located *RuntimeError
	if err == nil || errors.As(err, &raised) || errors.As(err, &located) || errors.Is(err, ErrLimit) || r.ctx.Err() != nil {
		return err
	}
	return &RuntimeError{line, err}
}

// print writes a value; undefined ones that come from a forbidden use fail.
func (r *renderer) print(v value) error {
	s, err := r.str(v)
	if err != nil {
		return err
	}
	return r.write(s)
}

func (r *renderer) assign(target expr, v value, s *scope) error {
	switch t := target.(type) {
	case nameExpr:
		s.set(t.name, v)
	case setAttr:
		n, ok := s.get(t.namespace)
		if !ok {
			return fmt.Errorf("'%s' is undefined", t.namespace)
		}
		ns, ok := n.(*namespace)
		if !ok {
			return errors.New("cannot assign attribute on non-namespace object")
		}
		return ns.d.set(t.name, v)
	case tupleExpr:
		items, err := iterate(v)
		if err != nil {
			return fmt.Errorf("cannot unpack non-iterable %s object", typeName(v))
		}
		if len(items) != len(t.items) {
			return fmt.Errorf("%d values to unpack into %d names", len(items), len(t.items))
		}
		for i, e := range t.items {
			if err := r.assign(e, items[i], s); err != nil {
				return err
			}
		}
	}
	return nil
}

// iterate is the function of that name, with its memory counted.
func (r *renderer) iterate(v value) ([]value, error) {
	n := 0
	switch v := v.(type) {
	case string:
		n = len(v)
	case *rangeValue:
		n = int(v.n)
	case *view:
		n = v.d.len()
	}
	if err := r.allocate(n * itemSize); err != nil {
		return nil, err
	}
	return iterate(v)
}
