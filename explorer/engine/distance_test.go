package engine

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// TestDistance compares the distance of a subnet from the dense model with sums over the whole vocabulary in float64, of the logits of
// both, in each engine and from a file.
func TestDistance(t *testing.T) {
	b := newEngine(t)
	recipe := gguftest.Tiny("llama")
	recipe.Type = gguf.F32
	m, mon, ctx := open(t, b, recipe), &quiet{}, t.Context()
	masks := subnet.Dense(m.geometry())
	l := masks.Layer(1)
	l.Channels = subnet.Range(l.Channels.N(), 0, 32)
	cut := gguf.Subnet{Masks: masks.With(1, l)}

	dm, err := m.weights(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := dm.Subnet(ctx, cut)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	dense := dm.Dense()
	defer dense.Close()
	p, err := m.passage(ctx, b.options.Text, take{seq: 64, windows: 2})
	if err != nil {
		t.Fatal(err)
	}
	kl, same, rise, n := 0.0, 0.0, 0.0, 0.0
	vocab := recipe.Vocab
	probabilities := func(logits []float32) []float64 { // logarithms
		sum := 0.0
		for _, v := range logits {
			sum += math.Exp(float64(v))
		}
		out := make([]float64, len(logits))
		for i, v := range logits {
			out[i] = float64(v) - math.Log(sum)
		}
		return out
	}
	for _, w := range p.windows {
		of, err1 := dm.Logits(ctx, dense, w)
		got, err2 := dm.Logits(ctx, sub, w)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		for i := range len(w) - 1 {
			x, y := of[i*vocab:(i+1)*vocab], got[i*vocab:(i+1)*vocab]
			lp, lq := probabilities(x), probabilities(y)
			for id := range lp {
				kl += math.Exp(lp[id]) * (lp[id] - lq[id])
			}
			if slices.Index(x, slices.Max(x)) == slices.Index(y, slices.Max(y)) {
				same++
			}
			rise += lp[w[i+1]] - lq[w[i+1]]
			n++
		}
	}
	other := filepath.Join(t.TempDir(), "dense.gguf")
	if _, err := m.Write(ctx, gguf.Subnet{Masks: masks}, other, "F32", mon); err != nil {
		t.Fatal(err)
	}
	for _, r := range []explorer.ScoreRequest{
		{Engine: explorer.EngineDecoder, Against: explorer.AgainstDense}, {Engine: explorer.EngineLlama, Against: explorer.AgainstDense},
		{Engine: explorer.EngineDecoder, Against: other}, {Engine: explorer.EngineLlama, Against: other},
	} {
		r.Seq, r.Windows = 64, 2
		what := r.Engine + " against " + filepath.Base(r.Against)
		got, err := m.Score(ctx, cut, r, mon)
		if err != nil {
			t.Fatal(err)
		}
		d := got.Distance
		// 64 of 320 tokens are merged into one, which lowers the divergence by 3 %.
		if near(t, what+": KL", d.KL, kl/n, 5e-2); d.KL > kl/n*1.001 || !(d.KL > 0.01) {
			t.Errorf("%s: KL %g, over the whole vocabulary %g", what, d.KL, kl/n)
		}
		near(t, what+": agreement", d.Agreement, same/n, 1e-2)
		near(t, what+": relative", d.Relative, math.Exp(rise/n), 1e-3)
		near(t, what+": perplexities", got.Perplexity/d.Reference, d.Relative, 1e-6)
		if got.Conditions.Tokens != int(n) || !(d.KLError > 0 && d.AgreementError > 0 && d.RelativeError > 0) || d.From != r.Against {
			t.Errorf("%s: %+v, %+v", what, got, d)
		}
		if want := r.Against == explorer.AgainstDense; (got.Dense > 0) != want {
			t.Errorf("%s: dense perplexity %g", what, got.Dense)
		}
	}
	recipe.Vocab++
	stranger := gguftest.Write(t, recipe)
	for _, engine := range []string{explorer.EngineDecoder, explorer.EngineLlama} {
		_, err := m.Score(ctx, cut, explorer.ScoreRequest{Seq: 64, Windows: 2, Engine: engine, Against: stranger}, mon)
		if !errors.Is(err, explorer.ErrUnsupported) {
			t.Errorf("%s: another vocabulary: %v", engine, err)
		}
	}
}

// TestStride: overlapping windows score each token once, with more context than separate windows give.
func TestStride(t *testing.T) {
	m := open(t, newEngine(t), gguftest.Tiny("llama"))
	for _, engine := range []string{explorer.EngineDecoder, explorer.EngineLlama} {
		r := explorer.ScoreRequest{Seq: 64, Windows: 5, Stride: 16, BOS: explorer.BOSNone, Engine: engine}
		got, err := m.Score(t.Context(), gguf.Subnet{Masks: subnet.Dense(m.geometry())}, r, &quiet{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := m.passage(t.Context(), m.engine.options.Text, take{seq: 128, windows: 1, bos: explorer.BOSNone})
		if err != nil {
			t.Fatal(err)
		}
		dm, err := m.weights(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		dense := dm.Dense()
		defer dense.Close()
		sum := 0.0
		for i := range 5 { // windows 16 apart by hand
			logProbs, err := dm.LogProbs(t.Context(), dense, p.windows[0][16*i:16*i+64])
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				logProbs = logProbs[64-16-1:]
			}
			for _, v := range logProbs {
				sum -= float64(v)
			}
		}
		if c := got.Conditions; c.Tokens != 63+4*16 || c.Stride != 16 || c.Windows != 5 {
			t.Errorf("%s: conditions %+v", engine, c)
		}
		near(t, engine, got.NLL, sum/(63+4*16), 2e-3)
		r.Stride = 65
		if _, err := m.Score(t.Context(), gguf.Subnet{Masks: subnet.Dense(m.geometry())}, r, &quiet{}); !errors.Is(err, explorer.ErrInvalid) {
			t.Errorf("a stride beyond the window: %v", err)
		}
	}
}
