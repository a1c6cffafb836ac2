package subnet

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// AppendBits appends the masks as bits, without their geometry: for each layer
// the heads, the MLP channels, and for Q/K and V/O one byte, 1 where the in-head
// sets of its groups follow and 0 otherwise. The entries of the vocabulary follow
// where not all are kept. Each set takes whole bytes.
func (m Masks) AppendBits(b []byte) []byte {
	for _, l := range m.layers {
		b = l.Heads.appendBits(b)
		b = l.Channels.appendBits(b)
		for _, sets := range [][]Set{l.QK, l.VO} {
			if sets == nil {
				b = append(b, 0)
				continue
			}
			b = append(b, 1)
			for _, s := range sets {
				b = s.appendBits(b)
			}
		}
	}
	return m.vocab.appendBits(b)
}

// FromBits is the inverse of [Masks.AppendBits] for a model of the geometry.
// Errors wrap [ErrInvalid] or [ErrSyntax].
func FromBits(g *Geometry, b []byte) (Masks, error) {
	if err := g.Validate(); err != nil {
		return Masks{}, err
	}
	r := bitReader{b: b}
	layers := make([]Layer, len(g.Layers))
	for i, lg := range g.Layers {
		l := &layers[i]
		l.Heads, l.Channels = r.set(lg.Heads), r.set(lg.FFN)
		for _, sets := range []*[]Set{&l.QK, &l.VO} {
			if !r.bool() {
				continue
			}
			*sets = make([]Set, lg.KVHeads)
			for group := range *sets {
				(*sets)[group] = r.set(g.HeadDim)
			}
		}
		if r.failed {
			return Masks{}, fmt.Errorf("%w: layer %d: the bits end early or do not fit", ErrSyntax, i)
		}
	}
	vocab := Full(g.Vocab)
	if len(r.b) > 0 {
		if vocab = r.set(g.Vocab); r.failed || len(r.b) > 0 {
			return Masks{}, fmt.Errorf("%w: %d bytes follow the last layer, no mask of %d entries of the vocabulary", ErrSyntax, len(r.b), g.Vocab)
		}
	}
	m, err := New(g, layers)
	if err != nil {
		return Masks{}, err
	}
	return m.WithVocab(vocab)
}

func (s Set) appendBits(b []byte) []byte {
	for w, word := range s.words {
		if left := s.n - w*wordBits; left >= wordBits {
			b = binary.LittleEndian.AppendUint64(b, word)
		} else {
			for ; left > 0; left -= 8 {
				b = append(b, byte(word))
				word >>= 8
			}
		}
	}
	return b
}

type bitReader struct {
	b      []byte
	failed bool
}

func (r *bitReader) bool() bool {
	if r.failed || len(r.b) == 0 || r.b[0] > 1 {
		r.failed = true
		return false
	}
	on := r.b[0] == 1
	r.b = r.b[1:]
	return on
}

func (r *bitReader) set(n int) Set {
	size := (n + 7) / 8
	if r.failed || len(r.b) < size || n%8 != 0 && r.b[size-1]>>(n%8) != 0 {
		r.failed = true
		return Set{}
	}
	s := Empty(n)
	for i, v := range r.b[:size] {
		s.words[i/8] |= uint64(v) << (i % 8 * 8)
	}
	r.b = r.b[size:]
	return s.counted()
}

// MarshalText writes the set with its N: "0-31,64-95/1536".
func (s Set) MarshalText() ([]byte, error) {
	return []byte(s.String() + "/" + strconv.Itoa(s.n)), nil
}

// UnmarshalText is the inverse of [Set.MarshalText]. Errors wrap [ErrSyntax].
func (s *Set) UnmarshalText(text []byte) error {
	read, _, err := parseCounted(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	*s = read
	return nil
}
