package chat

import (
	"strings"

	"charm.land/glamour/v2"
	"charm.land/glamour/v2/ansi"
	xansi "github.com/charmbracelet/x/ansi"

	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// prose renders Markdown and caches the result.
type prose struct {
	renderer map[proseLook]*glamour.TermRenderer
	done     map[proseKey][]string
}

type proseLook struct {
	look theme.Look
	w    int
}

type proseKey struct {
	proseLook
	text string
}

const (
	maxProse     = 400
	maxProseLook = 8
)

func newProse() *prose {
	return &prose{renderer: map[proseLook]*glamour.TermRenderer{}, done: map[proseKey][]string{}}
}

// rows renders Markdown on rows of at most w cells. A growing text is rendered in two parts, so that its settled part is
// not rendered again for every token.
func (p *prose) rows(t *theme.Theme, w int, md string, growing bool) []string {
	md = text.Block(md)
	if !growing {
		return p.render(t, w, md)
	}
	cut := settled(md)
	rows := p.render(t, w, md[:cut])
	if tail := md[cut:]; strings.TrimSpace(tail) != "" {
		if len(rows) > 0 {
			rows = append(rows[:len(rows):len(rows)], "")
		}
		rows = append(rows, p.fresh(t, w, tail)...)
	}
	return rows
}

// settled is the length of the part of a growing text that more text cannot change: up to the last empty line outside a
// code block.
func settled(md string) int {
	cut, at, fenced := 0, 0, false
	for _, l := range strings.SplitAfter(md, "\n") {
		at += len(l)
		trimmed := strings.TrimSpace(l)
		if strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~") {
			fenced = !fenced
		}
		if trimmed == "" && strings.HasSuffix(l, "\n") && !fenced {
			cut = at
		}
	}
	return cut
}

func (p *prose) render(t *theme.Theme, w int, md string) []string {
	if strings.TrimSpace(md) == "" {
		return nil
	}
	key := proseKey{proseLook{t.Look, w}, md}
	if rows, ok := p.done[key]; ok {
		return rows
	}
	rows := p.fresh(t, w, md)
	if len(p.done) >= maxProse {
		clear(p.done)
	}
	p.done[key] = rows
	return rows
}

// fresh renders without the cache. Text that cannot be rendered as Markdown is shown as it is.
func (p *prose) fresh(t *theme.Theme, w int, md string) []string {
	w = max(w, 4)
	look := proseLook{t.Look, w}
	r := p.renderer[look]
	if r == nil {
		var err error
		r, err = glamour.NewTermRenderer(glamour.WithStyles(proseStyle(t)), glamour.WithWordWrap(w), glamour.WithPreservedNewLines())
		if err != nil {
			return text.Wrap(md, w)
		}
		if len(p.renderer) >= maxProseLook {
			clear(p.renderer)
		}
		p.renderer[look] = r
	}
	out, err := r.Render(md)
	if err != nil {
		return text.Wrap(md, w)
	}
	var rows []string
	for _, l := range strings.Split(strings.Trim(out, "\n"), "\n") {
		l = strings.TrimRight(l, " ")
		if text.Width(l) > w {
			l = xansi.Truncate(l, w, "")
		}
		rows = append(rows, l)
	}
	return rows
}

// proseStyle is the style of Markdown: the theme's tokens, no margins, and no distinction by colour alone.
func proseStyle(t *theme.Theme) ansi.StyleConfig {
	yes := true
	zero, two := uint(0), uint(2)
	bullet, rule := "• ", "────────"
	if t.Look.ASCII {
		bullet, rule = "* ", "--------"
	}
	accent, code := t.Look.Colour("f2a65a", "a85a00"), t.Look.Colour("f5c451", "8a6100")
	block := ansi.StyleBlock{Margin: &zero}
	heading := ansi.StyleBlock{StylePrimitive: ansi.StylePrimitive{Bold: &yes, Color: &accent, BlockSuffix: "\n"}}
	sub := func(prefix string) ansi.StyleBlock {
		return ansi.StyleBlock{StylePrimitive: ansi.StylePrimitive{Prefix: prefix}}
	}
	line := "│ "
	if t.Look.ASCII {
		line = "| "
	}
	return ansi.StyleConfig{
		Document: block, Paragraph: ansi.StyleBlock{},
		Heading: heading, H1: sub(""), H2: sub(""), H3: sub(""), H4: sub(""), H5: sub(""), H6: sub(""),
		List:        ansi.StyleList{LevelIndent: 2},
		Item:        ansi.StylePrimitive{BlockPrefix: bullet},
		Enumeration: ansi.StylePrimitive{BlockPrefix: ". "},
		Task:        ansi.StyleTask{Ticked: "[x] ", Unticked: "[ ] "},
		Emph:        ansi.StylePrimitive{Italic: &yes}, Strong: ansi.StylePrimitive{Bold: &yes}, Strikethrough: ansi.StylePrimitive{CrossedOut: &yes},
		HorizontalRule: ansi.StylePrimitive{Format: "\n" + rule + "\n"},
		BlockQuote:     ansi.StyleBlock{Indent: ptr(uint(1)), IndentToken: &line},
		Code:           ansi.StyleBlock{StylePrimitive: ansi.StylePrimitive{Color: &code}},
		CodeBlock:      ansi.StyleCodeBlock{StyleBlock: ansi.StyleBlock{StylePrimitive: ansi.StylePrimitive{Color: &code}, Margin: &two}},
		Link:           ansi.StylePrimitive{Underline: &yes}, LinkText: ansi.StylePrimitive{Bold: &yes},
		Image: ansi.StylePrimitive{Underline: &yes}, ImageText: ansi.StylePrimitive{},
	}
}

func ptr[T any](v T) *T { return &v }
