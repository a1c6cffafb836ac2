package theme

import (
	"image/color"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"
)

var profiles = map[string]colorprofile.Profile{
	"none": colorprofile.NoTTY, "no colour": colorprofile.ASCII, "16": colorprofile.ANSI, "256": colorprofile.ANSI256, "true": colorprofile.TrueColor,
}

func TestProfilesKeepToTheirColours(t *testing.T) {
	for name, p := range profiles {
		th := New(Look{Profile: p})
		for _, s := range slices.Concat(allStyles(th), th.Series, th.Heat, th.Ages, th.Shades) {
			on := s.Open()
			switch p {
			case colorprofile.NoTTY:
				if on != "" {
					t.Errorf("%s: %q", name, on)
				}
			case colorprofile.ASCII:
				for _, code := range strings.FieldsFunc(strings.Trim(on, "\x1b[m"), func(r rune) bool { return r == ';' || r == 'm' || r == '[' || r == 0x1b }) {
					if len(code) != 1 {
						t.Errorf("%s: %q sets more than attributes", name, on)
					}
				}
			case colorprofile.ANSI:
				if strings.Contains(on, "8;5;") || strings.Contains(on, "8;2;") {
					t.Errorf("%s: %q has an extended colour", name, on)
				}
			case colorprofile.ANSI256:
				if strings.Contains(on, "8;2;") {
					t.Errorf("%s: %q has a 24-bit colour", name, on)
				}
			default: // nothing for the others
			}
		}
	}
}

func allStyles(t *Theme) []Style {
	var out []Style
	v := reflect.ValueOf(t).Elem()
	for i := range v.NumField() {
		if s, ok := v.Field(i).Interface().(Style); ok {
			out = append(out, s)
		}
	}
	return out
}

func TestEveryTokenIsDefined(t *testing.T) {
	th := &Theme{}
	if got, want := len(tokens(th)), len(allStyles(th)); got != want {
		t.Errorf("%d tokens are defined, the theme has %d", got, want)
	}
}

// TestContrast holds every theme to the contrasts that WCAG asks for: 4.5 for text on the darkest and lightest backgrounds that terminals
// commonly have, and 3 for what is drawn and for text on rows that are marked or under the cursor. Frames are decoration: what has the
// keys is framed in a colour of text. Colours that stand for numbers rise in contrast, from dots that may vanish to 4.5.
func TestContrast(t *testing.T) {
	th := &Theme{}
	least := map[*Style]float64{&th.Border: 1.9, &th.Dropped: 3, &th.Axis: 3, &th.Cloud: 3}
	drawn := map[*Style]bool{&th.Border: true, &th.Dropped: true, &th.Axis: true, &th.Cloud: true}
	for _, n := range all() {
		rows := []*Style{&th.Selected, &th.Cursor}
		specs := tokens(th)
		for token, s := range specs {
			s, want := n.spec(s), 4.5
			if v, ok := least[token]; ok {
				want = v
			}
			n.contrasts(t, s, [2]string{"1b1e24", "fbfbf8"}, want)
			if !drawn[token] {
				for _, row := range rows {
					n.contrasts(t, s, [2]string{specs[row].bgDark, specs[row].bgLight}, 3)
				}
			}
		}
		for _, s := range append(series(), shades()...) {
			n.contrasts(t, n.spec(s), [2]string{"1b1e24", "fbfbf8"}, 4.5)
		}
		for name, colours := range map[string][]spec{"ages": ages(), "heat": n.heat()} {
			n.rise(t, name, colours)
		}
	}
}

// contrasts checks a colour of a theme on a dark and on a light background.
func (n named) contrasts(t *testing.T, s spec, on [2]string, want float64) {
	t.Helper()
	for i, hex := range []string{s.dark, s.light} {
		if hex == "" {
			continue
		}
		if got := contrast(parseHex(hex), parseHex(on[i])); got < want {
			t.Errorf("%s: %s on %s: contrast %.2f, want %.1f", n.name, hex, on[i], got, want)
		}
	}
}

// rise checks that colours stand out more and more: the last as text does, the first still visible.
func (n named) rise(t *testing.T, name string, colours []spec) {
	t.Helper()
	for i, on := range []string{"1b1e24", "fbfbf8"} {
		before := 1.4
		for k, s := range colours {
			s = n.spec(s)
			got := contrast(parseHex([]string{s.dark, s.light}[i]), parseHex(on))
			if k < len(colours)-2 && got <= before { // hot ends in red, which is darker than yellow
				t.Errorf("%s: %s %d on %s: contrast %.2f after %.2f", n.name, name, k, on, got, before)
			}
			if before = got; k == len(colours)-1 && got < 4.5 {
				t.Errorf("%s: the last of %s on %s: contrast %.2f", n.name, name, on, got)
			}
		}
	}
}

// TestThemesReplaceColoursThatThereAre checks that every colour that a theme replaces is one of the default theme.
func TestThemesReplaceColoursThatThereAre(t *testing.T) {
	dark, light := map[string]bool{}, map[string]bool{}
	for _, s := range tokens(&Theme{}) {
		dark[s.dark], light[s.light] = true, true
	}
	for _, n := range all() {
		for hex := range n.dark {
			if !dark[hex] {
				t.Errorf("%s replaces %s, which is no colour on dark backgrounds", n.name, hex)
			}
		}
		for hex := range n.light {
			if !light[hex] {
				t.Errorf("%s replaces %s, which is no colour on light backgrounds", n.name, hex)
			}
		}
		if got := len(New(Look{Profile: colorprofile.TrueColor, Name: n.name}).Heat); got != len(ramp()) {
			t.Errorf("the ramp of %s has %d colours", n.name, got)
		}
	}
	if New(Look{Profile: colorprofile.TrueColor, Name: "ocean"}).Accent == New(Look{Profile: colorprofile.TrueColor}).Accent {
		t.Error("two themes have the same accent")
	}
}

func contrast(a, b color.RGBA) float64 {
	la, lb := luminance(a), luminance(b)
	return (math.Max(la, lb) + 0.05) / (math.Min(la, lb) + 0.05)
}

func luminance(c color.RGBA) float64 {
	f := func(v uint8) float64 {
		x := float64(v) / 255
		if x <= 0.03928 {
			return x / 12.92
		}
		return math.Pow((x+0.055)/1.055, 2.4)
	}
	return 0.2126*f(c.R) + 0.7152*f(c.G) + 0.0722*f(c.B)
}

func TestGlyphsAreOneCell(t *testing.T) {
	for _, ascii := range []bool{false, true} {
		g := glyphs(ascii)
		v := reflect.ValueOf(g)
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			var all []string
			switch f := v.Field(i).Interface().(type) {
			case string:
				all = []string{f}
			case []string:
				all = f
			}
			for _, s := range all {
				if w := ansi.StringWidth(s); w != 1 && name != "Return" && name != "PlusMinus" {
					t.Errorf("%s %q is %d cells", name, s, w)
				}
				if ascii && s != strings.ToValidUTF8(s, "") || ascii && len(s) != len([]rune(s)) {
					t.Errorf("%s %q is not ASCII", name, s)
				}
			}
		}
	}
}

func TestHBar(t *testing.T) {
	g := glyphs(false)
	for _, c := range []struct {
		v    float64
		w    int
		want string
	}{{0, 4, ""}, {1, 4, "████"}, {0.5, 4, "██"}, {0.53, 4, "██▏"}, {7, 2, "██"}, {math.NaN(), 3, ""}} {
		if got := g.HBar(c.v, c.w); got != c.want {
			t.Errorf("HBar(%v, %d) = %q, want %q", c.v, c.w, got, c.want)
		}
	}
}
