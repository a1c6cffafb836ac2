package jinja

// markup is text that the filters safe and escape return. Added to other text it stays markup, and the other text is escaped, as
// with Python's markupsafe, also where templates are not escaped by themselves. Everything else reads it as plain text.
type markup string

// plain returns markup as text, and other values as they are.
func plain(v value) value {
	if m, ok := v.(markup); ok {
		return string(m)
	}
	return v
}

// eval returns the value of an expression, markup as text.
func (r *renderer) eval(e expr, s *scope) (value, error) {
	v, err := r.evalMarked(e, s)
	return plain(v), err
}

// staysMarkup holds the filters that return markup for markup.
var staysMarkup = map[string]bool{"string": true, "upper": true, "lower": true, "title": true, "capitalize": true, "trim": true, "indent": true, "format": true}

// makesMarkup holds the filters that return markup for any text.
var makesMarkup = map[string]bool{"safe": true, "escape": true, "e": true, "forceescape": true}

// markedFilter applies a filter to a value that may be markup.
func (r *renderer) markedFilter(e filter, v value, s *scope) (value, error) {
	m, marked := v.(markup)
	if marked && (e.name == "escape" || e.name == "e") {
		return m, nil
	}
	if marked && e.name == "format" {
		a, err := r.arguments(e.args, s)
		if err != nil {
			return nil, err
		}
		for i, v := range a.positional {
			a.positional[i] = escaped(v)
		}
		out, err := r.applyFilter(e.name, string(m), a)
		return markup(r.text(out)), err
	}
	out, err := r.filter(e, plain(v), s)
	if text, ok := out.(string); ok && (makesMarkup[e.name] || marked && staysMarkup[e.name]) {
		return markup(text), err
	}
	return out, err
}

// markedBinary computes an operation of which an operand may be markup.
func (r *renderer) markedBinary(op string, a, b value) (value, error) {
	_, left := a.(markup)
	_, right := b.(markup)
	if left && op == "%" {
		b = escapedItems(b)
	} else if op == "+" && left != right {
		a, b = escaped(a), escaped(b)
	}
	out, err := r.binary(op, plain(a), plain(b))
	if text, ok := out.(string); ok && (left || right && op != "%") {
		return markup(text), err
	}
	return out, err
}

// escaped returns text escaped; markup and other values stay as they are.
func escaped(v value) value {
	if text, ok := v.(string); ok {
		return escape(text)
	}
	return v
}

// escapedItems returns text, or the texts of a tuple or dict, escaped.
func escapedItems(v value) value {
	switch v := v.(type) {
	case tuple:
		out := make(tuple, len(v))
		for i, e := range v {
			out[i] = escaped(e)
		}
		return out
	case *dict:
		out := newDict()
		for i, k := range v.keys {
			_ = out.set(k, escaped(v.values[i]))
		}
		return out
	}
	return escaped(v)
}
