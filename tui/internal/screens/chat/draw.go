package chat

import (
	"fmt"
	"strings"

	"github.com/lathe-llm/lathe/explorer/format"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/report"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// drawHead draws the name of the chat and its sampling settings.
func (s *Screen) drawHead(t *theme.Theme, c explorer.Chat, w int) []string {
	r := widget.Line(w)
	if c.ID == "" {
		return []string{r.Put(t.Dim, "no chat yet").String()}
	}
	name := text.Line(c.Name)
	if name == "" {
		name = "chat"
	}
	r.Put(t.Strong, text.Clip(name, w/3))
	sa := c.Sampling
	r.Put(t.Dim, fmt.Sprintf("  temperature %.2g, seed %d", sa.Temperature, sa.Seed))
	if sys := text.Line(c.System); sys != "" {
		r.Put(t.Dim, "  system: ").Put(t.Text, text.Clip(sys, max(8, r.Room()-24)))
	}
	if c.Blind {
		r.Put(t.Warn, "  blind")
	}
	if v := votes(c); v != "" {
		r.Put(t.Text, "  "+v)
	}
	if s.hasPieces(c) {
		state := "words shaded by divergence"
		if s.plain {
			state = "words not shaded"
		}
		if text.Width(state)+6 < r.Room() {
			r.Put(t.Dim, "  "+state+" (").Put(t.Key, s.host.Key("chat.shade")).Put(t.Dim, ")")
		}
	}
	for _, j := range s.snap().Jobs {
		if j.State == explorer.Yielded {
			r.Right(t.Warn, string(j.Kind)+" paused meanwhile ")
			break
		}
	}
	return []string{r.String()}
}

// votes is the running score and the interval that the share of the left column is in; while the chat is blind, only how many there are.
func votes(c explorer.Chat) string {
	total := 0
	for _, v := range c.Votes {
		total += v
	}
	if total == 0 {
		return ""
	}
	if c.Blind {
		return format.Counted(total, "vote")
	}
	var parts []string
	for i := range c.Columns {
		if i < len(c.Votes) {
			parts = append(parts, fmt.Sprintf("%s %d", text.Clip(columnName(c, i), 14), c.Votes[i]))
		}
	}
	out := "votes: " + strings.Join(parts, ", ")
	if len(c.Votes) >= 2 {
		low, high := report.VoteInterval(c.Votes[0], total)
		out += fmt.Sprintf("; left %.0f to %.0f %%", 100*low, 100*high)
	}
	return out
}

func (s *Screen) drawNone(t *theme.Theme, w, h int) []string {
	return widget.Box(t, paint.Frame{Title: "chat"}, w, h, func(w, _ int) []string {
		if why := s.snap().Model.NoRuntime; why != "" {
			return append([]string{paint.Blank(w)}, widget.Paragraph(w, t.Text, why+".")...)
		}
		key := s.host.Key("chat.new")
		rows := append([]string{paint.Blank(w)}, widget.Paragraph(w, t.Text, key+" starts a chat: the dense model and a subnet side by side, with the same prompt and seed.")...)
		return append(rows, widget.Paragraph(w, t.Dim, "Or type below to chat with the dense model alone.")...)
	})
}

// drawColumn draws one column of the chat: its end, unless it is scrolled.
func (s *Screen) drawColumn(t *theme.Theme, c explorer.Chat, st chatState, w, h int) []string {
	position := st.position
	col := column(c, last(c), position)
	frame := paint.Frame{Title: columnName(c, position), Focused: st.focused}
	if !c.Blind {
		frame.Note = s.speed(col, w-text.Width(frame.Title)-8)
		frame.Foot = contextUse(col, w-6)
	}
	if st.only {
		frame.Title += fmt.Sprintf(" (%d of %d)", position+1, len(c.Columns))
	}
	return widget.Box(t, frame, w, h, func(w, h int) []string {
		rows := s.columnRows(t, c, position, w)
		end := max(0, len(rows)-min(st.up, max(0, len(rows)-h)))
		start := max(0, end-h)
		return rows[start:end]
	})
}

// speed is the last reply's tokens per second, time to the first token and memory, as many of them as fit.
func (s *Screen) speed(col explorer.Column, room int) string {
	var parts []string
	if k := len(col.Replies); k > 0 {
		r := col.Replies[k-1]
		if r.TokensPerSecond > 0 {
			speed := speedText(r) + " tok/s"
			if text.Width(speed) > room {
				speed = fmt.Sprintf("%.1f tok/s", r.TokensPerSecond)
			}
			parts = append(parts, speed)
		}
		if r.FirstToken > 0 {
			parts = append(parts, "first "+text.Short(r.FirstToken))
		}
	}
	if col.Memory > 0 {
		parts = append(parts, format.Bytes(float64(col.Memory)))
	}
	if col.GPUMemory > 0 {
		parts = append(parts, format.Bytes(float64(col.GPUMemory))+" on GPU")
	}
	return joinFit(parts, " · ", room)
}

// contextUse is how full the context is.
func contextUse(col explorer.Column, room int) string {
	if col.Context <= 0 || col.Used <= 0 { // unknown before the end of the first reply
		return ""
	}
	s := fmt.Sprintf("context %d of %d", col.Used, col.Context)
	if text.Width(s) > room {
		return ""
	}
	return s
}

// columnRows are all rows of a column, w cells wide.
func (s *Screen) columnRows(t *theme.Theme, c explorer.Chat, position, w int) []string {
	var rows []string
	for i, p := range c.Prompts {
		col := column(c, i, position)
		if i > 0 {
			rows = append(rows, paint.Blank(w))
		}
		for k, l := range text.Wrap(text.Block(p.Text), max(1, w-4)) {
			mark := "  "
			if k == 0 {
				mark = t.Glyph.Here + " "
			}
			rows = append(rows, widget.Line(w).Put(t.User, mark+l).String())
		}
		if p.Look != "" {
			rows = append(rows, widget.Line(w).Put(t.Faint, text.Clip("  good: "+text.Line(p.Look), w)).String())
		}
		if i < len(col.Replies) {
			rows = append(rows, s.replyRows(t, c, col, i, w)...)
		}
	}
	col := column(c, last(c), position)
	if col.Err != "" {
		rows = append(rows, widget.Paragraph(w, t.Bad, text.Line(col.Err))...)
	}
	if len(c.Prompts) == 0 && col.Err == "" {
		rows = append(rows, paint.Blank(w))
		rows = append(rows, widget.Paragraph(w, t.Dim, "Type a prompt below: every column gets the same prompt and seed.")...)
	}
	return rows
}

func (s *Screen) replyRows(t *theme.Theme, c explorer.Chat, col explorer.Column, i, w int) []string {
	r := col.Replies[i]
	last := i == len(c.Prompts)-1
	spinner := t.Glyph.Spinner[int(s.host.Now().UnixMilli()/screen.ClockEvery.Milliseconds())%len(t.Glyph.Spinner)]
	if c.Blind && last && c.Busy { // its speed would identify the column
		return []string{widget.Line(w).Put(t.Pending, spinner+" generating").String()}
	}
	var rows []string
	switch {
	case last && col.Loading:
		rows = append(rows, widget.Line(w).Put(t.Pending, spinner+" loading the model").String())
	case last && r.Streaming && col.Place > 0:
		rows = append(rows, widget.Line(w).Put(t.Pending, fmt.Sprintf("%s waiting for the model, position %d", spinner, col.Place)).String())
	case last && r.Streaming && c.Pausing:
		what := "starting"
		for _, j := range s.snap().Jobs {
			if j.State == explorer.Running {
				what = "waiting for " + text.Line(j.Title) + " to pause"
				break
			}
		}
		rows = append(rows, widget.Line(w).Put(t.Pending, text.Clip(spinner+" "+what, w-1)).String())
	case r.Streaming && r.Text == "":
		rows = append(rows, widget.Line(w).Put(t.Pending, spinner+" reading the prompt").String())
	}
	if strings.TrimSpace(r.Text) != "" {
		shown := s.prose.rows
		if s.shaded(c, r) {
			shown = func(t *theme.Theme, w int, _ string, _ bool) []string { return shadedRows(t, r, w) }
		}
		for _, l := range shown(t, max(1, w-2), r.Text, r.Streaming) {
			rows = append(rows, widget.Line(w).Raw(l, text.Width(l)).String())
		}
	}
	if r.Err != "" {
		rows = append(rows, widget.Paragraph(w, t.Bad, text.Line(r.Err))...)
	}
	switch facts := replyFacts(r, w-2); {
	case r.Streaming || facts == "":
	case c.Blind && r.Stopped: // the rest would identify the column
		rows = append(rows, widget.Line(w).Put(t.Faint, "stopped").String())
	case !c.Blind:
		rows = append(rows, widget.Line(w).Put(t.Faint, facts).String())
	}
	return rows
}

// replyFacts is the line under a finished reply, as much of it as fits w cells.
func replyFacts(r explorer.Reply, w int) string {
	switch {
	case r.Stopped && r.Tokens == 0:
		return text.Clip("stopped before its first word", w)
	case r.Tokens == 0:
		return ""
	}
	var parts []string
	if r.Stopped {
		parts = append(parts, "stopped")
	}
	if r.Agreement >= 0 {
		agreement := "agreement " + text.Percent(r.Agreement)
		if text.Width(agreement) < w-30 {
			agreement += " with dense"
		}
		parts = append(parts, agreement)
	}
	if r.Uncompared != "" {
		parts = append(parts, "words not compared: "+text.Line(r.Uncompared))
	}
	parts = append(parts, fmt.Sprintf("%d tokens", r.Tokens))
	if r.TokensPerSecond > 0 {
		parts = append(parts, speedText(r)+" tok/s")
	}
	if r.FirstToken > 0 {
		parts = append(parts, "first "+text.Short(r.FirstToken))
	}
	return joinFit(parts, " · ", w)
}

// speedText is the speed of a reply in tokens per second, with its deviation between parts of the reply.
func speedText(r explorer.Reply) string {
	if r.Deviation > 0 {
		return fmt.Sprintf("%.1f ± %.1f", r.TokensPerSecond, r.Deviation)
	}
	return fmt.Sprintf("%.1f", r.TokensPerSecond)
}

// joinFit joins as many parts as fit w cells.
func joinFit(parts []string, sep string, w int) string {
	for len(parts) > 1 && text.Width(strings.Join(parts, sep)) > w {
		parts = parts[:len(parts)-1]
	}
	return text.Clip(strings.Join(parts, sep), w)
}

func (s *Screen) drawPrompt(t *theme.Theme, w, h int) []string {
	title := "prompt"
	switch {
	case s.editing:
		title = "edit the last prompt"
	case s.sending:
		title = "sending"
	}
	return widget.Box(t, paint.Frame{Title: title, Focused: s.focused}, w, h, func(w, h int) []string {
		if s.prompt.Empty() {
			hint := s.host.Key("chat.write") + " to write"
			switch {
			case s.snap().Model.NoRuntime != "":
				hint = "no engine runs this model"
			case s.focused:
				hint = "write here"
			}
			return []string{widget.Line(w).Put(t.Placeholder, hint).String()}
		}
		all, _, _ := s.prompt.Rows(w - 2)
		top := s.promptTop(w-2, h)
		var rows []string
		for _, l := range all[min(top, len(all)):] {
			rows = append(rows, widget.Line(w).Put(t.Input, l).String())
		}
		return rows
	})
}
