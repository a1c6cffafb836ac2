package tui

import (
	"image/color"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
)

func TestReadEnvironment(t *testing.T) {
	for _, test := range []struct {
		environ string
		want    Options
		failed  string
	}{
		{"", Options{Color: Color16, Light: true}, ""},
		{"LATHE_COLOR=auto", Options{Light: true}, ""},
		{"LATHE_COLOR=none LATHE_THEME=dark LATHE_ASCII=1", Options{Color: ColorNone, Theme: ThemeDark, Light: true, ASCII: true}, ""},
		{"LATHE_COLOR=true LATHE_THEME=light LATHE_ASCII=0", Options{Color: ColorTrue, Theme: ThemeLight, Light: true}, ""},
		{"LATHE_COLOR=mauve LATHE_THEME=light", Options{Color: Color16, Theme: ThemeLight, Light: true}, `LATHE_COLOR: "mauve" is not auto, none, 16, 256 or true`},
		{"LATHE_THEME=dusk LATHE_ASCII=some", Options{Color: Color16, Light: true},
			"LATHE_THEME: \"dusk\" is not auto, dark or light, nor a theme: lathe, ocean, forest, rose, contrast, mono\nLATHE_ASCII: \"some\" is not 1 or 0"},
	} {
		set := map[string]string{}
		for _, e := range strings.Fields(test.environ) {
			key, value, _ := strings.Cut(e, "=")
			set[key] = value
		}
		o := Options{Color: Color16, Light: true}
		err := o.ReadEnvironment(func(key string) string { return set[key] })
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != test.failed || o.Color != test.want.Color || o.Theme != test.want.Theme || o.ASCII != test.want.ASCII || o.Light != test.want.Light {
			t.Errorf("%s: %+v, %v", test.environ, o, err)
		}
	}
}

func TestThemeOverridesTheReportedBackground(t *testing.T) {
	for _, test := range []struct {
		theme      Theme
		background color.Color
		light      bool
	}{
		{ThemeAuto, color.White, true}, {ThemeAuto, color.Black, false}, {ThemeDark, color.White, false}, {ThemeLight, color.Black, true},
	} {
		l := newLoop(t, 80, 24, func(o *Options) { o.Theme = test.theme })
		l.send(tea.BackgroundColorMsg{Color: test.background})
		if got := l.m.theme.Look.Light; got != test.light {
			t.Errorf("theme %q on %v: light %v", test.theme, test.background, got)
		}
	}
}

func TestWarningsAreShown(t *testing.T) {
	l := newLoop(t, 80, 24, func(o *Options) { o.Warnings = []string{"LATHE_THEME is odd"} })
	if !strings.Contains(l.screen(), "LATHE_THEME is odd") {
		t.Error(l.screen())
	}
}
