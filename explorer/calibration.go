package explorer

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Calibration names the text that statistics and re-fitting learn from. Zero fields take the defaults.
type Calibration struct {
	// Text is a file, a folder whose text files are joined, a data set (HubText), or the name of a built-in text; "" is the mix, or without one the
	// default mix: TextWiki, TextWeb, TextCode and TextChat.
	Text    string
	Mix     []MixText `json:",omitempty"`
	Windows int
	Seq     int
	Draw    string `json:",omitempty"` // DrawWhole or DrawStart; "" is DrawWhole
	Seed    uint64 `json:",omitempty"` // of the draw; 0 is that of the command, if it has one, or 1
	// Of is how many windows are drawn, of which Windows are used, the first ones; 0 is Windows.
	Of int `json:",omitempty"`
	// ComputeType is one of ComputeTypes, the type of the weights in the memory that computes; "" is what the program was started with.
	ComputeType string `json:",omitempty"`
	// AtOnce is how many windows a graph computes at once; 0 is what the program was started with.
	AtOnce int `json:",omitempty"`
	// DefaultTexts is set in the record of a search without a text of its own: defaultTexts where it had DefaultMix, 0 where it had
	// the default mix of an earlier version.
	DefaultTexts int `json:",omitempty"`
}

// defaultTexts is the number of DefaultMix among the default mixes so far.
const defaultTexts = 2

// firstMix was the default mix before programs were part of it.
func firstMix() []MixText {
	return []MixText{{Name: TextWiki, Share: 0.4}, {Name: TextWeb, Share: 0.4}, {Name: TextChat, Share: 0.2}}
}

// The types of weights in the memory of what search and re-fit compute on.
const (
	Floats     = "f32"
	HalfFloats = "bf16" // rounded, in half of the memory
)

// ComputeTypes lists them.
func ComputeTypes() []string { return []string{Floats, HalfFloats} }

// A MixText is a text of a mix with its share of the windows.
type MixText struct {
	Name  string  `json:"name"`
	Path  string  `json:"path,omitempty"`  // file, folder or data set (HubText); "" is the built-in text of the name
	Share float64 `json:"share,omitempty"` // of the windows; 0 is an equal part of what the others leave
}

// The built-in texts.
const (
	TextWiki = "wiki" // articles of Wikipedia, which set-up fetches
	TextWeb  = "web"  // web pages, which set-up fetches, without their first 60,000 bytes
	TextCode = "code" // programs and pages about them, which set-up fetches
	TextChat = "chat" // conversations, which the dense model writes
)

// HubText begins the path of a text that is a data set of the Hugging Face hub: hub:OWNER/NAME[@REVISION][/CONFIG[/SPLIT]][#FIELD].
const HubText = "hub:"

// DefaultMix returns the mix of a calibration that names no text.
func DefaultMix() []MixText {
	return []MixText{{Name: TextWiki, Share: 0.3}, {Name: TextWeb, Share: 0.3}, {Name: TextCode, Share: 0.2}, {Name: TextChat, Share: 0.2}}
}

// BuiltInTexts returns the names of the built-in texts.
func BuiltInTexts() []string { return []string{TextWiki, TextWeb, TextCode, TextChat} }

// Where calibration windows are drawn from, in [Calibration] and [Method].
const (
	DrawWhole = "whole" // over the whole text, each from the start of a document
	DrawStart = "start" // consecutive windows from the start of a single text
)

// A MixPart is a text of a mix as it was used.
type MixPart struct {
	Name    string  `json:"name"`
	Text    string  `json:"text,omitempty"` // name of the file or folder; "" for a built-in text
	Share   float64 `json:"share"`
	Windows int     `json:"windows"`
	Bytes   int64   `json:"bytes"`
	SHA256  string  `json:"sha256"` // of the content, hexadecimal
}

// NamesFile reports whether a calibration reads a file that it names, as opposed to built-in texts.
func (c Calibration) NamesFile() bool {
	return c.Text != "" && !IsBuiltIn(c.Text) || slices.ContainsFunc(c.Mix, func(t MixText) bool { return t.Path != "" })
}

// IsBuiltIn reports whether a text has the name of a built-in one.
func IsBuiltIn(name string) bool { return slices.Contains(BuiltInTexts(), name) }

// Texts returns the texts as [ParseTexts] reads them, "" for the default mix.
func (c Calibration) Texts() string {
	if len(c.Mix) == 0 {
		return c.Text
	}
	parts := make([]string, len(c.Mix))
	for i, t := range c.Mix {
		parts[i] = t.Name
		if t.Path != "" {
			parts[i] += "=" + t.Path
		}
		if t.Share > 0 {
			parts[i] += ":" + strconv.FormatFloat(t.Share, 'g', -1, 64)
		}
	}
	return strings.Join(parts, ", ")
}

// shareTolerance is how far the shares of a mix may add up to another number than 1.
const shareTolerance = 1e-3

// Shares returns the shares of the mix, which add up to 1: texts without a share have an equal part of what the others leave. Its
// errors wrap [ErrInvalid].
func (c Calibration) Shares() ([]float64, error) {
	if len(c.Mix) == 0 {
		return nil, nil
	}
	shares := make([]float64, len(c.Mix))
	sum, open := 0.0, 0
	for i, t := range c.Mix {
		if !(t.Share >= 0 && t.Share <= 1) {
			return nil, fmt.Errorf("%w: the share %g of %s is not in (0, 1]", ErrInvalid, t.Share, t.Name)
		}
		if shares[i] = t.Share; t.Share == 0 {
			open++
		}
		sum += t.Share
	}
	switch {
	case open == 0 && math.Abs(sum-1) > shareTolerance:
		return nil, fmt.Errorf("%w: the shares of %s add up to %.4g, not to 1: change one, or leave one out for what the others leave", ErrInvalid, c.Texts(), sum)
	case open > 0 && sum > 1-shareTolerance:
		return nil, fmt.Errorf("%w: the shares of %s leave nothing for the texts without one", ErrInvalid, c.Texts())
	}
	for i := range shares {
		if open == 0 {
			shares[i] /= sum
		} else if shares[i] == 0 {
			shares[i] = (1 - sum) / float64(open)
		}
	}
	return shares, nil
}

// stored returns the calibration that a record or a recipe has: before windows were drawn over whole texts and the default was a mix,
// they were the first ones of one text.
func (c Calibration) stored() Calibration {
	if c.Draw == "" {
		c.Draw = DrawStart
		if c.Text == "" {
			c.Text = TextWiki
		}
	}
	return c
}

// check reports what is wrong with a calibration without looking at its texts.
func (c Calibration) check() error {
	err := errors.Join(WindowsRange().optional("calibration windows", float64(c.Windows)), WindowsRange().optional("windows drawn", float64(c.Of)), SeqRange().optional("tokens per calibration window", float64(c.Seq)),
		AtOnceRange().optional("windows at once", float64(c.AtOnce)))
	if err == nil && c.ComputeType != "" && !slices.Contains(ComputeTypes(), c.ComputeType) {
		err = fmt.Errorf("%w: weights computed with as %q: not %s", ErrInvalid, c.ComputeType, strings.Join(ComputeTypes(), ", "))
	}
	if err == nil && c.Of != 0 && c.Of < c.Windows {
		err = fmt.Errorf("%w: the first %d windows of %d", ErrInvalid, c.Windows, c.Of)
	}
	if err != nil {
		return err
	}
	if c.Text != "" && len(c.Mix) > 0 {
		return fmt.Errorf("%w: both a text, %s, and a mix", ErrInvalid, c.Text)
	}
	switch c.Draw {
	case "", DrawWhole:
	case DrawStart:
		if c.Text == "" {
			return fmt.Errorf("%w: only a single text has windows from its %s: name one", ErrInvalid, DrawStart)
		}
	default:
		return fmt.Errorf("%w: windows from %q, not %s or %s", ErrInvalid, c.Draw, DrawWhole, DrawStart)
	}
	if len(c.Mix) > maxMix {
		return fmt.Errorf("%w: a mix of %d texts, more than %d", ErrInvalid, len(c.Mix), maxMix)
	}
	seen := make(map[string]bool)
	for _, t := range c.Mix {
		switch {
		case !mixName.MatchString(t.Name):
			return fmt.Errorf("%w: %q is no name of a text", ErrInvalid, t.Name)
		case seen[t.Name]:
			return fmt.Errorf("%w: two texts of the mix are named %s", ErrInvalid, t.Name)
		case t.Path == "" && !IsBuiltIn(t.Name):
			return fmt.Errorf("%w: %s is no built-in text (%s): name its file, %s=FILE", ErrInvalid, t.Name, strings.Join(BuiltInTexts(), ", "), t.Name)
		}
		seen[t.Name] = true
	}
	_, err = c.Shares()
	return err
}

// maxMix bounds the texts of a mix.
const maxMix = 64

// IsTextName reports whether a text of a mix may have that name.
func IsTextName(name string) bool { return mixName.MatchString(name) }

// mixName matches the name of a text.
var mixName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$`)

// SetTexts sets Text or Mix from texts in the form NAME=PATH, PATH or the name of a built-in text, each followed by :SHARE or not.
// One path without a name is Text. Its errors wrap [ErrInvalid].
func (c *Calibration) SetTexts(texts []string) error {
	c.Text, c.Mix = "", nil
	if len(texts) == 1 && isPath(texts[0]) {
		c.Text = texts[0]
		return nil
	}
	for _, text := range texts {
		t, err := parseMixText(text)
		if err != nil {
			return err
		}
		c.Mix = append(c.Mix, t)
	}
	if len(c.Mix) == 1 && c.Mix[0].Path == "" && c.Mix[0].Share == 0 && IsBuiltIn(c.Mix[0].Name) {
		c.Text, c.Mix = c.Mix[0].Name, nil
	}
	return nil
}

// ParseTexts is SetTexts of texts separated by commas. A path that is no mix may contain commas.
func ParseTexts(text string) (Calibration, error) {
	var c Calibration
	text = strings.TrimSpace(text)
	if text == "" {
		return c, nil
	}
	parts := strings.Split(text, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	if isPath(text) {
		parts = []string{text}
	}
	err := c.SetTexts(parts)
	if err == nil {
		err = c.check()
	}
	return c, err
}

// isPath reports whether a text is a path without a name or a share.
func isPath(text string) bool {
	name, _, named := strings.Cut(text, "=")
	if named && mixName.MatchString(name) {
		return false
	}
	name, _, _ = strings.Cut(text, ":")
	name, _, _ = strings.Cut(name, ",")
	return !IsBuiltIn(strings.TrimSpace(name))
}

func parseMixText(text string) (MixText, error) {
	var t MixText
	name, path, named := strings.Cut(text, "=")
	if named = named && mixName.MatchString(name); !named {
		name, path = "", text
	}
	if at := strings.LastIndexByte(path, ':'); at >= 0 {
		share, err := strconv.ParseFloat(path[at+1:], 64)
		if err == nil || errors.Is(err, strconv.ErrRange) {
			if !(share > 0 && share <= 1) {
				return t, fmt.Errorf("%w: %s: the share %s is not in (0, 1]", ErrInvalid, text, path[at+1:])
			}
			path, t.Share = path[:at], share
		}
	}
	switch {
	case path == "":
		return t, fmt.Errorf("%w: %q names no text", ErrInvalid, text)
	case named:
		t.Name, t.Path = name, path
	case IsBuiltIn(path):
		t.Name = path
	default:
		t.Name, t.Path = nameOf(path), path
	}
	return t, nil
}

// nameOf returns the name of a text that was given by its path alone.
func nameOf(path string) string {
	if hub, ok := strings.CutPrefix(path, HubText); ok { // the name of the data set
		if parts := strings.Split(hub, "/"); len(parts) > 1 {
			path, _, _ = strings.Cut(parts[1], "@")
			path, _, _ = strings.Cut(path, "#")
			path += ".txt"
		}
	}
	base := filepath.Base(path)
	base = strings.TrimSuffix(base, filepath.Ext(base))
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r < 128 && mixName.MatchString(string(r)) || r == '_' {
			return r
		}
		return '-'
	}, base), "-_")
	return name[:min(len(name), 32)]
}
