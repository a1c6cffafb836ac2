package corpus

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

const (
	// minDocuments is how many documents a text needs for its windows to begin at them only.
	minDocuments = 8
	// longLine is the mean length in bytes of the lines of a text whose lines are documents.
	longLine = 500
	// A unit, what is tokenised at once, has minUnit bytes at least, unless it is a text's last one, and about maxUnit at most.
	minUnit, maxUnit = 1 << 10, 1 << 14
)

// documents divides a text at its marks or, where it has too few, into paragraphs, lines or pieces.
func documents(text string) []string {
	for _, divide := range []func(string) []string{extracted, headed, lines(longLine), paragraphs, lines(0)} {
		if docs := divide(text); len(docs) >= minDocuments {
			return docs
		}
	}
	return pieces(text, minUnit)
}

// extracted returns the articles of WikiExtractor, without its tags.
func extracted(text string) []string {
	const open, shut = "<doc ", "</doc>"
	if !strings.HasPrefix(strings.TrimSpace(text), open) {
		return nil
	}
	var docs []string
	for _, part := range strings.Split("\n"+text, "\n"+open)[1:] {
		_, body, _ := strings.Cut(part, "\n") // after the rest of the tag
		body = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(body), shut))
		if body != "" {
			docs = append(docs, body+"\n\n")
		}
	}
	return docs
}

// heading matches the title of an article of WikiText, as opposed to those of sections, which have two or more signs.
var heading = regexp.MustCompile(`(?m)^ = [^=\n]+ = ?$`)

// headed returns the articles of WikiText.
func headed(text string) []string {
	var docs []string
	last := 0
	for _, at := range heading.FindAllStringIndex(text, -1) {
		docs, last = append(docs, text[last:at[0]]), at[0]
	}
	return filled(append(docs, text[last:]))
}

// lines returns a function that returns the lines of a text if they have at least so many bytes on average.
func lines(mean int) func(string) []string {
	return func(text string) []string {
		docs := filled(strings.SplitAfter(text, "\n"))
		if len(docs) == 0 || len(text)/len(docs) < mean || mean > 0 && len(docs) < strings.Count(text, "\n") {
			return nil
		}
		return docs
	}
}

// paragraphs returns what blank lines separate.
func paragraphs(text string) []string {
	var docs []string
	last, blank := 0, true
	for at := 0; at < len(text); {
		end := len(text)
		if n := strings.IndexByte(text[at:], '\n'); n >= 0 {
			end = at + n + 1
		}
		empty := strings.TrimSpace(text[at:end]) == ""
		if blank && !empty && at > last {
			docs, last = append(docs, text[last:at]), at
		}
		blank, at = empty, end
	}
	return filled(append(docs, text[last:]))
}

// filled returns the documents that are not blank.
func filled(docs []string) []string {
	out := docs[:0]
	for _, d := range docs {
		if strings.TrimSpace(d) != "" {
			out = append(out, d)
		}
	}
	return out
}

// pieces divides a text into pieces of about so many bytes, after a line, else after a space, else after a character.
func pieces(text string, size int) []string {
	var out []string
	for len(text) > 2*size {
		at := strings.LastIndexByte(text[:2*size], '\n') + 1
		if at < size {
			at = strings.LastIndexByte(text[:2*size], ' ') + 1
		}
		if at < size {
			for at = 2 * size; at > size && !utf8.RuneStart(text[at]); {
				at--
			}
		}
		out, text = append(out, text[:at]), text[at:]
	}
	return append(out, text)
}
