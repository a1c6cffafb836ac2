package widget

import (
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
)

func TestField(t *testing.T) {
	f := NewField("one two", false)
	for _, k := range []tea.KeyPressMsg{
		{Code: 'w', Mod: tea.ModCtrl}, {Code: 'a', Mod: tea.ModCtrl}, {Code: 'x', Text: "x"}, {Code: tea.KeyRight}, {Code: tea.KeyBackspace}, {Code: tea.KeyEnd}, {Code: '!', Text: "!"},
	} {
		f.Key(k)
	}
	if got := f.String(); got != "xne !" {
		t.Errorf("field = %q", got)
	}
	f = NewField("", true)
	f.Insert("ab\ncd\x1b[2Jef")
	if strings.Contains(f.String(), "\x1b") {
		t.Error("a field took an escape sequence")
	}
	for w := 2; w < 12; w++ {
		for at := range len(f.value) + 1 {
			f.at = at
			rows, x, y := f.Rows(w)
			if y >= len(rows) || x >= w {
				t.Fatalf("width %d: the cursor of %d is at %d, %d of %q", w, at, x, y, rows)
			}
		}
	}
	f.Set("first line\nsecond")
	f.at = 2
	if !f.Vertical(40, 1) || f.at != 13 || f.Vertical(40, 1) {
		t.Errorf("down leads to %d", f.at)
	}
}
