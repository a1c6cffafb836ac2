package sshserver

import (
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

// frameTime is the least time between two drawings of one session. A key after a pause is drawn at once; of a flood of
// keys or resizes only so many pictures are made.
const frameTime = time.Second / 30

// Messages to the guard.
type (
	noticeMsg string   // a line over the program's last row; "" takes it away
	leaveMsg  struct{} // quit
	frameMsg  struct{} // it is time to draw what was left out
)

// A guard is a session's program with what the server adds: a limit to how often it is drawn, a row for notices, and an
// end to the session, and to nothing else, when the program panics.
type guard struct {
	inner tea.Model
	pacer *pacer
	fault func(panicked any) // called when the program panicked; must see to a leaveMsg, and not wait
	now   func() time.Time

	width, height int
	notice        string
	broken        bool // the program panicked

	frame   tea.View
	drawn   time.Time     // when frame was made
	stale   bool          // frame is older than the program's state
	waiting bool          // a frameMsg is under way
	worked  time.Duration // in the program since the last frame
}

func newGuard(inner tea.Model, p *pacer, fault func(any)) *guard {
	return &guard{inner: inner, pacer: p, fault: fault, now: time.Now, stale: true}
}

// Init starts the program.
func (g *guard) Init() (cmd tea.Cmd) {
	defer g.contain()
	return g.inner.Init()
}

// Update hands a message to the program.
func (g *guard) Update(msg tea.Msg) (tea.Model, tea.Cmd) { return g, g.update(msg) }

func (g *guard) update(msg tea.Msg) (cmd tea.Cmd) {
	defer g.contain()
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
		g.waiting = false
		return nil
	case tea.WindowSizeMsg:
		g.width, g.height = msg.Width, msg.Height
	}
	began := g.now()
	g.inner, cmd = g.inner.Update(msg)
	g.worked += g.now().Sub(began)
	g.stale = true
	return tea.Batch(cmd, g.later())
}

// later asks for a frameMsg when it is too early to draw.
func (g *guard) later() tea.Cmd {
	left := frameTime - g.now().Sub(g.drawn)
	if left <= 0 || g.waiting {
		return nil
	}
	g.waiting = true
	return tea.Tick(left, func(time.Time) tea.Msg { return frameMsg{} })
}

// View is the program's picture, not older than frameTime.
func (g *guard) View() tea.View {
	if !g.stale || g.waiting || g.broken {
		return g.frame
	}
	defer g.contain()
	began := g.now()
	v := g.inner.View()
	g.pacer.drew(g.worked + g.now().Sub(began))
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

// contain turns a panic of the program into the end of the session.
func (g *guard) contain() {
	if r := recover(); r != nil {
		g.broken, g.frame = true, tea.View{}
		g.fault(r)
	}
}

// overlay puts a line over the last row of a picture.
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
