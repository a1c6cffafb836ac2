package jinja

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

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
	case markup:
		b.WriteString("Markup(")
		writeQuoted(b, string(v))
		b.WriteString(")")
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
