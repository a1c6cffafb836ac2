package tui

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// draw draws the whole screen and says where the cursor is; nil hides it.
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
	body := compose(f.Body, m.screens[m.active].panes(m, f.Body), func(p pane) []string { return m.panes.rows(t, p) })
	var cursor *tea.Cursor
	if tp, ok := m.screens[m.active].(typist); ok && tp.typing() && len(m.overlays) == 0 {
		if x, y, ok := tp.cursor(m, f.Body); ok {
			cursor = tea.NewCursor(x, y)
		}
	}
	for _, o := range m.overlays {
		r := o.place(m, f.Body)
		body = paint.Overlay(body, f.Body.W, r.X-f.Body.X, r.Y-f.Body.Y, o.draw(m, r.W, r.H))
		cursor = nil
		if x, y, ok := o.cursor(m, r.W, r.H); ok && o.typing() {
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
	id    screenID
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
	name := modelName(m.snap.Model)
	status := m.jobStatus()
	for _, form := range []struct {
		gap       int
		names     bool
		nameWidth int
		status    string
	}{
		{2, true, 40, status}, {2, true, 20, status}, {1, true, 12, status}, {1, true, 0, status}, {1, true, 0, m.shortStatus()}, {1, true, 0, ""},
		{1, false, 0, m.shortStatus()}, {1, false, 0, ""},
	} {
		h := head{brand: "lathe", status: form.status}
		if form.nameWidth > 0 && name != "" {
			h.brand += "  " + text.ClipMiddle(name, form.nameWidth)
		}
		x := text.Width(h.brand) + 2
		for id := range screenCount {
			label := strconv.Itoa(int(id) + 1)
			if form.names || id == m.active {
				label += " " + id.title()
			}
			h.tabs = append(h.tabs, tab{id, x, label})
			x += text.Width(label) + form.gap
		}
		if spare := w - x - text.Width(h.status); spare >= 1 || !form.names && form.status == "" {
			if spare > 8 && form.names { // room to put the tabs in the middle
				for i := range h.tabs {
					h.tabs[i].x += spare / 2
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
		if tb.id == m.active {
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

// tabAt finds the screen whose name is at a column of the head line.
func (m *Model) tabAt(x int) (screenID, bool) {
	for _, tb := range m.layoutHead(m.w).tabs {
		if x >= tb.x && x < tb.x+text.Width(tb.label) {
			return tb.id, true
		}
	}
	return 0, false
}

// leading is the job the head line tells of: what runs, or else what waits.
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

// jobStatus says what runs and how long it still takes.
func (m *Model) jobStatus() string {
	j, ok := m.leading()
	if !ok {
		return m.company()
	}
	s := m.jobMark(j) + " " + string(j.Kind)
	switch {
	case j.State == explorer.Yielded:
		s += " yields"
	case j.State != explorer.Running:
		s += " " + string(j.State)
	case j.Progress.Left > 0:
		s += " " + text.Clock(j.Progress.Left) + " left"
	case j.Progress.Total > 0:
		s += " " + text.Percent(j.Progress.Fraction())
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

// shortStatus is jobStatus for heads without much room.
func (m *Model) shortStatus() string {
	j, ok := m.leading()
	if !ok {
		return ""
	}
	s := m.jobMark(j)
	if j.State == explorer.Running && j.Progress.Left > 0 {
		s += " " + text.Clock(j.Progress.Left)
	}
	return s
}

func (m *Model) jobMark(j explorer.Job) string {
	g := &m.theme.Glyph
	switch j.State {
	case explorer.Running:
		return g.Spinner[int(m.now().UnixMilli()/clockEvery.Milliseconds())%len(g.Spinner)]
	case explorer.Paused, explorer.Yielded:
		return "="
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

// company says how many others look at the exploration.
func (m *Model) company() string {
	if n := len(m.snap.Presence); n > 1 {
		return fmt.Sprintf("%d here", n)
	}
	return ""
}

// windowTitle is the title of the terminal's window.
func (m *Model) windowTitle() string {
	title := "lathe"
	if name := modelName(m.snap.Model); name != "" {
		title += " - " + name
	}
	if j, ok := m.leading(); ok && j.State == explorer.Running && j.Progress.Total > 0 {
		title += fmt.Sprintf(" (%s %.0f %%)", j.Kind, 100*j.Progress.Fraction())
	}
	return title
}

// A hint is a key and what it does, for the foot line.
type hint struct {
	key, label string
	action     *action // nil where a text field or an overlay takes the key itself
}

// hinter is a screen or overlay that has its own hints at times.
type hinter interface {
	// hints returns nil when the actions of the screen say it all.
	hints(m *Model) []hint
}

// footHints are the hints for the present state, the most useful first.
func (m *Model) footHints() []hint {
	if n := len(m.overlays); n > 0 {
		return m.overlays[n-1].hints(m)
	}
	var out []hint
	if h, ok := m.screens[m.active].(hinter); ok {
		if own := h.hints(m); own != nil {
			return own
		}
	}
	for _, a := range m.actions {
		if a.scope != m.active.scope() || a.short == "" || m.blocked(a) != "" {
			continue
		}
		if key := m.hintKey(a); key != "" {
			label := a.short
			if a.label != nil {
				label = a.label(m)
			}
			out = append(out, hint{key, label, a})
		}
	}
	label := map[screenID]string{masksID: "undo", reformID: "take back", libraryID: "undelete"}[m.active]
	if undo := m.action("undo"); label != "" && m.blocked(undo) == "" { // what makes it safe to try things
		out = slices.Insert(out, min(3, len(out)), hint{m.hintKey(undo), label, undo})
	}
	return out
}

// placedHint is a hint with its column.
type placedHint struct {
	hint
	x int
}

func (m *Model) layoutFoot(w int) (hints []placedHint, status string) {
	status = m.screens[m.active].status(m)
	var always []hint
	if len(m.overlays) == 0 {
		for _, id := range []string{"help", "palette"} {
			a := m.action(id)
			if key := m.keys.first(a); key != "" && !m.typing() {
				always = append(always, hint{m.keyLabel(key), a.short, a})
			}
		}
	} else {
		status = ""
	}
	size := func(h hint) int { return text.Width(h.key) + 1 + text.Width(h.label) + 2 }
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
	put := func(h hint) {
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
		r.Pad(h.x).Put(t.Key, h.key).Put(t.KeyText, " "+h.label)
	}
	return r.Right(t.Dim, status).String()
}

// footerAt finds the action whose hint is at a column of the foot line.
func (m *Model) footerAt(x int) *action {
	hints, _ := m.layoutFoot(m.w)
	for _, h := range hints {
		if x >= h.x && x < h.x+text.Width(h.key)+1+text.Width(h.label) {
			return h.action
		}
	}
	return nil
}
