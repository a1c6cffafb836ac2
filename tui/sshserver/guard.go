package sshserver

import (
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

// frameTime is the minimum time between two frames of a session with recent input: a key after a pause is drawn at once, and a
// flood of keys or resizes does not draw more. Input is recent for typingTime, long enough for the effect of the key. Sessions
// without recent input are drawn at the server's pace.
const (
	frameTime  = time.Second / 30
	typingTime = 300 * time.Millisecond
)

// Messages to the guard.
type (
	noticeMsg string   // a line over the program's last row; "" removes it
	leaveMsg  struct{} // quit
	frameMsg  struct{} // it is time to draw a delayed frame
)

// A guard wraps a session's program: it limits the frame rate, shows notices over the last row, and ends the session, and
// nothing else, if the program panics.
type guard struct {
	inner tea.Model
	pacer *pacer
	fault func(panicked any) // called if the program panics; must cause a leaveMsg and not block
	now   func() time.Time

	width, height int
	notice        string
	broken        bool // the program panicked

	frame  tea.View
	drawn  time.Time     // when frame was made
	input  time.Time     // time of the last input
	stale  bool          // frame is older than the program's state
	due    time.Time     // when the pending frameMsg comes; zero if there is none
	worked time.Duration // time spent in the program since the last frame
}

func newGuard(inner tea.Model, p *pacer, fault func(any)) *guard {
	return &guard{inner: inner, pacer: p, fault: fault, now: time.Now, stale: true}
}

// Init starts the program.
func (g *guard) Init() (cmd tea.Cmd) {
	defer g.recoverPanic()
	return g.inner.Init()
}

// Update passes a message to the program.
func (g *guard) Update(msg tea.Msg) (tea.Model, tea.Cmd) { return g, g.update(msg) }

func (g *guard) update(msg tea.Msg) (cmd tea.Cmd) {
	defer g.recoverPanic()
	if g.broken {
		return tea.Quit
	}
	switch msg := msg.(type) {
	case noticeMsg:
		g.notice, g.stale = string(msg), true
		return g.later()
	case leaveMsg:
		return tea.Quit
	case frameMsg:
		g.due = time.Time{}
		return nil
	case tea.WindowSizeMsg:
		g.width, g.height, g.input = msg.Width, msg.Height, g.now()
		// A frame of another size is not kept, and the next one does not wait for the pace, which would have a session on a busy machine
		// begin with a blank screen: the program draws first without a size.
		g.drawn = time.Time{}
	case tea.KeyPressMsg, tea.MouseMsg, tea.PasteMsg:
		g.input = g.now()
	}
	began := g.now()
	g.inner, cmd = g.inner.Update(msg)
	g.worked += g.now().Sub(began)
	g.stale = true
	return tea.Batch(cmd, g.later())
}

// later returns a command that sends a frameMsg, if it is too early to draw.
func (g *guard) later() tea.Cmd {
	now := g.now()
	at := g.drawn.Add(g.gap(now))
	left := at.Sub(now)
	if left <= 0 || !g.due.IsZero() && !at.Before(g.due) {
		return nil
	}
	g.due = at
	return tea.Tick(left, func(time.Time) tea.Msg { return frameMsg{} })
}

// gap returns the minimum time from the last frame to the next.
func (g *guard) gap(now time.Time) time.Duration {
	if now.Sub(g.input) < typingTime {
		return frameTime
	}
	return max(frameTime, g.pacer.pace())
}

// View returns the program's frame, at most gap old.
func (g *guard) View() tea.View {
	if now := g.now(); !g.stale || g.broken || now.Sub(g.drawn) < g.gap(now) && !g.due.IsZero() {
		return g.frame
	}
	defer g.recoverPanic()
	began := g.now()
	v := g.inner.View()
	g.pacer.observe(g.worked + g.now().Sub(began))
	g.worked, g.stale = 0, false
	if g.notice != "" {
		v.Content = overlay(v.Content, g.notice, g.width, g.height)
		if v.Cursor != nil && v.Cursor.Y >= g.height-1 {
			v.Cursor = nil
		}
	}
	g.frame, g.drawn = v, g.now()
	return g.frame
}

// recoverPanic turns a panic of the program into the end of the session.
func (g *guard) recoverPanic() {
	if r := recover(); r != nil {
		g.broken, g.frame = true, tea.View{}
		g.fault(r)
	}
}

// overlay replaces the last row of a frame by a notice.
func overlay(content, notice string, width, height int) string {
	if width <= 0 || height <= 0 {
		return content
	}
	rows := strings.Split(content, "\n")
	for len(rows) < height {
		rows = append(rows, "")
	}
	line := ansi.Truncate(" "+notice, width, "…")
	line += strings.Repeat(" ", max(0, width-ansi.StringWidth(line)))
	rows[height-1] = "\x1b[7m" + line + "\x1b[m"
	return strings.Join(rows, "\n")
}
