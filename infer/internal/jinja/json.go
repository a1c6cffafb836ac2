package jinja

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
)

// jsonFilter is json.dumps with the arguments that transformers passes on.
func jsonFilter(r *renderer, v value, p params) (value, error) {
	w := &jsonWriter{r: r, ascii: p.truth("ensure_ascii"), sort: p.truth("sort_keys"), item: ", ", key: ": "}
	switch n := p["indent"].(type) {
	case nil:
	case string:
		w.indent, w.item = &n, ","
	default:
		n, _ = number(n)
		width, ok := n.(int64)
		if !ok || width > 1000 {
			return nil, errors.New("indent must be None, a small integer or a string")
		}
		by := strings.Repeat(" ", int(max(width, 0)))
		w.indent, w.item = &by, ","
	}
	if s := p["separators"]; s != nil {
		items, err := iterate(s)
		if err != nil || len(items) != 2 {
			return nil, errors.New("separators must be a pair")
		}
		w.item, w.key = r.text(items[0]), r.text(items[1])
	}
	if err := w.write(v, 0); err != nil {
		return nil, err
	}
	return w.b.String(), nil
}

type jsonWriter struct {
	r           *renderer
	b           strings.Builder
	ascii, sort bool
	indent      *string
	item, key   string
}

func (w *jsonWriter) write(v value, depth int) error {
	if depth > maxShown {
		return errors.New("the value is nested too deep for JSON")
	}
	if err := w.r.step(); err != nil {
		return err
	}
	switch v := v.(type) {
	case nil:
		w.b.WriteString("null")
	case bool:
		w.b.WriteString(strconv.FormatBool(v))
	case int64:
		w.b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		w.b.WriteString(jsonFloat(v))
	case string:
		if err := w.r.allocate(len(v) + 2); err != nil {
			return err
		}
		w.string(v)
	case *list:
		return w.sequence(v.items, depth)
	case tuple:
		return w.sequence(v, depth)
	case *group:
		return w.sequence([]value{v.grouper, v.list}, depth)
	case *dict:
		return w.dict(v, depth)
	default:
		return fmt.Errorf("object of type %s is not JSON serializable", typeName(v))
	}
	return nil
}

func jsonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return floatText(f)
}

func (w *jsonWriter) string(s string) {
	w.b.WriteByte('"')
	for _, c := range s {
		switch c {
		case '"', '\\':
			w.b.WriteByte('\\')
			w.b.WriteRune(c)
		case '\n':
			w.b.WriteString(`\n`)
		case '\r':
			w.b.WriteString(`\r`)
		case '\t':
			w.b.WriteString(`\t`)
		case '\f':
			w.b.WriteString(`\f`)
		case '\b':
			w.b.WriteString(`\b`)
		default:
			switch {
			case c < 0x20 || w.ascii && c >= 0x7f && c < 0x10000:
				fmt.Fprintf(&w.b, `\u%04x`, c)
			case w.ascii && c >= 0x10000:
				high, low := utf16.EncodeRune(c)
				fmt.Fprintf(&w.b, `\u%04x\u%04x`, high, low)
			default:
				w.b.WriteRune(c)
			}
		}
	}
	w.b.WriteByte('"')
}

// line begins a line of indented output.
func (w *jsonWriter) line(depth int) error {
	if w.indent == nil {
		return nil
	}
	if err := w.r.allocate(1 + depth*len(*w.indent)); err != nil {
		return err
	}
	w.b.WriteByte('\n')
	w.b.WriteString(strings.Repeat(*w.indent, depth))
	return nil
}

func (w *jsonWriter) sequence(items []value, depth int) error {
	if len(items) == 0 {
		w.b.WriteString("[]")
		return nil
	}
	w.b.WriteByte('[')
	for i, e := range items {
		if i > 0 {
			w.b.WriteString(w.item)
		}
		if err := w.line(depth + 1); err != nil {
			return err
		}
		if err := w.write(e, depth+1); err != nil {
			return err
		}
	}
	err := w.line(depth)
	w.b.WriteByte(']')
	return err
}

func (w *jsonWriter) dict(d *dict, depth int) error {
	if d.len() == 0 {
		w.b.WriteString("{}")
		return nil
	}
	keys, values := d.keys, d.values
	if w.sort {
		pairs, err := w.r.sorted((&view{d, "items"}).items(), d.keys, false)
		if err != nil {
			return err
		}
		keys, values = make([]value, len(pairs)), make([]value, len(pairs))
		for i, p := range pairs {
			keys[i], values[i] = p.(tuple)[0], p.(tuple)[1]
		}
	}
	w.b.WriteByte('{')
	for i, k := range keys {
		if i > 0 {
			w.b.WriteString(w.item)
		}
		if err := w.line(depth + 1); err != nil {
			return err
		}
		switch k := k.(type) {
		case string:
			w.string(k)
		case bool:
			w.string(strconv.FormatBool(k))
		case nil:
			w.string("null")
		case int64:
			w.string(strconv.FormatInt(k, 10))
		case float64:
			w.string(jsonFloat(k))
		default:
			return fmt.Errorf("keys must be str, int, float, bool or None, not %s", typeName(k))
		}
		w.b.WriteString(w.key)
		if err := w.write(values[i], depth+1); err != nil {
			return err
		}
	}
	err := w.line(depth)
	w.b.WriteByte('}')
	return err
}
