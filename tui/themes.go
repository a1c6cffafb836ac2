package tui

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// A Style is what a person has chosen of the look of the interface; the zero value chooses nothing.
type Style struct {
	Theme      string // one of ThemeNames
	Background Theme
	ASCII      bool
}

// ThemeNames returns the names of the themes, the default one first.
func ThemeNames() []string { return theme.Names() }

// AboutTheme describes a theme in a few words.
func AboutTheme(name string) string { return theme.About(name) }

// keptMsg is sent when a style was kept.
type keptMsg struct{ err error }

// pickTheme offers the themes, the backgrounds and ASCII.
func (m *Model) pickTheme() tea.Cmd {
	return widget.Pick(host{m}, "theme", func() []widget.Choice {
		out := m.themeChoices("")
		for _, b := range []struct {
			name string
			of   Theme
		}{{"as the terminal reports it", ThemeAuto}, {"dark", ThemeDark}, {"light", ThemeLight}} {
			out = append(out, widget.Choice{Title: "Background: " + b.name, Detail: m.mark(m.opts.Theme == b.of), Run: func() tea.Cmd {
				m.opts.Theme = b.of
				return m.restyle(func(l *theme.Look) { l.Light = b.of == ThemeLight || b.of == ThemeAuto && m.reported })
			}})
		}
		for _, ascii := range []bool{false, true} {
			title := "Characters: all"
			if ascii {
				title = "Characters: ASCII only"
			}
			out = append(out, widget.Choice{Title: title, Detail: m.mark(m.theme.Look.ASCII == ascii), Run: func() tea.Cmd {
				return m.restyle(func(l *theme.Look) { l.ASCII = ascii })
			}})
		}
		return out
	})
}

// themeChoices are a choice for each theme.
func (m *Model) themeChoices(prefix string) []widget.Choice {
	var out []widget.Choice
	for _, name := range theme.Names() {
		detail := theme.About(name)
		if now := m.mark(name == m.theme.Look.Name); now != "" {
			detail += ", " + now
		}
		out = append(out, widget.Choice{Title: prefix + name, Detail: detail, Run: func() tea.Cmd { return m.restyle(func(l *theme.Look) { l.Name = name }) }})
	}
	return out
}

func (m *Model) mark(now bool) string {
	if now {
		return "now"
	}
	return ""
}

// restyle changes the look and keeps it.
func (m *Model) restyle(change func(*theme.Look)) tea.Cmd {
	m.look(change)
	keep := m.opts.KeepStyle
	if keep == nil {
		return nil
	}
	s := Style{Theme: m.theme.Look.Name, Background: m.opts.Theme, ASCII: m.theme.Look.ASCII}
	return func() tea.Msg { return keptMsg{keep(s)} }
}

func (m *Model) kept(msg keptMsg) {
	if msg.err != nil {
		m.note(explorer.Warning, "the theme was not kept: "+msg.err.Error())
	}
}

// themeWords are what ParseTheme reads besides the names of themes.
const themeWords = "auto, dark or light"

// ParseStyle reads a theme: a name, auto, dark or light for the background, or both, separated by a comma.
func ParseStyle(text string) (s Style, err error) {
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		background, failed := ParseTheme(word)
		switch {
		case failed == nil:
			s.Background = background
		case theme.Has(word):
			s.Theme = word
		default:
			return Style{}, fmt.Errorf("%q is not %s, nor a theme: %s", word, themeWords, strings.Join(theme.Names(), ", "))
		}
	}
	return s, nil
}
