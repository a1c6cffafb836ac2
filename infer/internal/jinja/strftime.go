package jinja

import (
	"fmt"
	"strings"
	"time"
)

// strftime formats t as C's strftime does in the C locale, without a time zone, as for Python's datetime.now(). Unknown letters
// stay as they are.
func strftime(t time.Time, format string) string {
	layouts := map[byte]string{
		'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'b': "Jan", 'h': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday",
		'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'P': "pm", 'Z': "", 'z': "", 'F': "2006-01-02", 'T': "15:04:05",
		'D': "01/02/06", 'R': "15:04", 'c': "Mon Jan _2 15:04:05 2006", 'x': "01/02/06", 'X': "15:04:05", 'f': "000000", 'r': "03:04:05 PM",
	}
	numbers := map[byte]func() int{
		'j': t.YearDay, 'u': func() int { return (int(t.Weekday())+6)%7 + 1 }, 'w': func() int { return int(t.Weekday()) },
		's': func() int { return int(t.Unix()) }, 'G': func() int { y, _ := t.ISOWeek(); return y },
		'V': func() int { _, w := t.ISOWeek(); return w },
		'U': func() int { return (t.YearDay() + 6 - int(t.Weekday())) / 7 },
		'W': func() int { return (t.YearDay() + 6 - (int(t.Weekday())+6)%7) / 7 },
		'C': func() int { return t.Year() / 100 }, 'k': t.Hour, 'l': func() int { return (t.Hour()+11)%12 + 1 },
	}
	widths := map[byte]string{'j': "%03d", 'V': "%02d", 'U': "%02d", 'W': "%02d", 'C': "%02d", 'k': "%2d", 'l': "%2d"}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		start := i
		i++
		bare := format[i] == '-' && i+1 < len(format) // without padding
		if bare {
			i++
		}
		text := ""
		switch layout, ok := layouts[format[i]]; {
		case ok && format[i] == 'f':
			text = fmt.Sprintf("%06d", t.Nanosecond()/1000)
		case ok:
			text = t.Format(layout)
		case numbers[format[i]] != nil:
			width := widths[format[i]]
			if width == "" {
				width = "%d"
			}
			text = fmt.Sprintf(width, numbers[format[i]]())
		case format[i] == '%':
			text = "%"
		case format[i] == 'n':
			text = "\n"
		case format[i] == 't':
			text = "\t"
		default:
			b.WriteString(format[start : i+1])
			continue
		}
		if bare && strings.Trim(text, "0123456789 ") == "" {
			if text = strings.TrimLeft(text, "0 "); text == "" {
				text = "0"
			}
		}
		b.WriteString(text)
	}
	return b.String()
}
