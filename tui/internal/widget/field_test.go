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

// TestFieldKeepsWhatIsTyped checks that a text comes out as it went in, and that what would disturb the screen is not drawn.
func TestFieldKeepsWhatIsTyped(t *testing.T) {
	const typed = "\tif x:\n\t\U0001F468\u200d\U0001F469 \u2764\ufe0f \u0645\u06cc\u200c\u062e \u0915\u094d\u200d\u0937 a\u200bb\u2028c\u2029d\u202ee"
	for _, multiline := range []bool{true, false} {
		want := typed
		if !multiline {
			want = strings.ReplaceAll(typed, "\n", " ")
		}
		f := NewField("", multiline)
		if lost := f.Insert(strings.ReplaceAll(typed, "\n", "\r\n")); lost != 0 || f.String() != want {
			t.Errorf("%q became %q, %d lost", want, f.String(), lost)
		}
		line, x := f.Line(200)
		rows, cx, _ := f.Rows(200)
		for _, r := range append(rows, line) {
			if strings.ContainsAny(r, "\t\n\u200b\u2028\u2029\u202e\x1b") {
				t.Errorf("%q is drawn", r)
			}
		}
		if w := len(rows); w == 0 || x > 200 || cx > 200 {
			t.Errorf("the cursor is at %d and %d", x, cx)
		}
		f = NewField(f.String(), multiline)
		if f.String() != want {
			t.Errorf("%q became %q in another field", want, f.String())
		}
	}
}

func TestFieldReportsWhatItHasNoRoomFor(t *testing.T) {
	f := NewField("abc", true)
	if lost := f.Insert(strings.Repeat("é", MaxField)); lost != 3 || len(f.value) != MaxField {
		t.Errorf("%d characters lost, the field has %d", lost, len(f.value))
	}
	if lost := f.Insert("x"); lost != 1 {
		t.Errorf("%d characters lost of one", lost)
	}
}
