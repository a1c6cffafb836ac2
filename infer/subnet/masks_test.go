package subnet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand"
	"math/rand/v2"
	"strings"
	"testing"
)

// quickRand is the generator that testing/quick hands out.
type quickRand = *mathrand.Rand

// small is a two-layer model with two KV groups of two heads of 8 channels.
func small() *Geometry {
	return &Geometry{
		Arch: "llama", Hidden: 32, Vocab: 100, HeadDim: 8, Tied: true,
		Layers: []LayerGeometry{{4, 2, 64}, {4, 2, 96}},
	}
}

// smol is the shape of SmolLM2-135M.
func smol() *Geometry {
	g := &Geometry{Arch: "llama", Hidden: 576, Vocab: 49152, HeadDim: 64, Tied: true}
	for range 30 {
		g.Layers = append(g.Layers, LayerGeometry{Heads: 9, KVHeads: 3, FFN: 1536})
	}
	return g
}

// randomMasks draws masks of every kind: heads, channels, in-head channels,
// dropped blocks and layers.
func randomMasks(rng *rand.Rand, g *Geometry) Masks {
	for {
		layers := make([]Layer, len(g.Layers))
		for i, lg := range g.Layers {
			l := DenseLayer(lg)
			if rng.IntN(3) > 0 {
				l.Heads = randomSet(rng, lg.Heads)
			}
			if rng.IntN(3) > 0 {
				l.Channels = randomSet(rng, lg.FFN)
			}
			for _, sets := range []*[]Set{&l.QK, &l.VO} {
				if rng.IntN(2) == 0 {
					continue
				}
				for range lg.KVHeads {
					*sets = append(*sets, randomSet(rng, g.HeadDim).With(rng.IntN(g.HeadDim)))
				}
			}
			layers[i] = l
		}
		if m, err := New(g, layers); err == nil {
			return m
		}
	}
}

func TestMasksRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, g := range []*Geometry{small(), smol(), geometries()["opt"]} {
		for range 20 {
			m := randomMasks(rng, g)
			text, err := m.MarshalText()
			if err != nil {
				t.Fatal(err)
			}
			if back, err := ParseMasks(g, text); err != nil || !back.Equal(m) {
				t.Fatalf("read back %v from\n%s", err, text)
			}
			compact, err := m.CompactText()
			if back, failed := ParseMasks(g, compact); err != nil || failed != nil || !back.Equal(m) || len(compact) > len(text) {
				t.Fatalf("%v: read back %v from\n%s", err, failed, compact)
			}
			var free Masks
			if err := free.UnmarshalText(text); err != nil || !free.Equal(m) {
				t.Fatalf("unmarshalled %v from\n%s", err, text)
			}
			if back, err := FromBits(g, m.AppendBits(nil)); err != nil || !back.Equal(m) {
				t.Fatalf("bits read back: %v", err)
			}
			for i := range m.Layers() {
				l, err := ParseLayer(g, i, m.LayerText(i))
				if err != nil || !m.With(i, l).Equal(m) {
					t.Fatalf("layer read back %v from %s", err, m.LayerText(i))
				}
			}
		}
	}
}

func TestMasksInJSON(t *testing.T) {
	type file struct{ Masks Masks }
	want := file{randomMasks(rand.New(rand.NewPCG(3, 4)), small())}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got file
	if err := json.Unmarshal(data, &got); err != nil || !got.Masks.Equal(want.Masks) {
		t.Errorf("%v from %s", err, data)
	}
}

func TestDiff(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	g := small()
	for range 200 {
		a, b := randomMasks(rng, g), randomMasks(rng, g)
		edits := Diff(a, b)
		if got, err := a.Apply(edits...); err != nil || !got.Equal(b) {
			t.Fatalf("applied %v: %v", edits, err)
		}
		undo := Diff(b, a)
		for i := range undo {
			if !undo[i].Added.Intersect(undo[i].Dropped).IsEmpty() {
				t.Fatalf("%v adds and drops the same", undo[i])
			}
		}
		if len(Diff(a, a)) != 0 {
			t.Fatal("masks differ from themselves")
		}
	}
	one := Dense(g)
	l := one.Layer(1)
	l.Channels = l.Channels.Without(3, 4, 5)
	two := one.With(1, l)
	edits := Diff(one, two)
	if got := fmt.Sprint(edits); got != "[layer 1 mlp -3-5]" {
		t.Errorf("diff is %s", got)
	}
	if back, err := two.Apply(edits[0].Inverse()); err != nil || !back.Equal(one) {
		t.Errorf("inverse: %v", err)
	}
}

func TestApplyRefuses(t *testing.T) {
	m := Dense(small())
	for _, e := range []Edit{
		{Layer: 2, Kind: Heads, Added: Empty(4), Dropped: Empty(4)},
		{Layer: 0, Kind: Heads, Added: Empty(5), Dropped: Empty(5)},
		{Layer: 0, Kind: QK, Group: 2, Added: Empty(8), Dropped: Empty(8)},
		{Layer: 0, Kind: VO, Group: 0, Added: Empty(8), Dropped: Full(8)},
		{Layer: 0, Kind: Kind(9)},
	} {
		if _, err := m.Apply(e); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", e, err)
		}
	}
}

func TestValidateNamesLayerAndUnit(t *testing.T) {
	g := small()
	dense := DenseLayer(g.Layers[0])
	for name, c := range map[string]struct {
		change func(l *Layer)
		want   string
	}{
		"heads":    {func(l *Layer) { l.Heads = Full(5) }, "layer 0: mask over 5 query heads, the layer has 4"},
		"channels": {func(l *Layer) { l.Channels = Full(1) }, "layer 0: mask over 1 MLP channels, the layer has 64"},
		"groups":   {func(l *Layer) { l.QK = []Set{Full(8)} }, "layer 0: Q/K channels of 1 KV groups, the layer has 2"},
		"in-head":  {func(l *Layer) { l.VO = []Set{Full(8), Full(7)} }, "layer 0: KV group 1: V/O mask over 7 channels, heads have 8"},
		"empty":    {func(l *Layer) { l.VO = []Set{Empty(8), Full(8)} }, "layer 0: KV group 0: heads are kept, but none of their V/O channels"},
	} {
		l := dense
		c.change(&l)
		m := Dense(g).With(0, l)
		if err := m.Validate(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	none := Dense(g)
	for i, lg := range g.Layers {
		none = none.With(i, Layer{Heads: Empty(lg.Heads), Channels: Empty(lg.FFN)})
	}
	if err := none.Validate(); !errors.Is(err, ErrInvalid) {
		t.Errorf("all dropped: %v", err)
	}
	if err := (Masks{}).Validate(); !errors.Is(err, ErrInvalid) {
		t.Errorf("zero value: %v", err)
	}
}

func TestParseMasksRefuses(t *testing.T) {
	g := small()
	good, err := Dense(g).MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"nothing":          {"", ErrSyntax},
		"other version":    {strings.Replace(string(good), "lathe-masks 1", "lathe-masks 2", 1), ErrSyntax},
		"cut short":        {string(good[:bytes.Index(good, []byte("layer 1"))]), ErrInvalid},
		"other vocabulary": {strings.Replace(string(good), "vocab=100", "vocab=101", 1), ErrInvalid},
		"other width":      {strings.Replace(string(good), "/64", "/65", 1), ErrInvalid},
		"unknown field":    {strings.Replace(string(good), "mlp=", "mpl=", 1), ErrSyntax},
		"repeated layer":   {strings.Replace(string(good), "layer 1", "layer 0", 1), ErrSyntax},
		"field twice":      {strings.Replace(string(good), "groups=2", "groups=2 groups=2", 1), ErrSyntax},
		"huge":             {strings.Replace(string(good), "all/64", "all/9999999", 1), ErrSyntax},
	} {
		if _, err := ParseMasks(g, []byte(c.text)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseMasks(f *testing.F) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 8 {
		text, err := randomMasks(rng, small()).MarshalText()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, bits := range []string{"bits:Bw", "bits:_w", "bits:", "bits:Bw==", "bits:////"} { // four units are half a byte
		f.Add([]byte("lathe-masks 1\nmodel arch=llama hidden=8 vocab=16 head=4\nlayer 0 heads=all/2 groups=1 mlp=" + bits + "/4\n"))
	}
	f.Add([]byte("lathe-masks 1\nmodel arch=llama hidden=8 vocab=16 head=4\nvocab 3/16 BwA=\nlayer 0 heads=all/2 groups=1 mlp=all/4\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var m Masks
		if err := m.UnmarshalText(text); err != nil {
			if !errors.Is(err, ErrSyntax) && !errors.Is(err, ErrInvalid) {
				t.Errorf("unknown kind of error: %v", err)
			}
			return
		}
		again, err := m.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Masks
		if err := back.UnmarshalText(again); err != nil || !back.Equal(m) {
			t.Errorf("%v: %q became %q", err, text, again)
		}
	})
}

func FuzzFromBits(f *testing.F) {
	g := small()
	rng := rand.New(rand.NewPCG(9, 10))
	for range 8 {
		f.Add(randomMasks(rng, g).AppendBits(nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := FromBits(g, data)
		if err != nil {
			return
		}
		if back, err := FromBits(g, m.AppendBits(nil)); err != nil || !back.Equal(m) {
			t.Errorf("%v: bits do not round-trip", err)
		}
	})
}

func TestOColumns(t *testing.T) {
	g := small()
	m, err := New(g, []Layer{
		{Heads: Of(4, 1, 2, 3), Channels: Full(64), QK: []Set{Of(8, 0, 1), Full(8)}, VO: []Set{Full(8), Of(8, 7)}},
		DenseLayer(g.Layers[1]),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(m.OColumns(0)), "[8 9 10 11 12 13 14 15 23 31]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if n := len(m.OColumns(1)); n != 32 {
		t.Errorf("dense layer has %d columns of W_O", n)
	}
}
