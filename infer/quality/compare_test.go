package quality

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/fake"
)

// asLogits returns a model's distributions over its whole vocabulary as logits, in parts of three positions. A constant, which a
// distribution does not depend on, is added to them.
func asLogits(m infer.Model) LogitSource {
	return func(ctx context.Context, window []int32, visit func(int, []float32) error) error {
		all := make([]int32, m.Info().Vocab)
		for i := range all {
			all[i] = int32(i)
		}
		positions, err := m.Distributions(ctx, [][]int32{window}, infer.DistributionOptions{At: [][][]int32{slices.Repeat([][]int32{all}, len(window)-1)}})
		if err != nil {
			return err
		}
		rows := append(positions[0], positions[0][0]) // what follows the last token is not scored
		for first := 0; first < len(rows); first += 3 {
			var part []float32
			for _, p := range rows[first:min(first+3, len(rows))] {
				for _, v := range p.At {
					part = append(part, v+7)
				}
			}
			if err := visit(first, part); err != nil {
				return err
			}
		}
		return nil
	}
}

// TestCompare compares two models of 259 tokens with sums over the whole vocabulary, in float64. All but three tokens are compared
// one by one.
func TestCompare(t *testing.T) {
	a, b := model(t, ""), model(t, "Another text makes another model of the same kind. The lathe is not in it, or hardly.")
	windows := []Window{{tokenize(t, a, fake.DefaultText[:80]), 1}, {tokenize(t, a, "The blade and the model."), 9}}
	compare := func(reference, model Predictor) Comparison {
		t.Helper()
		gates, last := 0, infer.Progress{}
		c, err := Compare(t.Context(), windows, reference, model, PerplexityOptions{
			Gate: func(context.Context) error { gates++; return nil },
			Progress: func(p infer.Progress) {
				if p.Done < last.Done || p.Done > p.Total {
					t.Errorf("progress %+v after %+v", p, last)
				}
				last = p
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if gates != len(windows) || last.Done != last.Total {
			t.Errorf("%d gates, progress ends at %+v", gates, last)
		}
		return c
	}
	if same := compare(ModelPredictor(a), ModelPredictor(a)); same.KL > 1e-6 || same.Agreement != 1 || same.AgreementErr != 0 ||
		same.Relative != 1 || same.RelativeErr != 0 || same.MaxDifference != 0 {
		t.Errorf("with itself: %+v", same)
	}

	all := make([]int32, a.Info().Vocab)
	for i := range all {
		all[i] = int32(i)
	}
	var kl, agree, rise mean
	most := 0.0
	for _, w := range windows {
		n := len(w.Tokens) - w.From
		o := infer.DistributionOptions{From: []int{w.From}, At: [][][]int32{slices.Repeat([][]int32{all}, n)}, Top: 1}
		p, err1 := a.Distributions(t.Context(), [][]int32{w.Tokens}, o)
		q, err2 := b.Distributions(t.Context(), [][]int32{w.Tokens}, o)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			sum := 0.0
			for id := range all {
				lp, lq := float64(p[0][i].At[id]), float64(q[0][i].At[id])
				sum += math.Exp(lp) * (lp - lq)
			}
			kl.add(sum)
			most = max(most, sum)
			same := 0.0
			if p[0][i].Top[0] == q[0][i].Top[0] {
				same = 1
			}
			agree.add(same)
			rise.add(float64(q[0][i].NLL) - float64(p[0][i].NLL))
		}
	}
	for name, got := range map[string]Comparison{
		"models": compare(ModelPredictor(a), ModelPredictor(b)), "logits": compare(LogitPredictor(len(all), asLogits(a)), LogitPredictor(len(all), asLogits(b))),
	} {
		near(t, name+": KL", got.KL, kl.mean(), 1e-4)
		near(t, name+": error of KL", got.KLErr, kl.err(), 1e-4)
		near(t, name+": largest KL", got.MaxKL, most, 1e-3)
		near(t, name+": agreement", got.Agreement, agree.mean(), 1e-12)
		near(t, name+": relative", got.Relative, math.Exp(rise.mean()), 1e-5)
		near(t, name+": error of relative", got.RelativeErr, math.Exp(rise.mean())*rise.err(), 1e-4)
		near(t, name+": perplexities", got.Relative, got.Model.Perplexity/got.Reference.Perplexity, 1e-9)
		if got.Model.Tokens != kl.n || !(got.KL > 0.1) || !(got.RelativeErr > 0) || !(got.MaxDifference > 0.1) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestCompareRefuses(t *testing.T) {
	m := model(t, "")
	good := ModelPredictor(m)
	windows := []Window{{tokenize(t, m, "The blade and the model."), 1}}
	changed := func(change func([]infer.Position) []infer.Position) Predictor {
		return func(ctx context.Context, w Window, ask Ask, progress func(int)) ([]infer.Position, error) {
			p, err := good(ctx, w, ask, progress)
			return change(p), err
		}
	}
	for name, bad := range map[string]Predictor{
		"too few": changed(func(p []infer.Position) []infer.Position { return p[1:] }),
		"no top":  changed(func(p []infer.Position) []infer.Position { p[2].Top = nil; return p }),
		"NaN":     changed(func(p []infer.Position) []infer.Position { p[2].NLL = float32(math.NaN()); return p }),
		"NaN logits": LogitPredictor(2, func(_ context.Context, _ []int32, visit func(int, []float32) error) error {
			return visit(0, []float32{1, float32(math.NaN())})
		}),
		"other error": func(context.Context, Window, Ask, func(int)) ([]infer.Position, error) { return nil, errors.New("no") },
	} {
		for _, pair := range [][2]Predictor{{bad, good}, {good, bad}} {
			if c, err := Compare(t.Context(), windows, pair[0], pair[1], PerplexityOptions{}); err == nil {
				t.Errorf("%s: %+v", name, c)
			}
		}
	}
	if _, err := Compare(t.Context(), nil, good, good, PerplexityOptions{}); err == nil {
		t.Error("nothing was compared")
	}
}

func TestDivergence(t *testing.T) {
	logs := func(p ...float64) []float32 {
		out := make([]float32, len(p))
		for i := range p {
			out[i] = float32(math.Log(p[i]))
		}
		return out
	}
	near(t, "two tokens and a rest", divergence(logs(0.5, 0.3), logs(0.25, 0.25)), 0.5*math.Log(2)+0.3*math.Log(1.2)+0.2*math.Log(0.4), 1e-6)
	near(t, "equal", divergence(logs(0.5, 0.3), logs(0.5, 0.3)), 0, 1e-7)
	near(t, "nothing kept", divergence(nil, nil), 0, 0)
	if d := divergence(logs(0.5), logs(1)); math.IsInf(d, 0) || d < 1 {
		t.Errorf("a rest without probability: %v", d)
	}
}
