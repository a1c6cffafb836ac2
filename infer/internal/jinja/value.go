package jinja

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
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

// toText is Python's str(); quote is its repr().
func toText(v value) string {
	switch v := v.(type) {
	case string:
		return v
	case undefined:
		return ""
	}
	var b reprWriter
	writeRepr(&b, v, 0)
	return b.String()
}

func quote(v value) string {
	var b reprWriter
	writeRepr(&b, v, 0)
	return b.String()
}

// brief is quote for messages.
func brief(v value) string {
	b := reprWriter{most: 80}
	writeRepr(&b, v, maxShown-3)
	return b.String()
}

// reprWriter collects about the most bytes; 0 is no limit.
type reprWriter struct {
	strings.Builder
	most int
}

func (b *reprWriter) full() bool { return b.most > 0 && b.Len() > b.most }

// maxShown bounds the nesting of values that are written out.
const maxShown = 100

func writeRepr(b *reprWriter, v value, depth int) {
	if depth > maxShown {
		b.WriteString("...")
		return
	}
	sequence := func(open string, items []value, end string) {
		b.WriteString(open)
		for i, e := range items {
			if b.full() {
				break
			}
			if i > 0 {
				b.WriteString(", ")
			}
			writeRepr(b, e, depth+1)
		}
		b.WriteString(end)
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if v {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		b.WriteString(floatText(v))
	case string:
		writeQuoted(b, v)
	case *list:
		sequence("[", v.items, "]")
	case tuple:
		if len(v) == 1 {
			sequence("(", v, ",)")
		} else {
			sequence("(", v, ")")
		}
	case *group:
		sequence("(", []value{v.grouper, v.list}, ")")
	case *dict:
		b.WriteString("{")
		for i, k := range v.keys {
			if b.full() {
				break
			}
			if i > 0 {
				b.WriteString(", ")
			}
			writeRepr(b, k, depth+1)
			b.WriteString(": ")
			writeRepr(b, v.values[i], depth+1)
		}
		b.WriteString("}")
	case *view:
		sequence("dict_"+v.kind+"([", v.items(), "])")
	case *rangeValue:
		fmt.Fprintf(b, "range(%d, %d", v.start, v.stop)
		if v.step != 1 {
			fmt.Fprintf(b, ", %d", v.step)
		}
		b.WriteString(")")
	case *namespace:
		b.WriteString("<Namespace ")
		writeRepr(b, v.d, depth+1)
		b.WriteString(">")
	case *loopValue:
		fmt.Fprintf(b, "<LoopContext %d/%d>", v.index+1, len(v.items))
	case undefined:
		b.WriteString("Undefined")
	case *iterator:
		fmt.Fprintf(b, "<generator object %s>", v.name)
	case *callable:
		fmt.Fprintf(b, "<function %s>", v.name)
	default:
		fmt.Fprintf(b, "<%s>", typeName(v))
	}
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

// floatText is repr() of a float: the shortest text that gives the same number back.
func floatText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	e := strconv.FormatFloat(f, 'e', -1, 64)
	exponent, _ := strconv.Atoi(e[strings.IndexByte(e, 'e')+1:])
	if f != 0 && (exponent < -4 || exponent >= 16) {
		return e
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func printable(c rune) bool { return c == ' ' || unicode.IsGraphic(c) && !unicode.Is(unicode.Z, c) }

func writeQuoted(b *reprWriter, s string) {
	mark := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		mark = '"'
	}
	b.WriteByte(mark)
	for _, c := range s {
		if b.full() {
			break
		}
		switch {
		case c == rune(mark) || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case printable(c):
			b.WriteRune(c)
		case c < 0x100:
			fmt.Fprintf(b, `\x%02x`, c)
		case c < 0x10000:
			fmt.Fprintf(b, `\u%04x`, c)
		default:
			fmt.Fprintf(b, `\U%08x`, c)
		}
	}
	b.WriteByte(mark)
}

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
