package explorertest

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// vocabulary drops an entry at least, and scores, writes, reads and runs what is left.
func (c contract) vocabulary(t *testing.T) {
	w := watch(t)
	all := c.m.Info().Vocab
	kept, made, err := c.m.TrimVocab(t.Context(), explorer.VocabSize{Keep: all - 1}, c.Calibration, w)
	if err != nil {
		t.Fatal(err)
	}
	w.worked()
	if kept.N() != all || kept.Len() != all-1 || made.Kept != all-1 || made.Of != all || made.Least < 1 || made.Least > made.Kept || made.Text.SHA256 == "" {
		t.Errorf("%d of %d entries, %+v", kept.Len(), kept.N(), made)
	}
	if made.Tokens <= 0 || made.Covered <= 0 || made.Covered > 1 || made.TokensPerWord <= 0 || made.Longer() < 1 || made.CharsPerToken <= 0 || made.CharsPerToken > made.DenseCharsPerToken || len(made.Scripts) == 0 {
		t.Errorf("%+v", made)
	}
	for i, p := range made.Curve {
		if i > 0 && (p.Kept > made.Curve[i-1].Kept || p.Bytes > made.Curve[i-1].Bytes || p.Longer < made.Curve[i-1].Longer) {
			t.Errorf("point %d of the curve is %+v after %+v", i, p, made.Curve[i-1])
		}
	}
	if len(made.Curve) < 2 || made.Curve[0].Kept != all || made.Curve[0].Longer != 1 {
		t.Errorf("a curve of %+v", made.Curve)
	}
	masks, err := c.without(0).WithVocab(kept)
	if err != nil {
		t.Fatal(err)
	}
	s := gguf.Subnet{Masks: masks}
	got, err := c.m.Score(t.Context(), s, explorer.ScoreRequest{Seq: 32, Windows: 2}, watch(t))
	if err != nil || got.Conditions.Vocab != all-1 || got.BitsPerByte() <= 0 {
		t.Errorf("%g bits per byte under %+v, error %v", got.BitsPerByte(), got.Conditions, err)
	}
	path := filepath.Join(t.TempDir(), "small.gguf")
	if _, err := c.m.Write(t.Context(), s, path, "", watch(t)); err != nil {
		t.Fatal(err)
	}
	if back, err := c.m.Read(t.Context(), path); err != nil || !back.Masks.Equal(masks) {
		t.Errorf("read back other masks: %v", err)
	}
	model, err := c.m.Load(t.Context(), infer.LoadOptions{Path: path, Context: 256, FlashAttention: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := model.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := model.Chat(t.Context(), []infer.Message{{Role: infer.User, Content: "the"}}, infer.Sampling{MaxTokens: 2}, nil); err != nil {
		t.Errorf("chat: %v", err)
	}
	if _, _, err := c.m.TrimVocab(t.Context(), explorer.VocabSize{Keep: 1}, c.Calibration, watch(t)); !errors.Is(err, explorer.ErrInvalid) {
		t.Errorf("one entry: %v", err)
	}
	lost := c.Calibration
	lost.Text = c.Missing
	if _, _, err := c.m.TrimVocab(t.Context(), explorer.VocabSize{Share: 0.9}, lost, watch(t)); !errors.Is(err, explorer.ErrText) {
		t.Errorf("a missing text: %v", err)
	}
}
