package subnet

import (
	"errors"
	"strings"
	"testing"
)

// trimmed returns masks that keep every third entry of the vocabulary and drop units.
func trimmed(t *testing.T) Masks {
	t.Helper()
	g := small()
	kept := Empty(g.Vocab)
	for i := 0; i < g.Vocab; i += 3 {
		kept = kept.With(i)
	}
	m, err := Dense(g).With(0, Layer{Heads: Of(4, 0, 1), Channels: Range(64, 0, 32)}).WithVocab(kept)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestVocabRoundTrips(t *testing.T) {
	m := trimmed(t)
	text, err := m.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for _, read := range []func() (Masks, error){
		func() (Masks, error) { return ParseMasks(m.Geometry(), text) },
		func() (back Masks, err error) { err = back.UnmarshalText(text); return back, err },
		func() (Masks, error) { return FromBits(m.Geometry(), m.AppendBits(nil)) },
		func() (Masks, error) { return m.Apply() },
	} {
		back, err := read()
		if err != nil || !back.Equal(m) || !back.Vocab().Equal(m.Vocab()) || back.VocabLen() != 34 {
			t.Errorf("%d entries, error %v", back.VocabLen(), err)
		}
	}
	if whole := m.WithAllVocab(); whole.TrimsVocab() || whole.Equal(m) || whole.VocabLen() != 100 || strings.Contains(string(text), vocabLine) == strings.Contains(whole.VocabText(), vocabLine) {
		t.Errorf("the whole vocabulary: %d entries, %q", whole.VocabLen(), whole.VocabText())
	}
	if full, err := m.WithVocab(Full(100)); err != nil || full.TrimsVocab() || !full.Equal(m.WithAllVocab()) {
		t.Errorf("all entries are not the whole vocabulary: %v", err)
	}
}

func TestVocabChangesSizes(t *testing.T) {
	m := trimmed(t)
	whole := m.WithAllVocab()
	a, b := m.Size(), whole.Size()
	g := m.Geometry()
	if a.BlockParams != b.BlockParams || a.Ratio != b.Ratio || b.Params-a.Params != int64(66*g.Hidden) || a.DenseParams != b.DenseParams {
		t.Errorf("%+v with 34 of 100 entries, %+v with all", a, b)
	}
	if saved, want := whole.GGUFBytes("F16")-m.GGUFBytes("F16"), int64(66*g.Hidden*2); saved != want {
		t.Errorf("%d bytes saved, want %d", saved, want)
	}
	_, with := m.FLOPs(64)
	if _, all := whole.FLOPs(64); all-with != float64(2*66*g.Hidden) {
		t.Errorf("%g operations fewer", all-with)
	}
}

func TestVocabErrors(t *testing.T) {
	m := trimmed(t)
	for name, kept := range map[string]Set{"none": Empty(100), "another vocabulary": Full(99)} {
		if _, err := m.WithVocab(kept); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	line := m.VocabText()
	for name, bad := range map[string]struct {
		line string
		want error
	}{
		"other count":     {strings.Replace(line, "34/", "35/", 1), ErrSyntax},
		"other size":      {strings.Replace(line, "/100", "/101", 1), ErrInvalid},
		"no bits":         {"vocab 34/100", ErrSyntax},
		"no base64":       {"vocab 34/100 ~~~~", ErrSyntax},
		"too few bits":    {line[:len(line)-4], ErrSyntax},
		"huge":            {"vocab 1/999999999 AA==", ErrSyntax},
		"another keyword": {"words 34/100 AA==", ErrSyntax},
	} {
		if _, err := ParseVocab(100, bad.line); !errors.Is(err, bad.want) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	text, err := m.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	late := strings.Replace(string(text), line+"\n", "", 1) + line + "\n"
	if _, err := ParseMasks(m.Geometry(), []byte(late)); !errors.Is(err, ErrSyntax) {
		t.Errorf("a vocabulary after the layers: error %v", err)
	}
	bits := m.AppendBits(nil)
	if _, err := FromBits(m.Geometry(), bits[:len(bits)-1]); !errors.Is(err, ErrSyntax) {
		t.Errorf("bits that end early: error %v", err)
	}
}
