package subnet

import (
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"testing/quick"
)

// pair is two sets over the same N, drawn by testing/quick.
type pair struct{ A, B Set }

func (pair) Generate(r quickRand, size int) reflect.Value {
	rng := rand.New(rand.NewPCG(r.Uint64(), 1))
	n := rng.IntN(4*size + 1)
	return reflect.ValueOf(pair{randomSet(rng, n), randomSet(rng, n)})
}

// randomSet mixes scattered units and runs, so that word borders are crossed.
func randomSet(rng *rand.Rand, n int) Set {
	s := Empty(n)
	if n == 0 {
		return s
	}
	for range rng.IntN(4) {
		lo := rng.IntN(n)
		s = s.Union(Range(n, lo, lo+rng.IntN(n-lo+1)))
	}
	for range rng.IntN(n) {
		if i := rng.IntN(n); rng.IntN(2) == 0 {
			s = s.With(i)
		} else {
			s = s.Without(i)
		}
	}
	return s
}

func TestSetLaws(t *testing.T) {
	laws := map[string]func(p pair) bool{
		"union commutes":        func(p pair) bool { return p.A.Union(p.B).Equal(p.B.Union(p.A)) },
		"intersection commutes": func(p pair) bool { return p.A.Intersect(p.B).Equal(p.B.Intersect(p.A)) },
		"absorption":            func(p pair) bool { return p.A.Union(p.A.Intersect(p.B)).Equal(p.A) },
		"de Morgan": func(p pair) bool {
			return p.A.Union(p.B).Complement().Equal(p.A.Complement().Intersect(p.B.Complement()))
		},
		"minus":      func(p pair) bool { return p.A.Minus(p.B).Equal(p.A.Intersect(p.B.Complement())) },
		"complement": func(p pair) bool { return p.A.Complement().Complement().Equal(p.A) },
		"counts": func(p pair) bool {
			return p.A.Len()+p.B.Len() == p.A.Union(p.B).Len()+p.A.Overlap(p.B) &&
				p.A.Overlap(p.B) == p.A.Intersect(p.B).Len()
		},
		"indices":    func(p pair) bool { return Of(p.A.N(), p.A.Indices()...).Equal(p.A) },
		"with":       func(p pair) bool { return p.A.With(p.B.Indices()...).Equal(p.A.Union(p.B)) },
		"without":    func(p pair) bool { return p.A.Without(p.B.Indices()...).Equal(p.A.Minus(p.B)) },
		"full":       func(p pair) bool { return p.A.IsFull() == (p.A.Complement().IsEmpty()) },
		"membership": func(p pair) bool { return len(p.A.Indices()) == p.A.Len() && hasExactly(p.A) },
		"text": func(p pair) bool {
			back, err := ParseSet(p.A.N(), p.A.String())
			return err == nil && back.Equal(p.A)
		},
		"compact text": func(p pair) bool {
			back, err := ParseSet(p.A.N(), p.A.Compact())
			bits := "bits:" + base64.RawURLEncoding.EncodeToString(p.A.appendBits(nil))
			whole, failed := ParseSet(p.A.N(), bits)
			return err == nil && back.Equal(p.A) && failed == nil && whole.Equal(p.A) && len(p.A.Compact()) <= min(len(bits), len(p.A.String()))
		},
		"marshalled text": func(p pair) bool {
			text, err := p.A.MarshalText()
			var back Set
			return err == nil && back.UnmarshalText(text) == nil && back.Equal(p.A)
		},
	}
	for name, law := range laws {
		if err := quick.Check(law, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func hasExactly(s Set) bool {
	idx := s.Indices()
	for i := -1; i <= s.N(); i++ {
		if _, found := slices.BinarySearch(idx, i); found != s.Has(i) {
			return false
		}
	}
	return true
}

func TestSetText(t *testing.T) {
	for _, c := range []struct {
		set  Set
		want string
	}{
		{Set{}, "none"},
		{Full(3), "all"},
		{Empty(3), "none"},
		{Of(9, 8), "8"},
		{Range(200, 63, 129), "63-128"},
		{Of(96, 0, 1, 2, 64, 66, 67), "0-2,64,66-67"},
	} {
		if got := c.set.String(); got != c.want {
			t.Errorf("%v: %q, want %q", c.set.Indices(), got, c.want)
		}
	}
	for _, bad := range []string{"", "x", "3-1", "0-8", "8", "-1", "1,,2", "0-", "1-2-3", "99999999999999999999"} {
		if s, err := ParseSet(8, bad); !errors.Is(err, ErrSyntax) {
			t.Errorf("ParseSet(8, %q) = %v, %v", bad, s, err)
		}
	}
}

func TestSetIsImmutable(t *testing.T) {
	s := Range(100, 10, 90)
	before := s.String()
	s.With(0)
	s.Without(50)
	s.Union(Full(100))
	s.Complement()
	s.Indices()[0] = 99
	if s.String() != before {
		t.Errorf("changed to %v", s)
	}
}

func TestSetPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"other N":     func() { Full(3).Union(Full(4)) },
		"index":       func() { Empty(3).With(3) },
		"range":       func() { Range(3, 2, 4) },
		"negative N":  func() { Empty(-1) },
		"below index": func() { Full(3).Without(-1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func BenchmarkSetUnion(b *testing.B) {
	x, y := Range(11008, 0, 6000), Range(11008, 4000, 11008)
	for b.Loop() {
		x.Union(y)
	}
}
