package subnet

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// Vocab returns the entries of the vocabulary that are kept, as rows of the embedding.
func (m Masks) Vocab() Set {
	if m.vocab.n == 0 {
		return Full(m.geometry.Vocab)
	}
	return m.vocab
}

// VocabLen returns how many entries of the vocabulary are kept.
func (m Masks) VocabLen() int {
	if m.vocab.n == 0 {
		return m.geometry.Vocab
	}
	return m.vocab.count
}

// TrimsVocab reports whether entries of the vocabulary are dropped.
func (m Masks) TrimsVocab() bool { return m.vocab.n != 0 }

// WithVocab returns m with only those entries of the vocabulary. Errors wrap
// [ErrInvalid].
func (m Masks) WithVocab(kept Set) (Masks, error) {
	if err := checkVocab(m.geometry, kept); err != nil {
		return Masks{}, err
	}
	if m.vocab = kept; kept.IsFull() {
		m.vocab = Set{}
	}
	return m, nil
}

// WithAllVocab returns m with the whole vocabulary.
func (m Masks) WithAllVocab() Masks {
	m.vocab = Set{}
	return m
}

func checkVocab(g *Geometry, kept Set) error {
	switch {
	case kept.n != g.Vocab:
		return fmt.Errorf("%w: mask over %d entries of the vocabulary, the model has %d", ErrInvalid, kept.n, g.Vocab)
	case kept.IsEmpty():
		return fmt.Errorf("%w: no entry of the vocabulary is kept", ErrInvalid)
	}
	return nil
}

// vocabLine starts the line of the vocabulary in the text form.
const vocabLine = "vocab "

// VocabText returns the line of the vocabulary in the text form of m, "" where
// all of it is kept: how many entries are kept of how many, and one bit for each,
// in base64.
func (m Masks) VocabText() string {
	if !m.TrimsVocab() {
		return ""
	}
	bits := base64.StdEncoding.EncodeToString(m.vocab.appendBits(nil))
	return fmt.Sprintf("%s%d/%d %s", vocabLine, m.vocab.Len(), m.vocab.n, bits)
}

// ParseVocab reads the line of the vocabulary for a model of n entries. "" stands
// for all of them. Errors wrap [ErrSyntax] or [ErrInvalid].
func ParseVocab(n int, line string) (Set, error) {
	if n < 0 || n > MaxVocab {
		return Set{}, fmt.Errorf("%w: a vocabulary of %d, outside 0 to %d", ErrInvalid, n, MaxVocab)
	}
	if line == "" {
		return Full(n), nil
	}
	fields := strings.Fields(line)
	if len(fields) != 3 || fields[0] != strings.TrimSpace(vocabLine) {
		return Set{}, fmt.Errorf("%w: not a vocabulary line: vocab KEPT/ALL BITS", ErrSyntax)
	}
	kept, all, _ := strings.Cut(fields[1], "/")
	k, err := parseCount("vocabulary", kept, MaxVocab)
	if err != nil {
		return Set{}, err
	}
	of, err := parseCount("vocabulary", all, MaxVocab)
	if err != nil {
		return Set{}, err
	}
	if of != n {
		return Set{}, fmt.Errorf("%w: mask over %d entries of the vocabulary, the model has %d", ErrInvalid, of, n)
	}
	bits, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil {
		return Set{}, fmt.Errorf("%w: the bits of the vocabulary: %w", ErrSyntax, err)
	}
	r := bitReader{b: bits}
	s := r.set(n)
	if r.failed || len(r.b) > 0 || s.Len() != k {
		return Set{}, fmt.Errorf("%w: the bits of the vocabulary are not %d of %d", ErrSyntax, k, n)
	}
	return s, nil
}
