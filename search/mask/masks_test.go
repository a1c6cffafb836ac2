package mask

import "testing"

// small is a two-layer model with two KV groups of two heads of 8 channels.
func small() *Geometry {
	return &Geometry{
		Arch: "llama", Hidden: 32, Vocab: 100, HeadDim: 8, Tied: true,
		Layers: []LayerGeometry{{4, 2, 64}, {4, 2, 96}},
	}
}

func TestTextRoundTrip(t *testing.T) {
	g := small()
	m, err := New(g, []Layer{
		{Heads: Of(4, 0, 2, 3), Channels: Range(64, 32, 64)},
		{Heads: Full(4), Channels: Empty(96), VO: []Set{Of(8, 1, 3), Full(8)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := m.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseMasks(g, text)
	if err != nil || !back.Equal(m) {
		t.Fatalf("read back %v from\n%s", err, text)
	}
	var free Masks
	if err := free.UnmarshalText(text); err != nil || !free.Equal(m) {
		t.Fatalf("unmarshalled %v from\n%s", err, text)
	}
}
