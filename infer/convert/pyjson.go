package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// unmarshal reads JSON as Python writes it: it may begin with a byte order mark, and NaN and Infinity are numbers. They are read as strings, so
// that a field with a use refuses them.
func unmarshal(b []byte, v any) error {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	err := json.Unmarshal(b, v)
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		if plain, changed := quoteConstants(b); changed {
			err = json.Unmarshal(plain, v)
		}
	}
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		article := "a"
		if wrong.Value == "array" || wrong.Value == "object" {
			article = "an"
		}
		return fmt.Errorf("%s is %s %s, not %s", orValue(wrong.Field), article, wrong.Value, typeName(wrong.Type.Kind().String()))
	}
	return err
}

func orValue(field string) string {
	if field == "" {
		return "the value"
	}
	return field
}

// typeName returns JSON's word for a kind of Go.
func typeName(kind string) string {
	switch {
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"):
		return "a whole number"
	case strings.HasPrefix(kind, "float"):
		return "a number"
	case kind == "bool":
		return "true or false"
	case kind == "slice":
		return "a list"
	case kind == "map", kind == "struct":
		return "an object"
	}
	return "a " + kind
}

// quoteConstants puts NaN, Infinity and -Infinity outside strings into quotes.
func quoteConstants(b []byte) (out []byte, changed bool) {
	inString := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\' && i+1 < len(b):
			out = append(out, c, b[i+1])
			i++
			continue
		case c == '"':
			inString = !inString
		case !inString && (c == 'N' || c == 'I' || c == '-'):
			constant := ""
			for _, name := range []string{"NaN", "Infinity", "-Infinity"} {
				if bytes.HasPrefix(b[i:], []byte(name)) {
					constant = name
				}
			}
			if constant != "" {
				out = append(append(append(out, '"'), constant...), '"')
				i, changed = i+len(constant)-1, true
				continue
			}
		}
		out = append(out, b[i])
	}
	return out, changed
}
