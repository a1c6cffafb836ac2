package chat

import "strings"

// normalise rewrites a template so that the library reads it as Hugging Face's does, with trim_blocks and lstrip_blocks:
// the line break after a block or comment goes, and so does white space between the start of a line and a block or
// comment; a line break at the very end goes too. (The library's own options take the wrong line break.) In expressions,
// x[::-1], which the library does not know, becomes x|reverse.
func normalise(source string) string {
	var out strings.Builder
	source = strings.ReplaceAll(source, "\r\n", "\n")
	source = strings.TrimSuffix(source, "\n")
	lineStart := true // what comes next starts a line of the source
	for {
		at := nextTag(source)
		if at < 0 {
			out.WriteString(source)
			return out.String()
		}
		text, tag := source[:at], source[at:]
		end := tagEnd(tag)
		if end < 0 {
			out.WriteString(source) // the parser will complain
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

// nextTag is where the first {{, {% or {# is.
func nextTag(s string) int {
	for i := 0; i+1 < len(s); i++ {
		if s[i] == '{' && (s[i+1] == '{' || s[i+1] == '%' || s[i+1] == '#') {
			return i
		}
	}
	return -1
}

// tagEnd is the length of the tag that s starts with, quoted text inside it skipped; -1 when it does not end.
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

// stripIndent removes the white space at the end of text when nothing else is on its line; open says that text starts a
// line.
func stripIndent(text string, open bool) string {
	bare := strings.TrimRight(text, " \t")
	if bare == "" && open || strings.HasSuffix(bare, "\n") {
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
