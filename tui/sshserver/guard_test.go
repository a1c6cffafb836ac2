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
