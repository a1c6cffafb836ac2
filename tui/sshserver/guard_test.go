package sshserver

import (
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
)

// counter counts how often it is drawn.
type counter struct{ drawn int }

func (c *counter) Init() tea.Cmd                       { return nil }
func (c *counter) Update(tea.Msg) (tea.Model, tea.Cmd) { return c, nil }
func (c *counter) View() tea.View                      { c.drawn++; return tea.NewView("one\ntwo\nthree") }

func testGuard() (*guard, *counter, *still) {
	clock := &still{time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}
	c := &counter{}
	g := newGuard(c, newPacer(), func(any) {})
	g.now = clock.Now
	g.View()
	return g, c, clock
}

func TestKeysAreDrawnAtOnceAndFloodsAreNot(t *testing.T) {
	g, c, clock := testGuard()
	clock.now = clock.now.Add(time.Second)
	for range 100 {
		cmd := g.update(tea.KeyPressMsg{Code: 'x'})
		g.View()
		_ = cmd
	}
	if c.drawn != 2 {
		t.Errorf("drawn %d times in one moment, want once more than at first", c.drawn)
	}
	clock.now = clock.now.Add(frameTime)
	g.update(frameMsg{})
	g.View()
	if c.drawn != 3 {
		t.Errorf("what was left out is not drawn: %d", c.drawn)
	}
}

func TestWatchersAreDrawnAtThePace(t *testing.T) {
	g, c, clock := testGuard()
	clock.now = clock.now.Add(time.Second)
	g.update(changedMsg{})
	g.View()
	before := c.drawn
	for range 10 {
		clock.now = clock.now.Add(fastest / 10)
		if !g.due.IsZero() && !clock.now.Before(g.due) {
			g.update(frameMsg{})
		}
		g.update(changedMsg{})
		g.View()
	}
	if n := c.drawn - before; n != 1 {
		t.Errorf("drawn %d times in %v", n, fastest)
	}
	clock.now = clock.now.Add(fastest)
	g.update(changedMsg{})
	g.View()
	clock.now = clock.now.Add(frameTime)
	g.update(changedMsg{}) // too early for a watcher
	before = c.drawn
	g.update(tea.KeyPressMsg{Code: 'x'})
	g.View()
	if c.drawn != before+1 {
		t.Error("a key waits for the pace")
	}
}

// laid is blank until it knows its size, and slow to lay itself out.
type laid struct {
	clock *still
	width int
}

func (l *laid) Init() tea.Cmd { return nil }
func (l *laid) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	if size, ok := msg.(tea.WindowSizeMsg); ok {
		l.width = size.Width
		l.clock.now = l.clock.now.Add(typingTime + time.Millisecond) // as on a busy machine
	}
	return l, nil
}
func (l *laid) View() tea.View { return tea.NewView(strings.Repeat("x", l.width)) }

// TestTheFirstSizeIsDrawnAtOnce: a program that has drawn nothing before it knows its size is drawn with it, however slow the pace.
func TestTheFirstSizeIsDrawnAtOnce(t *testing.T) {
	_, _, clock := testGuard()
	p := newPacer()
	p.cores, p.sessions = 1, 1000
	for range 200 {
		p.observe(10 * time.Second)
	}
	g := newGuard(&laid{clock: clock}, p, func(any) {})
	g.now = clock.Now
	if v := g.View(); v.Content != "" {
		t.Fatalf("without a size it is %q", v.Content)
	}
	g.update(changedMsg{}) // a frame is due at the pace
	g.update(tea.WindowSizeMsg{Width: 3, Height: 1})
	if v := g.View(); v.Content != "xxx" {
		t.Errorf("with its size it is %q", v.Content)
	}
}

// TestSizesAreTheNewest: a program that learns late of the size that it started with has the size of the last resize.
func TestSizesAreTheNewest(t *testing.T) {
	f := filter(func() size { return size{width: 100, height: 30} })
	if got := f(nil, tea.WindowSizeMsg{Width: 80, Height: 24}); got != (tea.WindowSizeMsg{Width: 100, Height: 30}) {
		t.Errorf("size %v", got)
	}
	if got := f(nil, tea.SuspendMsg{}); got != (tea.ResumeMsg{}) {
		t.Errorf("a suspension is %v", got)
	}
	if got := f(nil, changedMsg{}); got != (changedMsg{}) {
		t.Errorf("another message is %v", got)
	}
}

func TestPaceGrowsWithTheLoad(t *testing.T) {
	p := newPacer()
	p.cores = 2
	for range 200 {
		p.observe(time.Millisecond)
	}
	for _, test := range []struct {
		sessions int
		want     time.Duration
	}{{1, fastest}, {8, fastest}, {20, 250 * time.Millisecond}, {50, slowest}, {1000, slowest}} {
		p.sessions = test.sessions
		if got := p.pace(); got < test.want*95/100 || got > test.want*105/100 {
			t.Errorf("%d sessions: %v, want %v", test.sessions, got, test.want)
		}
	}
}

func TestNoticesCoverTheLastRow(t *testing.T) {
	for _, test := range []struct {
		content       string
		width, height int
		want          string
	}{
		{"one\ntwo\nthree", 6, 3, "one\ntwo\n\x1b[7m hint \x1b[m"},
		{"one", 6, 3, "one\n\n\x1b[7m hint \x1b[m"},
		{"one", 4, 1, "\x1b[7m hi…\x1b[m"},
		{"one", 0, 0, "one"},
	} {
		if got := overlay(test.content, "hint", test.width, test.height); got != test.want {
			t.Errorf("%q at %dx%d: %q, want %q", test.content, test.width, test.height, got, test.want)
		}
	}
	g, _, clock := testGuard()
	clock.now = clock.now.Add(time.Second)
	g.update(tea.WindowSizeMsg{Width: 20, Height: 3})
	g.update(noticeMsg("careful"))
	if v := g.View(); !strings.Contains(v.Content, "careful") || strings.Contains(v.Content, "three") {
		t.Errorf("%q", v.Content)
	}
}
