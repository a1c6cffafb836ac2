package explorer_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/draft"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

func TestParseVocabSize(t *testing.T) {
	for text, want := range map[string]explorer.VocabSize{"24000": {Keep: 24000}, " 0.999 ": {Share: 0.999}, "1e-1": {Share: 0.1}} {
		if got, err := explorer.ParseVocabSize(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "-5", "1.0", "0.0", "1.5", "half", "NaN", "99999999999"} {
		if _, err := explorer.ParseVocabSize(text); !errors.Is(err, explorer.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A smaller vocabulary is part of a subnet: of its size, its file, the draft that is made of it, and the journal.
func TestTrimVocab(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "workspace")
	e := explorertest.Open(t, explorertest.New(), dir)
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.8, Name: "thin", Vocab: explorer.VocabSize{Share: 0.5}})
	whole := explorertest.Do(t, e, explorer.TrimVocab{Subnet: explorer.DenseID, Vocab: explorer.VocabSize{Keep: 24000}})
	s := e.Snapshot()
	thin, _ := s.Subnet(cut.Subnet)
	n, ok := s.Subnet(whole.Subnet)
	if !ok || n.Name != "dense vocabulary 24000" || n.Origin != explorer.Trimmed || n.Masks.VocabLen() != 24000 || n.Parent != explorer.DenseID || n.Method.Vocab == nil || n.Method.Vocab.Kept != 24000 {
		t.Fatalf("%+v", n)
	}
	if thin.Masks.VocabLen() != 24576 || thin.Refit == "" || thin.Method.Vocab == nil || thin.Origin != explorer.OneShot {
		t.Errorf("the cut has %d entries, %+v", thin.Masks.VocabLen(), thin.Method)
	}
	if n.Size.Ratio != 1 || n.Size.RatioAll >= 1 || n.Bytes >= s.ExportBytes(explorer.DenseID, "") {
		t.Errorf("size %+v, %d bytes", n.Size, n.Bytes)
	}
	again := explorertest.Do(t, e, explorer.TrimVocab{Subnet: thin.ID, Vocab: explorer.VocabSize{Keep: 2000}, Name: "again"})
	if n, _ := e.Snapshot().Subnet(again.Subnet); n.Masks.VocabLen() != 2000 || n.Refit == "" || n.Method.Target != 0.8 || !n.Masks.WithAllVocab().Equal(thin.Masks.WithAllVocab()) {
		t.Errorf("%+v", n)
	}

	explorertest.Do(t, e, explorer.Checkout{Subnet: n.ID})
	explorertest.Do(t, e, explorer.Edit{Mutations: []draft.Mutation{draft.DropMLP{Layers: []int{4}}}})
	if d := e.Snapshot().Draft; d.Masks.VocabLen() != 24000 {
		t.Errorf("the draft has %d entries", d.Masks.VocabLen())
	}
	explorertest.Do(t, e, explorer.Checkout{Subnet: explorer.DenseID})
	explorertest.Do(t, e, explorer.Checkout{Subnet: n.ID, Keep: true})
	d := e.Snapshot().Draft
	if last := d.Steps[len(d.Steps)-1]; d.Masks.VocabLen() != 24000 || last.Summary != "vocabulary 49152 → 24000" {
		t.Errorf("%d entries after %q", d.Masks.VocabLen(), last.Summary)
	}
	explorertest.Do(t, e, explorer.Undo{})
	if e.Snapshot().Draft.Masks.TrimsVocab() {
		t.Error("undo did not restore the vocabulary")
	}
	explorertest.Do(t, e, explorer.Redo{})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = explorertest.Open(t, explorertest.New(), dir)
	s = e.Snapshot()
	if back, ok := s.Subnet(n.ID); !ok || !back.Masks.Equal(n.Masks) || back.Method.Vocab.TokensPerWord != n.Method.Vocab.TokensPerWord || !s.Draft.Masks.Equal(n.Masks) {
		t.Errorf("restored %+v, the draft with %d entries", back.Method.Vocab, s.Draft.Masks.VocabLen())
	}
}

func TestExportWithAnotherVocabulary(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), "")
	path := filepath.Join(t.TempDir(), "small.gguf")
	r := explorertest.Do(t, e, explorer.Export{Subnet: explorer.DenseID, Path: path, Vocab: explorer.VocabSize{Keep: 3000}})
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	masks, err := subnet.ParseMasks(e.Snapshot().Model.Geometry, text)
	if err != nil || masks.VocabLen() != 3000 {
		t.Errorf("%d entries in the file, error %v", masks.VocabLen(), err)
	}
	if j, _ := e.Snapshot().Job(r.Job); j.Vocab == nil || j.Vocab.Kept != 3000 || len(e.Snapshot().Subnets) != 0 {
		t.Errorf("job %+v", j)
	}
}

// Perplexities per token do not compare across vocabularies: bits per byte of both are measured, and the ratio is of those.
func TestMeasureTrimmed(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), "")
	n := explorertest.Do(t, e, explorer.TrimVocab{Subnet: explorer.DenseID, Vocab: explorer.VocabSize{Keep: 24000}}).Subnet
	explorertest.Do(t, e, explorer.Measure{Subnet: n, Against: explorer.AgainstDense})
	s := e.Snapshot()
	got, _ := s.Subnet(n)
	m := got.Measurements[0]
	if m.Conditions.Vocab != 24000 || m.Distance != nil || m.Dense != 0 || m.BitsPerByte() <= m.DenseBits || m.DenseBits <= 0 {
		t.Fatalf("%+v", m)
	}
	if len(s.Model.Measurements) != 1 || s.Model.Measurements[0].BitsPerByte() != m.DenseBits {
		t.Errorf("the dense model: %+v", s.Model.Measurements)
	}
	want := math.Exp((m.BitsPerByte() - m.DenseBits) * math.Ln2 * float64(m.Bytes) / float64(m.Conditions.Tokens))
	if f := got.Figure(); math.Abs(f.Relative-want) > 1e-12 || f.Relative <= 1 {
		t.Errorf("figure %+v, want %g", f, want)
	}
	explorertest.Do(t, e, explorer.Measure{Subnet: n}) // the dense model's is known
	if s := e.Snapshot(); len(s.Model.Measurements) != 1 {
		t.Errorf("the dense model was measured %d times", len(s.Model.Measurements))
	}
	id := start(t, e, explorer.Measure{Subnet: n, Against: "other.gguf"})
	untilState(t, e, id, explorer.Failed)
	if j, _ := e.Snapshot().Job(id); !errors.Is(j.Cause, explorer.ErrUnsupported) {
		t.Errorf("against another file: %v", j.Cause)
	}
}

func TestTrimVocabRefused(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), "")
	for name, c := range map[string]struct {
		command explorer.Command
		want    string
	}{
		"nothing":       {explorer.TrimVocab{Subnet: explorer.DenseID}, "0 entries"},
		"both":          {explorer.TrimVocab{Subnet: explorer.DenseID, Vocab: explorer.VocabSize{Keep: 5, Share: 0.5}}, "both"},
		"too many":      {explorer.TrimVocab{Subnet: explorer.DenseID, Vocab: explorer.VocabSize{Keep: 49153}}, "from 1 to 49152"},
		"share":         {explorer.TrimVocab{Subnet: explorer.DenseID, Vocab: explorer.VocabSize{Share: 1}}, "(0, 1)"},
		"cut":           {explorer.Cut{Target: 0.5, Vocab: explorer.VocabSize{Keep: -3}}, "-3 entries"},
		"export":        {explorer.Export{Subnet: explorer.DenseID, Path: "x", Vocab: explorer.VocabSize{Share: 2}}, "share of 2"},
		"unknown share": {explorer.TrimVocab{Subnet: explorer.DenseID, Vocab: explorer.VocabSize{Share: math.NaN()}}, "NaN"},
	} {
		if _, err := e.Do(t.Context(), explorertest.Owner, c.command); !errors.Is(err, explorer.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := e.Do(t.Context(), explorertest.Owner, explorer.TrimVocab{Subnet: "s9", Vocab: explorer.VocabSize{Keep: 5000}}); !errors.Is(err, explorer.ErrNotFound) {
		t.Errorf("an unknown subnet: %v", err)
	}
	id := start(t, e, explorer.TrimVocab{Subnet: explorer.DenseID, Vocab: explorer.VocabSize{Keep: 10}})
	untilState(t, e, id, explorer.Failed)
	if j, _ := e.Snapshot().Job(id); !errors.Is(j.Cause, explorer.ErrInvalid) || !strings.Contains(j.Err, `"user" (chat template)`) {
		t.Errorf("%+v", j)
	}
}
