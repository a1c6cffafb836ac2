// Package theme defines the look of the interface as semantic tokens: each is named for its meaning, not for its colour.
//
// A Theme is built from a Look (colour profile, dark or light background, which glyphs the font has) and never changes
// afterwards, so each session can have its own and rendered panes can be shared between sessions of an equal Look.
// Colours carry no meaning alone: every state also has its own glyph, so that NO_COLOR and sixteen colours still read.
package theme

import (
	"image/color"
	"strings"

	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"
)

// Look is the capability of a terminal and the preference of its user. It is comparable and part of cache keys.
type Look struct {
	Profile colorprofile.Profile
	Light   bool   // the terminal's background is light
	ASCII   bool   // draw with ASCII only: no braille, blocks or box lines
	Name    string // of the theme; "" is Default
}

// Style is an opening escape sequence; the zero Style draws plain text. Styles are values and comparable.
type Style struct{ on string }

const reset = "\x1b[m"

// Render draws text in the style and resets it afterwards.
func (s Style) Render(text string) string {
	if s.on == "" || text == "" {
		return text
	}
	return s.on + text + reset
}

// With adds the attributes of other; where both set a colour, other's wins.
func (s Style) With(other Style) Style { return Style{s.on + other.on} }

// Open and Close are the two halves of Render, for writers that stream several runs.
func (s Style) Open() string { return s.on }

// Close ends what Open began.
func (s Style) Close() string {
	if s.on == "" {
		return ""
	}
	return reset
}

// Theme is the set of tokens. Field names are meanings.
type Theme struct {
	Look  Look
	Glyph Glyphs

	Text, Dim, Faint, Strong Style // running text, secondary text, scaffolding, emphasis
	Title, Border, Focus     Style // pane titles, pane borders, border and title of the pane that has the keys
	Accent, Link             Style // the product's colour: the current tab, the cursor; things that can be opened
	Good, Warn, Bad, Info    Style // states of jobs, messages and comparisons
	Key, KeyText, KeyOff     Style // footer and help: a key, what it does, an action that cannot run now
	Selected, Cursor, Caret  Style // rows that are marked, the row under the cursor, a cell under the cursor
	Dense, Subnet, Yours     Style // the model as loaded, the selected subnet, what the user made by hand
	Front, Cloud, Pending    Style // the Pareto front, the other points, a candidate still being scored
	Kept, Dropped, Partial   Style // units of a mask
	Added, Removed           Style // units in a comparison
	Axis, Label              Style // charts
	Input, Placeholder       Style // text fields
	User, Code               Style // chat: the user's turns, code
	Series                   []Style
	Ages                     []Style // of the dots of a chart, from old to young
	Shades                   []Style // of words, from plain to marked, each with attributes of its own
	Heat                     []Style // a ramp from low to high
}

// spec is a token before it meets a profile: 24-bit colours for both backgrounds, the sixteen-colour stand-ins, and
// attributes. A colour of -1 (or an empty hex) is the terminal's own.
type spec struct {
	dark, light     string
	dark16, light16 int
	bgDark, bgLight string
	attr            attr
}

type attr uint8

const (
	bold attr = 1 << iota
	faint
	italic
	underline
	reverse
)

// New builds the theme for a look.
func New(look Look) *Theme {
	if look.Name == "" {
		look.Name = Default
	}
	t, n := &Theme{Look: look, Glyph: glyphs(look.ASCII)}, look.named()
	for token, s := range tokens(t) {
		*token = look.style(n.spec(s))
	}
	for _, s := range series() {
		t.Series = append(t.Series, look.style(n.spec(s)))
	}
	for _, s := range shades() {
		t.Shades = append(t.Shades, look.style(n.spec(s)))
	}
	for _, s := range ages() {
		t.Ages = append(t.Ages, look.style(n.spec(s)))
	}
	for _, s := range n.heat() {
		t.Heat = append(t.Heat, look.style(n.spec(s)))
	}
	return t
}

// HeatAt is the ramp's style for a value between 0 and 1.
func (t *Theme) HeatAt(v float64) Style {
	i := int(v * float64(len(t.Heat)))
	return t.Heat[min(max(i, 0), len(t.Heat)-1)]
}

// SeriesAt is the style of the i-th line of a chart; styles repeat when there are more lines than styles.
func (t *Theme) SeriesAt(i int) Style {
	return t.Series[((i%len(t.Series))+len(t.Series))%len(t.Series)]
}

func (l Look) style(s spec) Style {
	if l.Profile <= colorprofile.NoTTY {
		return Style{}
	}
	var a ansi.Style
	if s.attr&bold != 0 {
		a = a.Bold()
	}
	if s.attr&faint != 0 && l.Profile <= colorprofile.ASCII {
		a = a.Faint()
	}
	if s.attr&italic != 0 {
		a = a.Italic(true)
	}
	if s.attr&underline != 0 {
		a = a.Underline(true)
	}
	if s.attr&reverse != 0 && (s.bgDark == "" || l.Profile <= colorprofile.ANSI) { // in place of a background
		a = a.Reverse(true)
	}
	if l.Profile > colorprofile.ASCII {
		hex, bg, index := s.dark, s.bgDark, s.dark16
		if l.Light {
			hex, bg, index = s.light, s.bgLight, s.light16
		}
		if l.Profile == colorprofile.ANSI {
			if index >= 0 && hex != "" {
				a = a.ForegroundColor(ansi.BasicColor(index))
			}
		} else {
			if hex != "" {
				a = a.ForegroundColor(l.Profile.Convert(parseHex(hex)))
			}
			if bg != "" {
				a = a.BackgroundColor(l.Profile.Convert(parseHex(bg)))
			}
		}
	}
	if len(a) == 0 {
		return Style{}
	}
	return Style{a.String()}
}

// parseHex reads "rrggbb"; the palette below is the only caller.
func parseHex(s string) color.RGBA {
	digit := func(c byte) uint8 { return uint8(strings.IndexByte("0123456789abcdef", c)) }
	at := func(i int) uint8 { return digit(s[i])<<4 | digit(s[i+1]) }
	return color.RGBA{R: at(0), G: at(2), B: at(4), A: 0xff}
}
