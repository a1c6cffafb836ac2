package quality

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/fake"
)

// started is a model whose tokenizer adds the start token or not.
type started struct {
	infer.Model
	adds bool
}

func (m started) Info() infer.Info {
	info := m.Model.Info()
	info.AddBOS = m.adds
	return info
}

// TestEvaluateBOS: as in the harness the tokenizer decides whether texts begin with the start token, or the caller, and the
// result reports what was done. The model gives the first answer after a start token, and the second one without.
func TestEvaluateBOS(t *testing.T) {
	e := fake.New(fake.Options{Logits: func(past []int32, logits []float32) {
		for i := range logits {
			logits[i] = -10
		}
		if start := past[0] > 255; start {
			logits['a'] = 0
		} else {
			logits['b'] = 0
		}
	}})
	t.Cleanup(func() { e.Close() })
	m, err := e.Load(t.Context(), infer.Defaults("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	task := Task{Name: "toy", Items: []Item{item(0, "Which?", "a", "b")}}
	for _, tt := range []struct {
		adds bool
		bos  string
		want bool
	}{
		{true, "", true}, {true, BOSAuto, true}, {false, "", false}, {false, BOSAuto, false},
		{true, BOSNone, false}, {false, BOSEvery, true},
	} {
		got, err := Evaluate(t.Context(), started{m, tt.adds}, task, EvalOptions{BOS: tt.bos})
		if err != nil || got.BOS != tt.want || (got.Acc == 1) != tt.want {
			t.Errorf("%+v: %+v, %v", tt, got, err)
		}
	}
	if _, err := Evaluate(t.Context(), m, task, EvalOptions{BOS: BOSFirst}); !errors.Is(err, infer.ErrInvalid) {
		t.Errorf("a choice that texts do not have: %v", err)
	}
}

// noNumbers is a model whose likelihoods are NaN or infinite.
type noNumbers struct {
	infer.Model
	nll float32
}

func (m noNumbers) Distributions(ctx context.Context, windows [][]int32, o infer.DistributionOptions) ([][]infer.Position, error) {
	out, err := m.Model.Distributions(ctx, windows, o)
	out[1][0].NLL = m.nll
	return out, err
}

// TestEvaluateNotFinite: a likelihood that is no number chooses no answer.
func TestEvaluateNotFinite(t *testing.T) {
	task := Task{Name: "toy", Items: []Item{item(0, "Which?", "a", "b")}}
	for _, nll := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		_, err := Evaluate(t.Context(), noNumbers{model(t, ""), float32(nll)}, task, EvalOptions{})
		if !errors.Is(err, infer.ErrNotFinite) || !strings.Contains(err.Error(), "question 1: choice 2: the log-likelihood of token 6 of the text is") {
			t.Errorf("%v: %v", nll, err)
		}
	}
}

// TestMeanIsExact: the accuracy is a quotient of counts, not a running mean.
func TestMeanIsExact(t *testing.T) {
	var m mean
	for i := range 200 {
		m.add(map[bool]float64{true: 1}[i%50 < 9])
	}
	if m.mean() != 0.18 {
		t.Errorf("36 of 200 are %v", m.mean())
	}
}
