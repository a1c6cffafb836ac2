package chat

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// A word is a word of a reply with its divergence from dense: that of all its tokens.
type word struct {
	text       string
	divergence float64
	first      bool   // the first word at which the models part
	dense      string // what dense finds most likely at its first token that is another; "" for none
	breaks     int    // line breaks before it
}

// words joins the tokens of a reply to words.
func words(r explorer.Reply) []word {
	var out []word
	parting, fresh, breaks := r.Parting(), true, 0
	for i, p := range r.Pieces {
		pending := i == parting
		rest := p.Text
		for rest != "" || pending {
			gap := rest[:len(rest)-len(strings.TrimLeftFunc(rest, unicode.IsSpace))]
			if gap != "" {
				fresh = true
				breaks += strings.Count(gap, "\n")
				rest = rest[len(gap):]
			}
			end := strings.IndexFunc(rest, unicode.IsSpace)
			if end < 0 {
				end = len(rest)
			}
			if end == 0 && !pending {
				break
			}
			if fresh || len(out) == 0 {
				out = append(out, word{breaks: breaks})
				fresh, breaks = false, 0
			}
			w := &out[len(out)-1]
			w.text += rest[:end]
			rest = rest[end:]
			w.divergence += p.Divergence
			w.first = w.first || pending
			if w.dense == "" {
				w.dense = p.Dense
			}
			pending = false
			p.Divergence, p.Dense = 0, "" // counted once
		}
	}
	return out
}

// shadeOf is the style of a word by its divergence, in nats: marks for terminals without colours too.
func shadeOf(t *theme.Theme, divergence float64) theme.Style {
	level := 0
	for _, bound := range []float64{0.1, 0.5, 1.5} {
		if divergence >= bound {
			level++
		}
	}
	return t.Shades[level]
}

// shadedRows are the words of a reply, shaded by how far the subnet's distribution is from dense.
func shadedRows(t *theme.Theme, r explorer.Reply, w int) []string {
	var rows []string
	row := paint.NewRow(w, theme.Style{})
	empty := true
	flush := func() {
		rows = append(rows, row.String())
		row, empty = paint.NewRow(w, theme.Style{}), true
	}
	for _, one := range words(r) {
		for range min(one.breaks, 2) {
			if len(rows) > 0 || !empty {
				flush()
			}
		}
		s := text.Line(one.text)
		mark := ""
		if one.first {
			mark = t.Glyph.Here
		}
		n := text.Width(mark) + text.Width(s)
		if !empty && n+1 > row.Room() {
			flush()
		}
		if !empty {
			row.Put(t.Text, " ")
		}
		row.Put(t.Accent, mark)
		style := shadeOf(t, one.divergence)
		for text.Width(s) > row.Room() && row.Room() > 0 { // longer than a row
			part := text.Clip(s, row.Room())
			part = strings.TrimSuffix(part, "…")
			if part == "" {
				break
			}
			row.Put(style, part)
			s = strings.TrimPrefix(s, part)
			flush()
		}
		row.Put(style, s)
		empty = false
	}
	if !empty {
		flush()
	}
	return rows
}

// shaded reports whether a reply is shown by its words.
func (s *Screen) shaded(c explorer.Chat, r explorer.Reply) bool {
	return !s.plain && !c.Blind && !r.Streaming && len(r.Pieces) > 0
}

// compared returns the reply of the column under the cursor that was compared with dense last; else of any column.
func (s *Screen) compared() (name string, r explorer.Reply, ok bool) {
	c, ok := s.current(s.snap())
	if !ok || c.Blind {
		return "", r, false
	}
	positions := []int{layout.Clamp(s.column, 0, max(0, len(c.Columns)-1))}
	for i := range c.Columns {
		positions = append(positions, i)
	}
	for _, position := range positions {
		col := c.Columns[position]
		for k := len(col.Replies) - 1; k >= 0; k-- {
			if len(col.Replies[k].Pieces) > 0 {
				return columnName(c, position), col.Replies[k], true
			}
		}
	}
	return "", r, false
}

// hasPieces reports whether words of a chat can be shaded.
func (s *Screen) hasPieces(c explorer.Chat) bool {
	for _, col := range c.Columns {
		for _, r := range col.Replies {
			if len(r.Pieces) > 0 {
				return !c.Blind
			}
		}
	}
	return false
}

// notCompared returns why no reply is compared with the dense model and what to do, "" where one is.
func (s *Screen) notCompared() string {
	if _, _, ok := s.compared(); ok {
		return ""
	}
	key := s.host.Key
	c, ok := s.current(s.snap())
	cut := false
	for _, col := range c.Columns {
		cut = cut || col.Subnet != explorer.DenseID
	}
	switch {
	case !ok:
		return "there is no chat yet"
	case c.Blind:
		return key("chat.blind") + " reveals the columns first"
	case !cut:
		return "the chat has the dense model alone: " + key("chat.columns") + " adds a subnet to compare it with"
	case c.Busy || c.Comparing > 0:
		return "the reply of the subnet is compared with the dense model once it has ended"
	case len(c.Prompts) == 0:
		return key("chat.write") + " writes a prompt first"
	}
	for _, col := range c.Columns {
		for _, r := range col.Replies {
			if r.Uncompared != "" {
				return "not compared: " + text.Line(r.Uncompared)
			}
		}
	}
	if !slices.ContainsFunc(c.Columns, func(col explorer.Column) bool { return col.Subnet == explorer.DenseID }) {
		return "the chat has no column of the dense model: " + key("chat.add") + " adds one"
	}
	return "no reply of the subnet is complete: " + key("chat.again") + " asks again"
}

// shown names a word that is drawn as nothing.
func shown(word string) string {
	switch {
	case strings.TrimSpace(word) != "":
		return strings.TrimSpace(text.Line(word))
	case strings.Contains(word, "\n"):
		return "(line break)"
	case word != "":
		return "(space)"
	}
	return "(nothing)"
}

// differences lists the words of the last reply where dense would have written another one, in the order of the text or by divergence.
func (s *Screen) differences() tea.Cmd { return s.differencesBy(false) }

func (s *Screen) differencesBy(divergence bool) tea.Cmd {
	name, r, _ := s.compared()
	label := "largest first"
	if divergence {
		label = "in the order of the text"
	}
	order := widget.PagerAction{Key: "s", Label: label, Run: func() tea.Cmd { return s.differencesBy(!divergence) }}
	return s.host.Open(&widget.Pager{Title: "where " + name + " and dense differ", Width: 90, More: []widget.PagerAction{order}, Lines: func(w int) []string {
		t := s.host.Theme()
		all := words(r)
		var rows []string
		if r.Agreement >= 0 {
			rows = append(widget.Paragraph(w, t.Dim, fmt.Sprintf("Agreement %s: the share of the tokens of this reply that dense finds the most likely too.", text.Percent(r.Agreement))), paint.Blank(w))
		}
		rows = append(rows, widget.Line(w).Col(t.Dim, "nats", 8).Col(t.Dim, "what it wrote", max(12, w/2)).Put(t.Dim, "what dense would have written").String())
		var at []int
		for i, one := range all {
			if one.dense != "" {
				at = append(at, i)
			}
		}
		if divergence {
			slices.SortStableFunc(at, func(a, b int) int { return cmp.Compare(all[b].divergence, all[a].divergence) })
		}
		for _, i := range at {
			one := all[i]
			before := ""
			for k := max(0, i-4); k < i; k++ {
				before += text.Line(all[k].text) + " "
			}
			mark := " "
			if one.first {
				mark = t.Glyph.Here
			}
			room := max(12, w/2)
			said := shown(one.text)
			lead := text.Skip(before, max(0, text.Width(before)-max(0, room-2-text.Width(said))))
			r := widget.Line(w).Num(t.Dim, fmt.Sprintf("%.2f", one.divergence), 6).Put(t.Accent, " "+mark)
			used := text.Width(lead) + text.Width(said)
			r.Put(t.Dim, lead).Put(shadeOf(t, one.divergence), said).Put(t.Text, text.Spaces(max(1, room-used)))
			rows = append(rows, r.Put(t.Dense, shown(one.dense)).String())
		}
		if len(at) == 0 {
			rows = append(rows, paint.Text(w, t.Dim, " dense finds every word of it the most likely"))
		}
		return rows
	}})
}
