package text

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

func TestLine(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain", "plain"},
		{"a\tb\nc", "a b c"},
		{"\x1b[31mred\x1b[0m", "␛[31mred␛[0m"},
		{"\x1b]52;c;aGk=\x07", "␛]52;c;aGk=␇"},
		{"bell\x07 del\x7f", "bell␇ del␡"},
		{"c1 \u009b31m", "c1 \uFFFD31m"},
		{"abc\u202edef\u2066", "abcdef"},
		{"zero\u200bwidth\ufeff", "zerowidth"},
		{"bad \xff\xfe utf", "bad \uFFFD\uFFFD utf"},
		{"größe 模型", "größe 模型"},
	} {
		if got := Line(c.in); got != c.want {
			t.Errorf("Line(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestBlock(t *testing.T) {
	if got, want := Block("a\r\nb\tc\x1b"), "a\nb    c␛"; got != want {
		t.Errorf("Block = %q, want %q", got, want)
	}
}

func TestFitIsExact(t *testing.T) {
	for _, s := range []string{"", "a", "hello world", "模型模型模型", "e\u0301e\u0301", "⠿⠿⠿", "👍🏽 ok", "\x1b[1mbold\x1b[m text"} {
		for w := range 14 {
			for name, fit := range map[string]func(string, int) string{"Fit": Fit, "FitLeft": FitLeft} {
				if got := fit(s, w); Width(got) != w {
					t.Errorf("%s(%q, %d) is %d wide: %q", name, s, w, Width(got), got)
				}
			}
			if got := Clip(s, w); Width(got) > w {
				t.Errorf("Clip(%q, %d) is %d wide", s, w, Width(got))
			}
			if got := ClipMiddle(s, w); Width(got) > w {
				t.Errorf("ClipMiddle(%q, %d) is %d wide", s, w, Width(got))
			}
		}
	}
}

func TestWrap(t *testing.T) {
	rows := Wrap("one two three\n\nfour-and-a-very-long-word x", 9)
	for _, r := range rows {
		if Width(r) > 9 {
			t.Errorf("row %q is wider than 9", r)
		}
	}
	if got := strings.Join(rows, "|"); !strings.HasPrefix(got, "one two|three||") {
		t.Errorf("Wrap = %q", got)
	}
	if got := Wrap("", 0); len(got) != 1 {
		t.Errorf("Wrap of nothing = %q", got)
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Perplexity(8.534), "8.53"}, {Perplexity(27.04), "27.0"}, {Perplexity(1240.4), "1240"}, {Perplexity(0), None}, {Perplexity(3.2e7), "32.0M"}, {Perplexity(6.5e6), "6.5M"}, {Perplexity(2e18), ">999T"},
		{Percent(0.816), "82 %"}, {Signed(0.4, 2), "+0.40"}, {Signed(-1.2, 1), "-1.2"}, {Signed(0, 2), "0.00"},
		{Short(240 * time.Millisecond), "240 ms"}, {Short(1400 * time.Millisecond), "1.4 s"}, {Short(41 * time.Second), "41 s"},
		{Short(200 * time.Second), "3:20"}, {Short(0), None},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("a\x1b[2J\u202eb\xff")
	f.Fuzz(func(t *testing.T, s string) {
		for _, got := range []string{Line(s), Block(s)} {
			if !utf8.ValidString(got) {
				t.Fatalf("%q is no text", got)
			}
			if stripped := ansi.Strip(got); stripped != got {
				t.Fatalf("an escape sequence survived in %q", got)
			}
			for _, r := range got {
				if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0) {
					t.Fatalf("control character %U survived in %q", r, got)
				}
			}
		}
		if strings.Contains(Line(s), "\n") {
			t.Fatal("Line kept a line break")
		}
	})
}

func TestBlockKeepsLines(t *testing.T) {
	const want = "one\ntwo\nthree\n"
	for _, s := range []string{"one\ntwo\nthree\n", "one\r\ntwo\r\nthree\r\n", "one\rtwo\rthree\r", "one\rtwo\r\nthree\n"} {
		if got := Block(s); got != want {
			t.Errorf("%q is drawn as %q", s, got)
		}
	}
}
