package theme

import "strings"

// Glyphs are the characters that the interface draws with, all one cell wide.
type Glyphs struct {
	Unicode bool

	H, V, TopLeft, TopRight, BottomLeft, BottomRight string // box lines
	Tee, Corner, Tick                                string // axis: "┤", "└", "┬"

	Here, Dot, Ring, Diamond, Star, Square string // cursor of a list, marks of charts
	Kept, Dropped, Partial, Zeroed         string // units of a mask
	Check, Cross, Bang, Note               string // states
	Ellipsis, Times, PlusMinus             string
	Up, Down, Left, Right, Return          string
	Bars                                   []string // eight heights, lowest first
	Blocks                                 []string // eight widths of a horizontal bar, thinnest first
	Shades                                 []string // five densities, empty first
	Spinner                                []string
	Full                                   string // a filled cell
	Divider                                string // between facts on one row
}

func glyphs(ascii bool) Glyphs {
	if ascii {
		return Glyphs{
			H: "-", V: "|", TopLeft: "+", TopRight: "+", BottomLeft: "+", BottomRight: "+",
			Tee: "+", Corner: "+", Tick: "+",
			Here: ">", Dot: "*", Ring: "o", Diamond: "#", Star: "@", Square: "%",
			Kept: "#", Dropped: ".", Partial: "+", Zeroed: "0",
			Check: "v", Cross: "x", Bang: "!", Note: "i",
			Ellipsis: "~", Times: "x", PlusMinus: "+-",
			Up: "^", Down: "v", Left: "<", Right: ">", Return: "enter",
			Bars:    []string{"_", "_", ".", ".", ":", "+", "*", "#"},
			Blocks:  []string{" ", " ", " ", "-", "-", "=", "=", "#"},
			Shades:  []string{" ", ".", ":", "*", "#"},
			Spinner: []string{"|", "/", "-", "\\"},
			Full:    "#", Divider: "-",
		}
	}
	return Glyphs{
		Unicode: true,
		H:       "─", V: "│", TopLeft: "╭", TopRight: "╮", BottomLeft: "╰", BottomRight: "╯",
		Tee: "┤", Corner: "└", Tick: "┬",
		Here: "▸", Dot: "●", Ring: "○", Diamond: "◆", Star: "★", Square: "■",
		Kept: "▣", Dropped: "□", Partial: "▨", Zeroed: "◌",
		Check: "✓", Cross: "✗", Bang: "!", Note: "i",
		Ellipsis: "…", Times: "×", PlusMinus: "±",
		Up: "↑", Down: "↓", Left: "←", Right: "→", Return: "↵",
		Bars:    []string{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"},
		Blocks:  []string{"▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"},
		Shades:  []string{" ", "░", "▒", "▓", "█"},
		Spinner: []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"},
		Full:    "█", Divider: "·",
	}
}

// Bar is the bar glyph for a value between 0 and 1.
func (g *Glyphs) Bar(v float64) string {
	i := int(v * float64(len(g.Bars)))
	return g.Bars[min(max(i, 0), len(g.Bars)-1)]
}

// HBar is a horizontal bar of at most w cells for a value between 0 and 1, in eighths of a cell, without padding.
func (g *Glyphs) HBar(v float64, w int) string {
	if !(v > 0) || w <= 0 {
		return ""
	}
	eighths := int(min(v, 1)*float64(8*w) + 0.5)
	s := strings.Repeat(g.Full, eighths/8)
	if r := eighths % 8; r > 0 {
		s += g.Blocks[r-1]
	}
	return s
}
