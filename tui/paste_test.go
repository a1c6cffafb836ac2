package tui

import (
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// TestPasteReachesTheModelAsTyped pastes what the screen cannot show into the prompt and reads it back from the chat.
func TestPasteReachesTheModelAsTyped(t *testing.T) {
	l := newLoop(t, 100, 30, nil)
	l.press("4", "enter")
	const pasted = "\tif x:\r\n\t\U0001F468\u200d\U0001F469\u200d\U0001F467 \u2764\ufe0f \u0645\u06cc\u200c\u062e a\u200bb\u2028c\r"
	l.send(tea.PasteMsg{Content: pasted})
	l.press("enter")
	l.until("the prompt", func() bool { return len(l.m.snap.Chats[0].Prompts) == 3 })
	want := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(pasted)
	if got := l.m.snap.Chats[0].Prompts[2].Text; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}

func TestPasteThatIsTooLong(t *testing.T) {
	l := newLoop(t, 120, 30, nil)
	l.press("4", "enter")
	l.send(tea.PasteMsg{Content: strings.Repeat("x", widget.MaxField+10)})
	l.sees("its last 10 characters were left out")
}
