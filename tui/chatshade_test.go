package tui

import (
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer"
)

// TestChatShowsTheLoss checks that the words of a subnet's reply are shaded by their divergence from dense, also without colours, that the
// first word at which the models part is marked, and that one key shows what dense would have written.
func TestChatShowsTheLoss(t *testing.T) {
	for _, color := range []Color{ColorTrue, ColorNone} {
		l := newLoop(t, 120, 40, func(o *Options) { o.Color = color })
		l.press("esc", "4")
		c := l.m.snap.Chats[0]
		r := c.Columns[1].Replies[0]
		if len(r.Pieces) == 0 || r.Parting() < 0 {
			t.Fatalf("the reply has %d pieces, the models part at %d", len(r.Pieces), r.Parting())
		}
		view := l.m.View().Content
		marked := strings.Count(view, l.m.theme.Shades[3].Open())
		if marked == 0 {
			t.Errorf("%s: no word is marked:\n%s", color, l.screen())
		}
		if !strings.Contains(l.screen(), "▸") {
			t.Errorf("%s: the first word that differs is not marked", color)
		}
		l.press("h")
		if n := strings.Count(l.m.View().Content, l.m.theme.Shades[3].Open()); n >= marked {
			t.Errorf("%s: as Markdown %d words are marked, %d before", color, n, marked)
		}
		l.press("h")
		for _, do := range []explorer.Command{
			explorer.ConfigureChat{Chat: c.ID, Sampling: &infer.Sampling{Temperature: 1, TopK: 3, Seed: 5, MaxTokens: 60}}, explorer.Say{Chat: c.ID, Text: "Third?"},
		} {
			if _, err := l.ex.Do(t.Context(), explorertest.Owner, do); err != nil {
				t.Fatal(err)
			}
		}
		explorertest.Quiet(t, l.ex)
		l.until("the comparison", func() bool {
			now := l.m.snap.Chats[0].Columns[1].Replies
			return len(now) == 3 && len(now[2].Pieces) > 0
		})
		l.press("tab", "d")
		other := 0
		for _, p := range l.m.snap.Chats[0].Columns[1].Replies[2].Pieces {
			if p.Dense != "" {
				other++
			}
		}
		if rows := strings.Count(l.screen(), "."); other == 0 || rows < 3 {
			t.Errorf("%s: %d tokens are others than dense's, and the list has none:\n%s", color, other, l.screen())
		}
		if got := l.screen(); !strings.Contains(got, "what dense would have written") || !strings.Contains(got, "where first cut and dense differ") {
			t.Errorf("%s: no list of differences:\n%s", color, got)
		}
		l.press("esc", "b")
		l.until("the blind chat", func() bool { return l.m.snap.Chats[0].Blind })
		if strings.Contains(l.m.View().Content, l.m.theme.Shades[3].Open()) {
			t.Errorf("%s: a blind chat shows which column diverges", color)
		}
		l.press("d")
		if !strings.Contains(l.screen(), "b reveals the columns first") {
			t.Errorf("%s: a blind chat lists differences:\n%s", color, l.screen())
		}
	}
}

// TestVotesHaveAnInterval votes by keys.
func TestVotesHaveAnInterval(t *testing.T) {
	l := newLoop(t, 120, 40, nil)
	l.press("esc", "4", ">")
	l.sees("votes: dense 0, first cut 1; left 0 to 79 %")
	l.press(">", "<")
	l.sees("votes: dense 1, first cut 0; left 21 to 100 %")
}

// TestAddedColumnsAreOthers offers no subnet that the chat has.
func TestAddedColumnsAreOthers(t *testing.T) {
	l := newLoop(t, 120, 40, nil)
	l.press("esc", "4", "+")
	l.sees("add a column")
	rows := l.screen()
	if strings.Contains(rows, "the model as loaded") || strings.Contains(rows, "│  first cut") {
		t.Errorf("a column that is there is offered:\n%s", rows)
	}
	if !strings.Contains(rows, "evening search") {
		t.Errorf("the other subnets are not offered:\n%s", rows)
	}
}
