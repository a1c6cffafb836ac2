package jinja

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// value is one of nil (None), bool, int64, float64, string, *list, tuple, *dict, *view, *iterator, *rangeValue,
// *namespace, *loopValue, *cycler, *group, callable and undefined.
type value any

type (
	list  struct{ items []value }
	tuple []value

	// undefined is the value of what does not exist. problem is the message of the error that its use is.
	undefined struct{ problem string }

	// iterator is a generator: it can be read once.
	iterator struct {
		items []value
		name  string
		make  func() ([]value, error) // makes the items when they are first read; nil once it was called
	}

	// view is what a dict's keys, values and items methods return.
	view struct {
		d    *dict
		kind string
	}

	rangeValue struct{ start, stop, step, n int64 }

	namespace struct{ d *dict }

	cycler struct {
		items []value
		at    int
	}

	// group is one result of groupby: a tuple with named fields.
	group struct{ grouper, list value }

	callable struct {
		name string
		call func(r *renderer, a arguments) (value, error)
	}

	arguments struct {
		positional []value
		named      *dict // nil where there are none
	}
)

// dict is a dict of Python: keys in the order of insertion.
type dict struct {
	keys, values []value
	at           map[any]int
}

func newDict() *dict { return &dict{at: map[any]int{}} }

// hashKey returns a comparable key: equal values of different types, such as 1, 1.0 and True, have the same.
func hashKey(v value) (any, error) { return hashKeyAt(v, 0) }

// maxTupleKey bounds the key of a tuple, in bytes.
const maxTupleKey = 64 << 10

func hashKeyAt(v value, depth int) (any, error) {
	switch v := v.(type) {
	case nil, string:
		return v, nil
	case undefined:
		return undefined{}, nil // all are equal
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case int64:
		return v, nil
	case float64:
		if i := int64(v); float64(i) == v {
			return i, nil
		}
		return v, nil
	case tuple:
		var b strings.Builder
		for _, e := range v {
			k, err := hashKeyAt(e, depth+1)
			if err != nil {
				return nil, err
			}
			if depth > 20 || b.Len() > maxTupleKey {
				return nil, errors.New("a tuple is too large for a key")
			}
			fmt.Fprintf(&b, "%T:%q;", k, fmt.Sprint(k))
		}
		return tupleKey(b.String()), nil
	}
	return nil, fmt.Errorf("unhashable type: '%s'", typeName(v))
}

type tupleKey string

func (d *dict) set(key, v value) error {
	k, err := hashKey(key)
	if err != nil {
		return err
	}
	if i, ok := d.at[k]; ok {
		d.values[i] = v
		return nil
	}
	d.at[k] = len(d.keys)
	d.keys, d.values = append(d.keys, key), append(d.values, v)
	return nil
}

func (d *dict) get(key value) (value, bool) {
	k, err := hashKey(key)
	if err != nil {
		return nil, false
	}
	i, ok := d.at[k]
	if !ok {
		return nil, false
	}
	return d.values[i], true
}

func (d *dict) len() int { return len(d.keys) }

// typeName is the name of Python's type.
func typeName(v value) string {
	switch v := v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int64:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case *list:
		return "list"
	case tuple, *group:
		return "tuple"
	case *dict:
		return "dict"
	case *view:
		return "dict_" + v.kind
	case *iterator:
		return "generator"
	case *rangeValue:
		return "range"
	case *namespace:
		return "Namespace"
	case *loopValue:
		return "LoopContext"
	case undefined:
		return "Undefined"
	}
	return "function"
}

// truth is Python's bool().
func truth(v value) bool {
	switch v := v.(type) {
	case nil, undefined:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case *list:
		return len(v.items) > 0
	case tuple:
		return len(v) > 0
	case *dict:
		return v.len() > 0
	case *view:
		return v.d.len() > 0
	case *rangeValue:
		return v.n > 0
	}
	return true
}

func (v *view) items() []value {
	switch v.kind {
	case "keys":
		return v.d.keys
	case "values":
		return v.d.values
	}
	out := make([]value, len(v.d.keys))
	for i, k := range v.d.keys {
		out[i] = tuple{k, v.d.values[i]}
	}
	return out
}

func (r *rangeValue) items() []value {
	out := make([]value, r.n)
	for i := range out {
		out[i] = r.start + int64(i)*r.step
	}
	return out
}

// length is len().
func length(v value) (int, error) {
	switch v := v.(type) {
	case string:
		return utf8.RuneCountInString(v), nil
	case *list:
		return len(v.items), nil
	case tuple:
		return len(v), nil
	case *dict:
		return v.len(), nil
	case *view:
		return v.d.len(), nil
	case *rangeValue:
		return int(v.n), nil
	case *loopValue:
		return len(v.items), nil
	case *group:
		return 2, nil
	case undefined:
		return 0, nil
	}
	return 0, fmt.Errorf("object of type '%s' has no len()", typeName(v))
}

// iterate returns the items of an iterable; an iterator is empty afterwards.
func iterate(v value) ([]value, error) {
	switch v := v.(type) {
	case string:
		out := make([]value, 0, len(v))
		for _, c := range v {
			out = append(out, string(c))
		}
		return out, nil
	case *list:
		return v.items, nil
	case tuple:
		return v, nil
	case *dict:
		return v.keys, nil
	case *view:
		return v.items(), nil
	case *rangeValue:
		return v.items(), nil
	case *group:
		return []value{v.grouper, v.list}, nil
	case *iterator:
		err := v.fill()
		items := v.items
		v.items = nil
		return items, err
	case undefined:
		return nil, nil
	}
	return nil, fmt.Errorf("'%s' object is not iterable", typeName(v))
}

// lazily returns an iterator whose items are made when they are read, so that errors are those of the reader.
func lazily(name string, items func() ([]value, error)) *iterator {
	return &iterator{name: name, make: items}
}

func (i *iterator) fill() (err error) {
	if i.make != nil {
		f := i.make
		i.make = nil
		i.items, err = f()
	}
	return err
}
