package tui

import (
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// TestSearchFormTakesTypes starts a search over types and the vocabulary through the form: the chart has bytes against bits per byte with the model in plain
// types, and a size that cannot be read is refused.
func TestSearchFormTakesTypes(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Open(t, b, t.TempDir()), b, 120, 40, nil)
	l.press("space")
	l.sees("target")
	l.press("ctrl+u")
	l.write("60MB")
	l.pick("types")
	l.press("right")
	l.sees("types of matrices are searched together with widths")
	l.pick("vocabulary")
	l.write("many")
	l.press("enter")
	l.sees("neither a number of tokens")
	l.press("ctrl+u")
	l.write("auto")
	l.press("enter")
	l.until("the search", func() bool { return l.m.snap.Ended != nil })
	asked := l.m.snap.Ended.Search
	if strings.Join(asked.Types, ",") != "auto" || !asked.Vocab.Auto || asked.Target.Text() != "60MB" {
		t.Errorf("asked for types %v, vocabulary %v, target %v", asked.Types, asked.Vocab, asked.Target)
	}
	l.sees("size and bits per byte")
	l.sees("plain types")
}

// pick moves to an entry of the form.
func (l *loop) pick(label string) {
	for range 30 {
		if strings.Contains(l.screen(), "▸ "+label) {
			return
		}
		l.press("tab")
	}
	l.t.Fatalf("no entry %q:\n%s", label, l.screen())
}
