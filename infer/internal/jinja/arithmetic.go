package jinja

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

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
