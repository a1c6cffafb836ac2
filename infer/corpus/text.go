package corpus

import (
	"context"
	"fmt"
	"math/rand/v2"
	"unicode/utf8"
)

// A Tokenizer returns the tokens of a text, without a start token.
type Tokenizer func(ctx context.Context, text string) ([]int32, error)

// A Text is what windows are drawn from. It remembers the tokens of what was tokenised, and must not be used by two goroutines
// at once.
type Text struct {
	tokenize Tokenizer
	units    []unit
	rest     int // the first unit of the end that is left for measurements
	tokens   int // of the units tokenised
	runes    int // of the same
}

// unit is what is tokenised at once.
type unit struct {
	text   string
	start  bool // a document begins here
	at     int  // bytes in front of it
	tokens []int32
	known  bool // tokens is set
}

// restShare and maxRest bound the end of a text that is left for measurements: a share of its bytes, and bytes.
const (
	restShare = 8
	maxRest   = 1 << 16
)

// NewText divides a text into documents.
func NewText(text string, t Tokenizer) *Text { return NewDocuments(documents(text), t) }

// MinDocuments is how many documents are worth being marked: with fewer, windows could hardly begin at them.
const MinDocuments = minDocuments

// NewDocuments returns the text that consists of documents.
func NewDocuments(documents []string, t Tokenizer) *Text {
	c := &Text{tokenize: t}
	at := 0
	short := "" // documents that are too short for a unit
	flush := func(s string) {
		for i, piece := range pieces(s, maxUnit) {
			c.units = append(c.units, unit{text: piece, start: i == 0, at: at})
			at += len(piece)
		}
	}
	for _, d := range documents {
		if short += d; len(short) >= minUnit {
			flush(short)
			short = ""
		}
	}
	if short != "" {
		flush(short)
	}
	c.rest = len(c.units)
	for left := min(maxRest, at/restShare); c.rest > 1 && left > 0; {
		c.rest--
		left -= len(c.units[c.rest].text)
	}
	return c
}

// of returns the tokens of a unit.
func (c *Text) of(ctx context.Context, i int) ([]int32, error) {
	u := &c.units[i]
	if u.known {
		return u.tokens, nil
	}
	tokens, err := c.tokenize(ctx, u.text)
	if err != nil {
		return nil, err
	}
	u.tokens, u.known = tokens, true
	c.tokens += len(tokens)
	c.runes += utf8.RuneCountInString(u.text)
	return tokens, nil
}

// bytes returns the size of the first units.
func (c *Text) bytes(units int) int {
	if units == 0 {
		return 0
	}
	return c.units[units-1].at + len(c.units[units-1].text)
}

// ample is how many bytes for each token of the windows are enough to draw without tokenising the whole text.
const ample = 16

// fit returns how many windows of so many tokens the first units have, up to n.
func (c *Text) fit(ctx context.Context, units, n, length int) (int, error) {
	if c.bytes(units)/length/ample >= n {
		return n, nil
	}
	total, err := c.count(ctx, units)
	return min(n, total/length), err
}

// count returns how many tokens the first units have.
func (c *Text) count(ctx context.Context, units int) (int, error) {
	total := 0
	for i := range units {
		tokens, err := c.of(ctx, i)
		if err != nil {
			return 0, err
		}
		total += len(tokens)
	}
	return total, nil
}

// Fit returns how many windows of so many tokens there are, up to n. Where there are two at least without the end that is left for
// measurements, that is not counted.
func (c *Text) Fit(ctx context.Context, n, length int) (int, error) {
	most, err := c.fit(ctx, c.rest, n, length)
	if err != nil || most == n || most >= 2 {
		return most, err
	}
	return c.fit(ctx, len(c.units), n, length)
}

// Drawn are windows of a text.
type Drawn struct {
	Windows [][]int32 // in the order of the text, without common tokens
	// Whole is set where all of the text was needed, with the end that is otherwise left for measurements.
	Whole bool
}

// A ShortError is returned for a text that is too short for the windows asked for.
type ShortError struct {
	Tokens  int // of the text
	Windows int // asked for
	Length  int // of a window
}

// Error names the tokens that there are and those that are needed.
func (e *ShortError) Error() string {
	windows := fmt.Sprintf("%d windows of %d need", e.Windows, e.Length)
	if e.Windows == 1 {
		windows = "a window needs"
	}
	return fmt.Sprintf("it has %d tokens, %s %d", e.Tokens, windows, e.Windows*e.Length)
}

// stream separates the random numbers of draws from others of the same seed.
const stream = 0xD4A3

// Draw returns n windows of so many tokens: one from each nth part of the text, as far as possible from the start of a document.
// A text of fewer tokens is an [ShortError].
func (c *Text) Draw(ctx context.Context, n, length int, seed uint64) (Drawn, error) {
	random := rand.New(rand.NewPCG(seed, stream))
	for _, units := range []int{c.rest, len(c.units)} {
		windows, err := c.draw(ctx, units, n, length, random)
		if err != nil {
			return Drawn{}, err
		}
		if len(windows) == n {
			return Drawn{windows, units > c.rest || c.rest == len(c.units)}, nil
		}
	}
	total, err := c.count(ctx, len(c.units))
	if err != nil {
		return Drawn{}, err
	}
	return Drawn{}, &ShortError{total, n, length}
}

// draw draws from the first units. It returns fewer windows where those have too few tokens.
func (c *Text) draw(ctx context.Context, units, n, length int, random *rand.Rand) ([][]int32, error) {
	if c.bytes(units)/length/ample >= n {
		windows, err := c.sparse(ctx, units, n, length, random)
		if err != nil || len(windows) == n {
			return windows, err
		}
	}
	packed, err := c.pack(ctx, units, length, true)
	if err == nil && len(packed) < n {
		packed, err = c.pack(ctx, units, length, false)
	}
	if err != nil || len(packed) < n {
		return nil, err
	}
	windows := make([][]int32, n)
	for i := range windows {
		from, to := i*len(packed)/n, (i+1)*len(packed)/n
		windows[i] = packed[from+random.IntN(to-from)]
	}
	return windows, nil
}

// sparse draws one window from each nth part, and tokenises nothing else.
func (c *Text) sparse(ctx context.Context, units, n, length int, random *rand.Rand) ([][]int32, error) {
	var windows [][]int32
	all := c.bytes(units)
	next := 0 // the first unit that is in no window
	for i := range n {
		from, part := i*all/n, all/n
		at := from + random.IntN(max(1, part/2))
		for next < units && (c.units[next].at < at || !c.units[next].start) {
			next++
		}
		var window []int32
		for ; next < units && len(window) < length; next++ {
			tokens, err := c.of(ctx, next)
			if err != nil {
				return nil, err
			}
			window = append(window, tokens...)
		}
		if len(window) < length {
			return nil, nil
		}
		windows = append(windows, window[:length:length])
	}
	return windows, nil
}

// pack returns consecutive windows, each from the start of a document if aligned is set.
func (c *Text) pack(ctx context.Context, units, length int, aligned bool) ([][]int32, error) {
	var windows [][]int32
	var window []int32
	for i := range units {
		tokens, err := c.of(ctx, i)
		if err != nil {
			return nil, err
		}
		if aligned && len(window) == 0 && !c.units[i].start {
			continue
		}
		for window = append(window, tokens...); len(window) >= length; {
			windows = append(windows, window[:length:length])
			if window = window[length:]; aligned {
				window = nil
			}
		}
	}
	return windows, nil
}

// End returns the last tokens of the end that is left for measurements, nil where that has fewer.
func (c *Text) End(ctx context.Context, length int) ([]int32, error) {
	var end []int32
	for i := c.rest; i < len(c.units); i++ {
		tokens, err := c.of(ctx, i)
		if err != nil {
			return nil, err
		}
		end = append(end, tokens...)
	}
	if len(end) < length {
		return nil, nil
	}
	return end[len(end)-length:], nil
}

// TokensPerCharacter returns how many tokens a character of what was tokenised has, 0 before anything was.
func (c *Text) TokensPerCharacter() float64 {
	return float64(c.tokens) / float64(max(c.runes, 1))
}
