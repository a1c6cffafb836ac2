package tui

import (
	"slices"
	"testing"

	"github.com/charmbracelet/x/exp/golden"

	"github.com/lathe-llm/lathe/explorer"
)

// TestProbe asks the built-in prompts of the dense model and a subnet by keys, and reads both columns on a small terminal.
func TestProbe(t *testing.T) {
	l := newLoop(t, 80, 24, nil)
	l.press("esc", "4", "p")
	l.sees("first cut")
	l.write("first")
	l.press("enter")
	l.until("the probe to end", func() bool { // on the screen, with the comparison of the last reply
		c := l.m.snap.Chats[0]
		return c.Name == "probe" && !c.Busy && c.Comparing == 0 && len(c.Prompts) == len(explorer.ProbePrompts())
	})
	c := l.m.snap.Chats[0]
	if len(c.Columns) != 2 || c.Columns[0].Subnet != explorer.DenseID || slices.ContainsFunc(c.Columns[1].Replies, func(r explorer.Reply) bool { return r.Text == "" }) {
		t.Errorf("columns %+v", c.Columns)
	}
	l.press("home")
	l.sees("good:")
	golden.RequireEqual(t, l.screen()+"\n")
}
