package subnet

import (
	"encoding/base64"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strconv"
	"strings"
)

const wordBits = 64

// Set is an immutable subset of the units {0, …, N-1} of one kind: the query
// heads of a layer, the channels of its MLP, the channels inside a head. The
// zero value is the empty set of N = 0.
//
// Methods that take another Set need one of the same N, and methods that take
// indices need them in [0, N). Otherwise they panic, like an index of a slice.
// [ParseSet] returns errors instead.
type Set struct {
	n     int
	count int
	words []uint64 // bit i%64 of words[i/64]; bits at and above n are zero
}

// Full returns the set of all n units.
func Full(n int) Set { return Range(n, 0, n) }

// Empty returns the empty set of n units.
func Empty(n int) Set {
	checkSize(n)
	return Set{n: n, words: make([]uint64, wordCount(n))}
}

// Of returns the set of the given units, out of n.
func Of(n int, idx ...int) Set { return Empty(n).With(idx...) }

// Range returns the set of the units lo, …, hi-1, out of n.
func Range(n, lo, hi int) Set {
	s := Empty(n)
	if lo < 0 || hi < lo || hi > n {
		panic(fmt.Sprintf("subnet: range [%d, %d) of %d units", lo, hi, n))
	}
	for i := lo; i < hi; {
		w, b := i/wordBits, i%wordBits
		run := min(wordBits-b, hi-i)
		s.words[w] |= (^uint64(0) >> (wordBits - run)) << b
		i += run
	}
	s.count = hi - lo
	return s
}

// N returns the number of units, in the set or not.
func (s Set) N() int { return s.n }

// Len returns the number of units in the set.
func (s Set) Len() int { return s.count }

// IsFull reports whether the set holds every unit. With N = 0 a set is both full
// and empty.
func (s Set) IsFull() bool { return s.count == s.n }

// IsEmpty reports whether the set holds no unit.
func (s Set) IsEmpty() bool { return s.count == 0 }

// Has reports whether the set holds unit i. It returns false outside [0, N).
func (s Set) Has(i int) bool {
	return i >= 0 && i < s.n && s.words[i/wordBits]&(1<<(i%wordBits)) != 0
}

// Indices returns the units of the set in increasing order.
func (s Set) Indices() []int {
	idx := make([]int, 0, s.count)
	for w, word := range s.words {
		for word != 0 {
			idx = append(idx, w*wordBits+bits.TrailingZeros64(word))
			word &= word - 1
		}
	}
	return idx
}

// Union returns the units of s or t.
func (s Set) Union(t Set) Set {
	return s.combine(t, func(a, b uint64) uint64 { return a | b })
}

// Intersect returns the units of both s and t.
func (s Set) Intersect(t Set) Set {
	return s.combine(t, func(a, b uint64) uint64 { return a & b })
}

// Minus returns the units of s that are not in t.
func (s Set) Minus(t Set) Set {
	return s.combine(t, func(a, b uint64) uint64 { return a &^ b })
}

// Complement returns the units that are not in s.
func (s Set) Complement() Set { return Full(s.n).Minus(s) }

// Overlap returns the number of units in both s and t.
func (s Set) Overlap(t Set) int {
	s.checkSame(t)
	common := 0
	for w := range s.words {
		common += bits.OnesCount64(s.words[w] & t.words[w])
	}
	return common
}

// With returns s with the given units added.
func (s Set) With(idx ...int) Set {
	out := s.clone()
	for _, i := range idx {
		out.checkIndex(i)
		out.words[i/wordBits] |= 1 << (i % wordBits)
	}
	return out.counted()
}

// Without returns s with the given units removed.
func (s Set) Without(idx ...int) Set {
	out := s.clone()
	for _, i := range idx {
		out.checkIndex(i)
		out.words[i/wordBits] &^= 1 << (i % wordBits)
	}
	return out.counted()
}

// Equal reports whether s and t have the same units and the same N.
func (s Set) Equal(t Set) bool {
	if s.n != t.n || s.count != t.count {
		return false
	}
	for w := range s.words {
		if s.words[w] != t.words[w] {
			return false
		}
	}
	return true
}

// String returns the units as increasing ranges, "0-31,64-95". An empty set is
// "none", any other full set "all".
func (s Set) String() string {
	switch s.count {
	case 0:
		return "none"
	case s.n:
		return "all"
	}
	var b strings.Builder
	for i := s.next(0, true); i < s.n; {
		end := s.next(i, false)
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(i))
		if end-1 > i {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(end - 1))
		}
		i = s.next(end, true)
	}
	return b.String()
}

// bitsPrefix begins the form of a set as bits.
const bitsPrefix = "bits:"

// Compact returns the units as [Set.String] or, where that is shorter, as
// bits: one for each unit, the first in the lowest bit of the first byte, in
// URL-safe base64 without padding after "bits:". [ParseSet] reads both.
func (s Set) Compact() string {
	text := s.String()
	if size := (s.n + 7) / 8; len(text) > len(bitsPrefix)+base64.RawURLEncoding.EncodedLen(size) {
		return bitsPrefix + base64.RawURLEncoding.EncodeToString(s.appendBits(nil))
	}
	return text
}

// parseBits reads the form of a set as bits.
func parseBits(n int, text string) (Set, error) {
	size := (n + 7) / 8
	if len(text) != base64.RawURLEncoding.EncodedLen(size) {
		return Set{}, fmt.Errorf("%w: bits of %d characters, not %d for %d units", ErrSyntax, len(text), base64.RawURLEncoding.EncodedLen(size), n)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return Set{}, fmt.Errorf("%w: bits: %w", ErrSyntax, err)
	}
	r := bitReader{b: b}
	s := r.set(n)
	if r.failed {
		return Set{}, fmt.Errorf("%w: bits after the last of %d units", ErrSyntax, n)
	}
	return s, nil
}

// ParseSet is the inverse of [Set.String] and of [Set.Compact]. It accepts
// "all", "none", bits, or a comma-separated list of units and ranges in any
// order, each inside [0, n).
func ParseSet(n int, text string) (Set, error) {
	if n < 0 || n > MaxUnits {
		return Set{}, fmt.Errorf("%w: %d units, outside 0 to %d", ErrSyntax, n, MaxUnits)
	}
	switch text = strings.TrimSpace(text); text {
	case "all":
		return Full(n), nil
	case "none":
		return Empty(n), nil
	}
	if encoded, ok := strings.CutPrefix(text, bitsPrefix); ok {
		return parseBits(n, encoded)
	}
	s := Empty(n)
	for part := range strings.SplitSeq(text, ",") {
		first, last, ranged := strings.Cut(part, "-")
		lo, err := parseUnit(n, first)
		if err != nil {
			return Set{}, err
		}
		hi := lo
		if ranged {
			if hi, err = parseUnit(n, last); err != nil {
				return Set{}, err
			}
		}
		if hi < lo {
			return Set{}, fmt.Errorf("%w: range %q is decreasing", ErrSyntax, part)
		}
		s = s.Union(Range(n, lo, hi+1))
	}
	return s, nil
}

func parseUnit(n int, text string) (int, error) {
	text = strings.TrimSpace(text)
	i, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%w: %.20q is not a unit number", ErrSyntax, text)
	}
	if int(i) >= n {
		return 0, fmt.Errorf("%w: unit %d is not below %d", ErrSyntax, i, n)
	}
	return int(i), nil
}

// next returns the first unit from i on that is in the set, or is not where in is false, or N.
func (s Set) next(i int, in bool) int {
	for i < s.n {
		word := s.words[i/wordBits]
		if !in {
			word = ^word
		}
		if word >>= i % wordBits; word != 0 {
			return min(s.n, i+bits.TrailingZeros64(word))
		}
		i += wordBits - i%wordBits
	}
	return s.n
}

func (s Set) combine(t Set, op func(a, b uint64) uint64) Set {
	s.checkSame(t)
	out := Set{n: s.n, words: make([]uint64, len(s.words))}
	for w := range s.words {
		out.words[w] = op(s.words[w], t.words[w])
	}
	return out.counted()
}

func (s Set) clone() Set {
	s.words = append([]uint64(nil), s.words...)
	return s
}

func (s Set) counted() Set {
	s.count = 0
	for _, word := range s.words {
		s.count += bits.OnesCount64(word)
	}
	return s
}

func (s Set) checkIndex(i int) {
	if i < 0 || i >= s.n {
		panic(fmt.Sprintf("subnet: unit %d of %d", i, s.n))
	}
}

func (s Set) checkSame(t Set) {
	if s.n != t.n {
		panic(fmt.Sprintf("subnet: sets over %d and %d units", s.n, t.n))
	}
}

func checkSize(n int) {
	if n < 0 {
		panic(fmt.Sprintf("subnet: %d units", n))
	}
}

func wordCount(n int) int { return (n + wordBits - 1) / wordBits }

// Sample returns a uniformly random subset of s with k units. k is at most the
// number of units in s.
func (s Set) Sample(rng *rand.Rand, k int) Set {
	out := Empty(s.n)
	left := s.count
	for _, i := range s.Indices() {
		if rng.IntN(left) < k {
			out.words[i/wordBits] |= 1 << (i % wordBits)
			k--
		}
		left--
	}
	return out.counted()
}
