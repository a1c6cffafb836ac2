package vocab

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrInvalid is wrapped by errors about tables that are no vocabulary, and about choices that no tokenizer works with.
var ErrInvalid = errors.New("vocabulary")

// Token types, in the numbering of llama.cpp and SentencePiece.
const (
	normal  = 1
	unknown = 2
	control = 3
	user    = 4
	unused  = 5
	single  = 6 // a byte
)

// space represents a space in a piece.
const space = "▁"

// Tables are the entries of a vocabulary.
type Tables struct {
	Tokens []string
	Types  []int32
	// Scores are those of pieces: of two pairs that are pieces, that of the higher score is merged first.
	Scores []float32
	// Merges are those of pairs, "left right", the first to be merged first. Pairs is true for a vocabulary of byte-level pairs.
	Merges []string
	Pairs  bool
	// Named holds entries that must stay because something names them, with what names them.
	Named map[int]string
}

// Vocabulary is a vocabulary that entries can be dropped from. It is immutable.
type Vocabulary struct {
	t     Tables
	index map[string]int // the last entry of each text, as in llama.cpp
	parts [][]int32      // the entries that each entry is merged of in the last step, nil where no merge makes it
	spell map[int]bool   // entries of single bytes
	whole bool           // they spell every byte
}

// New reads the tables of a vocabulary.
func New(t Tables) (*Vocabulary, error) {
	n := len(t.Tokens)
	switch {
	case n == 0:
		return nil, fmt.Errorf("%w: no tokens", ErrInvalid)
	case len(t.Types) != n:
		return nil, fmt.Errorf("%w: %d types for %d tokens", ErrInvalid, len(t.Types), n)
	case !t.Pairs && len(t.Scores) != n:
		return nil, fmt.Errorf("%w: %d scores for %d tokens", ErrInvalid, len(t.Scores), n)
	case t.Pairs && len(t.Merges) == 0:
		return nil, fmt.Errorf("%w: byte-level pairs without merges", ErrInvalid)
	}
	v := &Vocabulary{t: t, index: make(map[string]int, n)}
	for i, token := range t.Tokens {
		v.index[token] = i
	}
	v.spell = make(map[int]bool)
	for b := range 256 {
		text := fmt.Sprintf("<0x%02X>", b)
		if t.Pairs {
			text = string(byteRune(byte(b)))
		}
		if i, ok := v.index[text]; ok {
			v.spell[i] = true
		}
	}
	v.whole = len(v.spell) == 256
	v.parts = v.derive()
	return v, nil
}

// Len returns the number of entries.
func (v *Vocabulary) Len() int { return len(v.t.Tokens) }

// Text returns the text of an entry, which may be a part of a character.
func (v *Vocabulary) Text(id int) string {
	token := v.t.Tokens[id]
	switch kind := v.t.Types[id]; {
	case kind == control || kind == unknown || kind == user && v.t.Pairs:
		return token
	case v.t.Pairs:
		return textOfPairs(token)
	case kind == single:
		if b, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(token, "<0x"), ">"), 16, 8); err == nil {
			return string([]byte{byte(b)})
		}
	}
	return strings.ReplaceAll(token, space, " ")
}

// byteRune returns the character that represents a byte in byte-level vocabularies: a printable one represents itself, and the others are
// represented by the characters from U+0100 on.
func byteRune(b byte) rune {
	if isPrintable(b) {
		return rune(b)
	}
	r := rune(256)
	for c := range b {
		if !isPrintable(c) {
			r++
		}
	}
	return r
}

func isPrintable(b byte) bool { return b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae }

// textOfPairs returns the bytes that the characters of a byte-level token represent.
func textOfPairs(token string) string {
	out := make([]byte, 0, len(token))
	for _, r := range token {
		switch {
		case r < 256 && isPrintable(byte(r)):
			out = append(out, byte(r))
		case r >= 256 && int(r) < 256+len(hidden):
			out = append(out, hidden[r-256])
		default: // no byte: text of an added token
			out = utf8.AppendRune(out, r)
		}
	}
	return string(out)
}

// hidden holds the bytes that the characters from U+0100 on represent. It is never changed.
var hidden = func() (list [68]byte) {
	i := 0
	for b := range 256 {
		if !isPrintable(byte(b)) {
			list[i] = byte(b)
			i++
		}
	}
	return list
}()

// placeholder matches entries that stand for nothing, in the forms of published vocabularies.
var placeholder = regexp.MustCompile(`^(<unused_?\d+>|\[unused_?\d+\]|\[PAD\d+\]|<\|?reserved[a-z_]*_?\d+\|?>|<\|?dummy_?\d+\|?>|<pad\d+>)$`)

// isPlaceholder reports whether an entry stands for nothing.
func (v *Vocabulary) isPlaceholder(id int) bool {
	return v.t.Types[id] == unused || placeholder.MatchString(v.t.Tokens[id])
}

// essential returns why no choice drops an entry, "" for one that may be dropped.
func (v *Vocabulary) essential(id int) string {
	token := v.t.Tokens[id]
	switch kind := v.t.Types[id]; {
	case v.t.Named[id] != "":
		return v.t.Named[id]
	case v.isPlaceholder(id):
		return ""
	case kind == control, kind == user, kind == unknown:
		return "special token"
	case kind == single, v.t.Pairs && v.spell[id]:
		return "byte"
	case len(token) == 1 && token[0] >= '0' && token[0] <= '9':
		return "digit"
	case !v.t.Pairs && token == space:
		return "space"
	case !v.t.Pairs && utf8.RuneCountInString(token) == 1 && !v.whole:
		return "character, which no bytes spell"
	}
	return ""
}

// Check returns an error that names the first entry that a choice lacks: one that no choice drops, or one that a kept one is merged of. kept
// holds entries in increasing order. The error wraps [ErrInvalid].
func (v *Vocabulary) Check(kept []int) error {
	has := make([]bool, v.Len())
	last := -1
	for _, id := range kept {
		if id <= last || id >= v.Len() {
			return fmt.Errorf("%w: entry %d after entry %d, of %d entries", ErrInvalid, id, last, v.Len())
		}
		has[id], last = true, id
	}
	for id, ok := range has {
		if why := v.essential(id); !ok && why != "" {
			return fmt.Errorf("%w: token %d, %.40q, is dropped: %s", ErrInvalid, id, v.t.Tokens[id], why)
		}
		if !ok {
			continue
		}
		for _, part := range v.parts[id] {
			if !has[part] {
				return fmt.Errorf("%w: token %d, %.40q, is dropped, of which token %d, %.40q, is merged", ErrInvalid, part, v.t.Tokens[part], id, v.t.Tokens[id])
			}
		}
	}
	return nil
}

// Merges returns the merges of a choice, in their order: those that neither are of nor make a dropped entry.
func (v *Vocabulary) Merges(kept []int) []string {
	has := make([]bool, v.Len())
	for _, id := range kept {
		has[id] = true
	}
	lost := func(token string) bool {
		id, ok := v.index[token]
		return ok && !has[id]
	}
	var out []string
	for _, m := range v.t.Merges {
		if left, right := splitMerge(m); !lost(left) && !lost(right) && !lost(left+right) {
			out = append(out, m)
		}
	}
	return out
}

// splitMerge returns the two sides of a merge. The left one may begin with a space.
func splitMerge(m string) (left, right string) {
	if m == "" {
		return "", ""
	}
	if at := strings.IndexByte(m[1:], ' '); at >= 0 {
		return m[:at+1], m[at+2:]
	}
	return "", ""
}
