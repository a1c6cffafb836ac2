package tui

import (
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
)

// V on Masks trims the vocabulary of the draft, which then has a row for it, as one step that undo takes back.
func TestTrimVocabByKeys(t *testing.T) {
	l := newLoop(t, 100, 30, nil)
	l.press("2")
	if strings.Contains(l.screen(), "vocabulary 4") {
		t.Errorf("a row for the whole vocabulary:\n%s", l.screen())
	}
	l.press("V", "ctrl+u")
	l.write("60000")
	l.press("enter")
	if !strings.Contains(l.screen(), "the vocabulary has 49152 tokens") {
		t.Errorf("a number too large is not refused:\n%s", l.screen())
	}
	l.press("ctrl+u")
	l.write("24000")
	l.press("enter")
	l.until("the draft to follow", func() bool { return l.ex.Snapshot().Draft.Masks.VocabLen() == 24000 })
	l.settle()
	l.sees("vocabulary 24000 of 49152 · 8.85 MB · +5.0 % tokens")
	n := l.ex.Snapshot().Subnets[0]
	if n.Origin != explorer.Trimmed || n.Masks.VocabLen() != 24000 {
		t.Errorf("the library has %+v", n)
	}
	l.press("6", "home")
	l.sees("vocabulary 24000 of 49152")
	l.press("2", "V") // what is known about other sizes
	l.sees("+5.0 % tokens")
	l.press("esc", "z")
	l.settle()
	if l.ex.Snapshot().Draft.Masks.TrimsVocab() {
		t.Error("undo did not restore the vocabulary")
	}
}
