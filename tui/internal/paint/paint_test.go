package paint

import (
	"strings"
	"testing"

	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"

	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

func TestRow(t *testing.T) {
	th := theme.New(theme.Look{Profile: colorprofile.TrueColor})
	row := NewRow(20, th.Selected).Put(th.Good, "abc").Pad(6).Num(th.Text, "42", 4).Right(th.Dim, "end")
	if got, want := ansi.Strip(row.String()), "abc     42       end"; got != want {
		t.Errorf("row = %q, want %q", got, want)
	}
	if row := NewRow(5, theme.Style{}).Put(th.Text, "abcdefgh").Right(th.Text, "x").String(); ansi.Strip(row) != "abcd…" {
		t.Errorf("cut row = %q", row)
	}
}

func TestBoxIsExact(t *testing.T) {
	for _, ascii := range []bool{false, true} {
		th := theme.New(theme.Look{Profile: colorprofile.ANSI256, ASCII: ascii})
		for w := range 40 {
			for h := range 6 {
				rows := Box(th, Frame{Title: "a title 模型", Note: "12:04 left", Foot: "1/3"}, w, h, []string{text.Spaces(max(0, w-2))})
				if w > 0 && len(rows) != h {
					t.Fatalf("%d×%d box has %d rows", w, h, len(rows))
				}
				for _, r := range rows {
					if got := text.Width(r); got != w {
						t.Fatalf("%d×%d box has a row of %d cells: %q", w, h, got, ansi.Strip(r))
					}
				}
			}
		}
	}
}

func TestOverlay(t *testing.T) {
	th := theme.New(theme.Look{Profile: colorprofile.ANSI256})
	for x := -3; x < 12; x++ {
		screen := []string{"0123456789", th.Bad.Render("01234") + "56789", "模型模型模"}
		out := Overlay(screen, 10, max(x, 0), 0, []string{"abc", "abc", "abc"})
		for i, r := range out {
			if got := text.Width(r); got != 10 {
				t.Errorf("overlay at %d: row %d is %d cells: %q", x, i, got, ansi.Strip(r))
			}
		}
	}
	out := Overlay([]string{"0123456789"}, 10, 2, 0, []string{"ab"})
	if got := ansi.Strip(out[0]); got != "01ab456789" {
		t.Errorf("overlay = %q", got)
	}
	if out := Overlay([]string{"0123"}, 4, 1, 5, []string{"ab"}); out[0] != "0123" {
		t.Errorf("overlay outside = %q", strings.Join(out, "|"))
	}
}
