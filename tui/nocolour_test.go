package tui

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// coloursIn returns the colours that a text with escape sequences sets, as parameters of SGR sequences, and whether it sets attributes.
func coloursIn(s string) (colours []string, attributes bool) {
	for _, m := range regexp.MustCompile("\x1b\\[([0-9;:]*)m").FindAllStringSubmatch(s, -1) {
		for _, p := range strings.FieldsFunc(m[1], func(r rune) bool { return r == ';' || r == ':' }) {
			switch n, _ := strconv.Atoi(p); {
			case n >= 30 && n <= 49 && n != 39 && n != 49, n >= 90 && n <= 107, n == 58:
				colours = append(colours, m[0])
			case n > 0:
				attributes = true
			}
		}
	}
	return colours, attributes
}

// looks are the looks that every screen is drawn in: all themes on dark and light backgrounds, in every depth of colours.
func looks() map[string]func(*Options) {
	out := map[string]func(*Options){}
	for _, name := range theme.Names() {
		for _, background := range []Theme{ThemeDark, ThemeLight} {
			for _, color := range []Color{ColorTrue, Color256, Color16, ColorNone} {
				out[name+" "+string(background)+" "+string(color)] = func(o *Options) { o.Colours, o.Theme, o.Color = name, background, color }
			}
		}
	}
	return out
}

// TestEveryScreenInEveryLook draws every screen, help, the palette, a form and a question in every look at two sizes. The text is the same
// in all of them; without colours no sequence sets one, and what has the keys is marked by attributes and glyphs.
func TestEveryScreenInEveryLook(t *testing.T) {
	ways := [][]string{{"?"}, {":"}, {"s"}, {"q"}}
	l := newLoop(t, 80, 24, nil)
	l.press("esc")
	ex, b := l.ex, l.b
	texts := map[string]string{}
	for look, change := range looks() {
		l := newLoopOver(t, ex, b, 80, 24, func(o *Options) { change(o) })
		l.press("esc")
		frame := func(what string) {
			content := l.m.View().Content
			colours, attributes := coloursIn(content)
			bare := strings.HasSuffix(look, string(ColorNone))
			if bare && len(colours) > 0 {
				t.Errorf("%s, %s: colours without colours: %q", look, what, colours[0])
			}
			if !bare && look[:4] != "mono" && len(colours) == 0 {
				t.Errorf("%s, %s: no colours", look, what)
			}
			if !attributes {
				t.Errorf("%s, %s: no attributes", look, what)
			}
			text := l.screen()
			if before, ok := texts[what]; ok && before != text {
				t.Errorf("%s, %s: another text than in other looks:\n%s\n%s", look, what, text, before)
			}
			texts[what] = text
		}
		for _, size := range [][2]int{{80, 24}, {120, 40}} {
			l.send(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
			for i, sc := range l.m.screens {
				l.press("f" + strconv.Itoa(i+1))
				frame(sc.Name() + strconv.Itoa(size[0]))
			}
		}
		l.press("f1")
		for _, keys := range ways {
			l.press(keys...)
			frame("after " + strings.Join(keys, " "))
			l.press("esc")
		}
	}
}

// TestFocusWithoutColours looks at every screen without colours for what marks the pane that has the keys and the row under the cursor:
// the frame of one pane is bold, the row has a sign of its own, and both move by keys.
func TestFocusWithoutColours(t *testing.T) {
	l := newLoop(t, 120, 40, func(o *Options) { o.Color = ColorNone })
	l.press("esc")
	bold := regexp.MustCompile("\x1b\\[1m╭")
	for _, c := range []struct {
		screen int
		move   string // a key that moves the cursor of a list
		turn   string // a key that moves the focus to another pane
	}{{1, "down", "tab"}, {2, "down", ""}, {3, "down", ""}, {4, "", "tab"}, {5, "down", ""}, {6, "down", ""}} {
		l.press("f"+strconv.Itoa(c.screen), "home")
		name := l.m.active().Name()
		content := l.m.View().Content
		if n := len(bold.FindAllString(content, -1)); n != 1 {
			t.Errorf("%s: %d panes are framed in bold", name, n)
		}
		if c.turn != "" {
			before := bold.FindStringIndex(content)
			rows := strings.Count(content[:before[0]], "\n")
			column := ansi.StringWidth(content[strings.LastIndex(content[:before[0]], "\n")+1 : before[0]])
			l.press(c.turn)
			after := l.m.View().Content
			at := bold.FindStringIndex(after)
			if at == nil || strings.Count(after[:at[0]], "\n") == rows && ansi.StringWidth(after[strings.LastIndex(after[:at[0]], "\n")+1:at[0]]) == column {
				t.Errorf("%s: %s does not move the bold frame", name, c.turn)
			}
			for range 8 {
				if l.press(c.turn); l.m.View().Content == content {
					break
				}
			}
		}
		if c.move != "" {
			marked := func() (rows []int) {
				for y, row := range strings.Split(l.screen(), "\n") {
					if strings.Contains(row, "│▸") || strings.Contains(row, "│ ▸") {
						rows = append(rows, y)
					}
				}
				return rows
			}
			first := marked()
			l.press(c.move)
			if second := marked(); len(first) == 0 || len(second) == 0 || first[len(first)-1] == second[len(second)-1] && len(first) == len(second) && first[0] == second[0] {
				t.Errorf("%s: the cursor's sign is in the rows %v, after %s in %v:\n%s", name, first, c.move, second, l.screen())
			}
		}
	}
}
