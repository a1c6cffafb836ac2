package chat

import "strings"

// normalise rewrites a template so that the library renders it as Jinja does with trim_blocks and lstrip_blocks, the options of
// Hugging Face: it removes the line break after a block or comment, white space between the start of a line and a block or
// comment, and a line break at the end of the template. (The library's own options remove the wrong line break.) In
// expressions, x[::-1], which the library cannot parse, becomes x|reverse.
func normalise(source string) string {
	var out strings.Builder
	source = strings.ReplaceAll(source, "\r\n", "\n")
	source = strings.TrimSuffix(source, "\n")
	lineStart := true // the rest starts a line of the source
	for {
		at := nextTag(source)
		if at < 0 {
			out.WriteString(source)
			return out.String()
		}
		text, tag := source[:at], source[at:]
		end := tagEnd(tag)
		if end < 0 {
			out.WriteString(source) // the parser reports the error
			return out.String()
		}
		tag, rest := tag[:end], tag[end:]
		if tag[1] != '{' {
			if mark := tag[2]; mark != '-' && mark != '+' {
				text = stripIndent(text, lineStart)
			}
			lineStart = false
			if mark := tag[len(tag)-3]; mark != '-' && mark != '+' {
				rest, lineStart = strings.CutPrefix(rest, "\n")
			}
		}
		lineStart = lineStart && tag[1] != '{'
		if tag[1] != '#' {
			tag = reverseSlices(tag)
		}
		out.WriteString(text)
		out.WriteString(tag)
		source = rest
	}
}

// nextTag returns the index of the first {{, {% or {#, -1 without one.
func nextTag(s string) int {
	for i := 0; i+1 < len(s); i++ {
		if s[i] == '{' && (s[i+1] == '{' || s[i+1] == '%' || s[i+1] == '#') {
			return i
		}
	}
	return -1
}

// tagEnd returns the length of the tag at the start of s, skipping quoted text; -1 if it does not end.
func tagEnd(s string) int {
	closing := map[byte]string{'{': "}}", '%': "%}", '#': "#}"}[s[1]]
	quote := byte(0)
	for i := 2; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case s[1] != '#' && (c == '\'' || c == '"'):
			quote = c
		case strings.HasPrefix(s[i:], closing) && i >= 3:
			return i + 2
		}
	}
	return -1
}

// stripIndent removes the white space at the end of text if nothing else is on its line; lineStart means that text starts a
// line.
func stripIndent(text string, lineStart bool) string {
	bare := strings.TrimRight(text, " \t")
	if bare == "" && lineStart || strings.HasSuffix(bare, "\n") {
		return bare
	}
	return text
}

// reverseSlices rewrites [::-1] outside quotes.
func reverseSlices(tag string) string {
	var out strings.Builder
	quote := byte(0)
	for i := 0; i < len(tag); i++ {
		c := tag[i]
		switch {
		case quote != 0 && c == '\\' && i+1 < len(tag):
			out.WriteByte(c)
			i++
			c = tag[i]
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case strings.HasPrefix(tag[i:], "[::-1]"):
			out.WriteString("|reverse")
			i += len("[::-1]") - 1
			continue
		}
		out.WriteByte(c)
	}
	return out.String()
}
