package tui

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/explorer/format"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// draw draws the whole screen and returns where the cursor is; nil hides it.
func (m *Model) draw() (string, *tea.Cursor) {
	if m.w <= 0 || m.h <= 0 {
		return "", nil
	}
	f := m.area()
	if f.TooSmall {
		return strings.Join(m.drawTooSmall(f.Body), "\n"), nil
	}
	t := m.theme
	rows := make([]string, 0, m.h)
	rows = append(rows, m.drawHead(f.Head.W))
	rule := t.Border.Render(strings.Repeat(t.Glyph.H, m.w))
	if !f.HeadRule.Empty() {
		rows = append(rows, rule)
	}
	body := compose(f.Body, m.active().Panes(f.Body), func(p screen.Pane) []string { return m.panes.rows(t, m.opts.KeyFile+m.opts.Keys, p) })
	var cursor *tea.Cursor
	if in := m.input(); in != nil && in.Typing() && len(m.overlays) == 0 {
		if x, y, ok := in.Cursor(f.Body); ok {
			cursor = tea.NewCursor(x, y)
		}
	}
	for _, o := range m.overlays {
		r := o.Place(host{m}, f.Body)
		body = paint.Overlay(body, f.Body.W, r.X-f.Body.X, r.Y-f.Body.Y, o.Draw(host{m}, r.W, r.H))
		cursor = nil
		if x, y, ok := o.Cursor(r.W, r.H); ok && o.Typing() {
			cursor = tea.NewCursor(r.X+x, r.Y+y)
		}
	}
	rows = append(rows, body...)
	rows = append(rows, paint.Fill(m.drawNotes(m.w, f.Notes.H), m.w, f.Notes.H)...)
	if !f.FootRule.Empty() {
		rows = append(rows, rule)
	}
	rows = append(rows, m.drawFoot(m.w))
	content := strings.Join(rows, "\n")
	if t.Look.ASCII {
		content = m.toASCII.Replace(content)
	}
	return content, cursor
}

// newASCII replaces the few signs outside ASCII that words and numbers are written with, each by one of the same width.
func newASCII() *strings.Replacer {
	return strings.NewReplacer("·", "-", "×", "x", "–", "-", "…", "~", "±", "~", "↑", "^", "↓", "v", "←", "<", "→", ">", "µ", "u")
}

// drawTooSmall is what terminals below the floor show: as much of a notice as fits, and how to leave.
func (m *Model) drawTooSmall(r layout.Rect) []string {
	lines := []string{"lathe", fmt.Sprintf("%d×%d is too small", m.w, m.h), fmt.Sprintf("enlarge to %d×%d", layout.FloorW, layout.FloorH), "q quits"}
	if m.theme.Look.ASCII {
		for i := range lines {
			lines[i] = strings.ReplaceAll(lines[i], "×", "x")
		}
	}
	var rows []string
	for i, l := range lines {
		style := m.theme.Dim
		if i == 0 {
			style = m.theme.Accent
		}
		rows = append(rows, paint.Text(r.W, style, text.Clip(l, r.W)))
	}
	return paint.Fill(rows, r.W, r.H)
}

// A tab is where the name of a screen is in the head line.
type tab struct {
	at    int // index of the screen
	x     int
	label string
}

// head is the head line, laid out: its parts from left to right, the widest form that fits.
type head struct {
	brand  string
	tabs   []tab
	status string
}

func (m *Model) layoutHead(w int) head {
	name := subnets.ModelName(m.snap.Model)
	status := m.jobStatus()
	for _, form := range []struct {
		gap       int
		names     bool
		nameWidth int
		status    string
		middle    bool // with the tabs in the middle, where they stay while the status changes
	}{
		{2, true, 40, status, true},
		{2, true, 40, m.shortStatus(true), true},
		{2, true, 20, status, false},
		{1, true, 12, status, false},
		{1, true, 0, status, false},
		{1, true, 0, m.shortStatus(true), false},
		{1, true, 0, m.shortStatus(false), false},
		{1, true, 0, "", false},
		{1, false, 0, m.shortStatus(false), false},
		{1, false, 0, "", false},
	} {
		h := head{brand: "lathe", status: form.status}
		if form.nameWidth > 0 && name != "" {
			h.brand += "  " + text.ClipMiddle(name, form.nameWidth)
		}
		x := text.Width(h.brand) + 2
		for i, s := range m.screens {
			label := strconv.Itoa(i + 1)
			if form.names || i == m.at {
				label += " " + s.Title()
			}
			h.tabs = append(h.tabs, tab{i, x, label})
			x += text.Width(label) + form.gap
		}
		if spare := w - x - text.Width(h.status); spare >= 1 || !form.names && form.status == "" {
			middle := max(0, (w-(x-form.gap-h.tabs[0].x))/2-h.tabs[0].x)
			if form.middle && middle >= spare {
				continue
			}
			for i := range h.tabs {
				if form.middle {
					h.tabs[i].x += middle
				}
			}
			return h
		}
	}
	return head{brand: "lathe"}
}

func (m *Model) drawHead(w int) string {
	t := m.theme
	h := m.layoutHead(w)
	r := paint.NewRow(w, theme.Style{})
	brand, name, _ := strings.Cut(h.brand, "  ")
	r.Put(t.Accent, brand)
	if name != "" {
		r.Put(t.Strong, "  "+name)
	}
	for _, tb := range h.tabs {
		r.Pad(tb.x)
		if tb.at == m.at {
			r.Put(t.Focus.With(theme.Style{}), tb.label)
			continue
		}
		num, rest, _ := strings.Cut(tb.label, " ")
		r.Put(t.Key, num)
		if rest != "" {
			r.Put(t.Dim, " "+rest)
		}
	}
	return r.Right(m.jobStyle(), h.status).String()
}

// tabAt returns the index of the screen whose name is at a column of the head line.
func (m *Model) tabAt(x int) (int, bool) {
	for _, tb := range m.layoutHead(m.w).tabs {
		if x >= tb.x && x < tb.x+text.Width(tb.label) {
			return tb.at, true
		}
	}
	return 0, false
}

// leading is the job that the head line shows: the running one, or else one that waits.
func (m *Model) leading() (explorer.Job, bool) {
	var waiting *explorer.Job
	for i := range m.snap.Jobs {
		j := &m.snap.Jobs[i]
		if j.State == explorer.Running {
			return *j, true
		}
		if !j.State.Ended() && waiting == nil {
			waiting = j
		}
	}
	if waiting != nil {
		return *waiting, true
	}
	return explorer.Job{}, false
}

// jobStatus is what runs and how long it will take.
func (m *Model) jobStatus() string {
	j, ok := m.leading()
	if !ok {
		return m.company()
	}
	s := m.jobMark(j) + " " + string(j.Kind)
	switch {
	case j.State != explorer.Running:
		if what := m.snap.Awaits(j); what != "" {
			s += " waits for " + text.Clip(text.Line(what), 24)
		} else {
			s += " " + string(j.State)
		}
	default:
		s += m.progress(j.Progress)
	}
	more := 0
	for _, other := range m.snap.Jobs {
		if !other.State.Ended() {
			more++
		}
	}
	if more > 1 {
		s += fmt.Sprintf(" +%d", more-1)
	}
	return s
}

// progress is the phase of a job and what is left of it: the time, or the share of the phase while no time is known.
func (m *Model) progress(p explorer.Progress) string {
	s := ""
	if p.Phase.Of > 1 {
		s = fmt.Sprintf(" %d/%d", p.Phase.Number, p.Phase.Of)
	}
	switch d, what := p.Clock(m.now()); {
	case d > 0:
		s += " " + format.Clock(d) + " " + what
	case p.Total > 0:
		s += " " + text.Percent(p.Fraction())
	}
	return s
}

// shortStatus is jobStatus for heads without much room, with or without what the job is.
func (m *Model) shortStatus(named bool) string {
	j, ok := m.leading()
	if !ok {
		return ""
	}
	s := m.jobMark(j)
	if named {
		s += " " + string(j.Kind)
	}
	if d, what := j.Progress.Clock(m.now()); j.State == explorer.Running && d > 0 {
		if what != "so far" { // without the name of the phase, which has its number
			what, _, _ = strings.Cut(what, " ")
			if p := j.Progress.Phase; j.Progress.Left <= 0 {
				s += fmt.Sprintf(" %d/%d", p.Number, p.Of)
			}
		}
		s += " " + format.Clock(d) + " " + what
	}
	return s
}

func (m *Model) jobMark(j explorer.Job) string {
	g := &m.theme.Glyph
	switch j.State {
	case explorer.Running:
		return g.Spinner[int(m.now().UnixMilli()/screen.ClockEvery.Milliseconds())%len(g.Spinner)]
	case explorer.Paused, explorer.Yielded:
		return "="
	default: // nothing for the others
	}
	return g.Ring
}

func (m *Model) jobStyle() theme.Style {
	j, ok := m.leading()
	switch {
	case !ok:
		return m.theme.Dim
	case j.State == explorer.Running:
		return m.theme.Good
	}
	return m.theme.Warn
}

// company is the number of viewers, where there are others.
func (m *Model) company() string {
	if n := len(m.snap.Presence); n > 1 {
		return format.Counted(n, "viewer")
	}
	return ""
}

// windowTitle is the title of the terminal's window.
func (m *Model) windowTitle() string {
	title := "lathe"
	if name := subnets.ModelName(m.snap.Model); name != "" {
		title += " - " + name
	}
	if j, ok := m.leading(); ok && j.State == explorer.Running && j.Progress.Total > 0 {
		title += fmt.Sprintf(" (%s %.0f %%)", j.Kind, 100*j.Progress.Whole())
	}
	return title
}

// footHints are the hints for the present state, the most useful first.
func (m *Model) footHints() []screen.Hint {
	if n := len(m.overlays); n > 0 {
		return m.overlays[n-1].Hints(host{m})
	}
	if s, ok := m.active().(screen.Hinter); ok {
		if own := s.Hints(); own != nil {
			return own
		}
	}
	var out []screen.Hint
	for _, a := range m.actions {
		if a.Scope != m.active().Name() || a.Short == "" || m.blocked(a) != "" {
			continue
		}
		if hint := (host{m}).Hint(a.ID); hint.Key != "" {
			out = append(out, hint)
		}
	}
	u, ok := m.active().(screen.Undoer)
	if !ok {
		return out
	}
	at := min(1, len(out)) // it makes trying things safe, and has room on every terminal
	if m.blocked(m.action("redo")) == "" {
		out = slices.Insert(out, at, screen.Hint{Key: host{m}.Key("redo"), Label: u.RedoLabel(), Action: "redo"})
	}
	if m.blocked(m.action("undo")) == "" {
		out = slices.Insert(out, at, screen.Hint{Key: host{m}.Key("undo"), Label: u.UndoLabel(), Action: "undo"})
	}
	return out
}

// placedHint is a hint with its column.
type placedHint struct {
	screen.Hint
	x int
}

func (m *Model) layoutFoot(w int) (hints []placedHint, status string) {
	status = m.active().Status()
	var always []screen.Hint
	if len(m.overlays) == 0 {
		for _, id := range []string{"help", "palette"} {
			if hint := (host{m}).Hint(id); hint.Key != "" && !m.typing() {
				always = append(always, hint)
			}
		}
	} else {
		status = ""
	}
	size := func(h screen.Hint) int { return text.Width(h.Key) + 1 + text.Width(h.Label) + 2 }
	room := w - 1
	for _, h := range always {
		room -= size(h)
	}
	if n := text.Width(status); n > 0 && room-n-2 > w/2 {
		room -= n + 2
	} else {
		status = ""
	}
	x := 0
	put := func(h screen.Hint) {
		hints = append(hints, placedHint{h, x})
		x += size(h)
	}
	for _, h := range m.footHints() {
		if n := size(h); n <= room {
			room -= n
			put(h)
		}
	}
	for _, h := range always {
		put(h)
	}
	return hints, status
}

func (m *Model) drawFoot(w int) string {
	t := m.theme
	hints, status := m.layoutFoot(w)
	r := paint.NewRow(w, theme.Style{})
	for _, h := range hints {
		r.Pad(h.x).Put(t.Key, h.Key).Put(t.KeyText, " "+h.Label)
	}
	return r.Right(t.Dim, status).String()
}

// footerAt returns the ID of the action whose hint is at a column of the foot line; "" if none.
func (m *Model) footerAt(x int) string {
	hints, _ := m.layoutFoot(m.w)
	for _, h := range hints {
		if x >= h.x && x < h.x+text.Width(h.Key)+1+text.Width(h.Label) {
			return h.Action
		}
	}
	return ""
}
