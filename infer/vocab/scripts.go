package vocab

import (
	"cmp"
	"maps"
	"slices"
	"unicode"
	"unicode/utf8"
)

// Names of what is not in a script of letters.
const (
	Symbols = "digits and symbols"
	Partial = "parts of characters"
	Special = "special tokens"
)

// Script counts the entries of a script.
type Script struct {
	Name string `json:"script"` // as in Unicode, or Symbols, Partial or Special
	Kept int    `json:"kept"`
	Of   int    `json:"of"`
}

// Scripts counts the entries of each script, the largest first. An entry is in the script of its first letter.
func (v *Vocabulary) Scripts(kept []int) []Script {
	of := v.scriptsOf()
	counts := make(map[string]*Script)
	for _, name := range of {
		if counts[name] == nil {
			counts[name] = &Script{Name: name}
		}
		counts[name].Of++
	}
	for _, id := range kept {
		counts[of[id]].Kept++
	}
	list := make([]Script, 0, len(counts))
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, *counts[name])
	}
	slices.SortStableFunc(list, func(a, b Script) int { return cmp.Compare(b.Of, a.Of) })
	return list
}

// scriptsOf returns the script of each entry.
func (v *Vocabulary) scriptsOf() []string {
	var find finder
	out := make([]string, v.Len())
	for id := range out {
		switch text := v.Text(id); {
		case v.t.Types[id] == control || v.t.Types[id] == unknown || v.isPlaceholder(id):
			out[id] = Special
		case !utf8.ValidString(text):
			out[id] = Partial
		default:
			out[id] = Symbols
			for _, r := range text {
				if name := find.script(r); name != "" {
					out[id] = name
					break
				}
			}
		}
	}
	return out
}

// finder finds scripts of characters. It remembers those found.
type finder struct {
	names []string
	found map[rune]string
}

// script returns the name of the script of a letter, "" for other characters.
func (f *finder) script(r rune) string {
	if !unicode.IsLetter(r) || unicode.Is(unicode.Common, r) || unicode.Is(unicode.Inherited, r) {
		return ""
	}
	if unicode.Is(unicode.Latin, r) {
		return "Latin"
	}
	if name, ok := f.found[r]; ok {
		return name
	}
	if f.names == nil {
		f.names, f.found = slices.Sorted(maps.Keys(unicode.Scripts)), make(map[rune]string)
	}
	for _, name := range f.names {
		if unicode.Is(unicode.Scripts[name], r) {
			f.found[r] = name
			return name
		}
	}
	return ""
}

// scriptShare is the least share of the letters of texts from which on a script is one of theirs.
const scriptShare = 0.001

// Letters adds the single letters of the scripts of texts, which occur in the texts, to entries that should stay. counts are of the entries in
// the texts.
func (v *Vocabulary) Letters(counts []float64, to map[int]string) {
	var find finder
	letters, all := make(map[rune]float64), 0.0
	scripts := make(map[string]float64)
	for id, n := range counts {
		if n == 0 || v.t.Types[id] == control || v.t.Types[id] == unknown {
			continue
		}
		for _, r := range v.Text(id) {
			if name := find.script(r); name != "" {
				letters[r] += n
				scripts[name] += n
				all += n
			}
		}
	}
	for id := range counts {
		text := v.Text(id)
		r, n := utf8.DecodeRuneInString(text)
		if n != len(text) || letters[r] == 0 || to[id] != "" {
			continue
		}
		if name := find.script(r); scripts[name] >= scriptShare*all {
			to[id] = "letter of " + name
		}
	}
}
