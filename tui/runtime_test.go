package tui

import (
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// Where no engine runs the model, the screens that need one say why, and so do their keys.
func TestModelWithoutARuntime(t *testing.T) {
	b := explorertest.New()
	b.NoRuntime = "no engine knows it"
	ex := explorertest.Open(t, b, "")
	explorertest.Do(t, ex, explorer.Cut{Target: 0.8})
	l := newLoopOver(t, ex, b, 100, 30, nil)
	for key, action := range map[string]string{"4": "n", "5": "s", "6": "c", "2": "c"} {
		l.press(key)
		if key == "4" || key == "5" {
			l.sees(b.NoRuntime)
		}
		l.press(action)
		if said := l.m.notes; len(said) == 0 || !strings.Contains(said[len(said)-1].text, b.NoRuntime) {
			t.Errorf("%s on screen %s does not give the reason; on the screen:\n%s", action, key, l.screen())
		}
	}
	l.press("4", "x")
	if l.m.typing() {
		t.Error("the prompt has the keys although no engine runs the model")
	}
	for _, a := range l.m.actions {
		if why := l.m.blocked(a); a.Engine && why != b.NoRuntime {
			t.Errorf("%s: %q", a.ID, why)
		}
	}
}
