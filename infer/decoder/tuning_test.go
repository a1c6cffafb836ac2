package decoder_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// TestTuning compares divergences and derivatives with the plain loops on folded weights, for subnets of every family.
func TestTuning(t *testing.T) {
	for _, family := range gguftest.Families() {
		t.Run(family.Name, func(t *testing.T) {
			f := gguftest.Open(t, family.Model)
			n := newNaive(t, f)
			for device, dev := range devices(t) {
				m := load(t, dev, f)
				windows := [][]int32{window(5, 9, m.Geometry().Vocab), window(6, 6, m.Geometry().Vocab)}
				for name, spec := range cuts(t, m.Geometry()) {
					for _, o := range []decoder.TuningOptions{{}, {Bias: true}, {Bias: true, Rank: 3, Seed: 7}, {Rank: 1}} {
						if o.Rank == 1 && name != "heads" && name != "in head" || o.Bias != (name == "refit") || name == "dense" || name == "channels" || device == "xla" && (name != "refit" || family.Name != "llama") {
							continue
						}
						s, err := m.Subnet(t.Context(), spec)
						if err != nil {
							t.Fatal(err)
						}
						tuning, err := m.NewTuning(t.Context(), s, windows[0], o)
						if err != nil {
							t.Fatal(err)
						}
						r := rand.New(rand.NewPCG(9, 9))
						values := random(r, tuning.Len(), 0.1)
						loss := func() float64 {
							folded, err := tuning.Fold(t.Context(), spec, values)
							if err != nil {
								t.Fatal(err)
							}
							return n.divergence(n.cut(folded), windows)
						}
						got, err := tuning.Divergence(t.Context(), values, windows)
						if want := loss(); err != nil || math.Abs(got-want) > 1e-4*(1+want) {
							t.Errorf("%s, %s, %+v: divergence %g, %v, want %g", device, name, o, got, err, want)
						}
						if err := tuning.Hold(t.Context(), windows); err != nil {
							t.Fatal(err)
						}
						if held, err := tuning.Divergence(t.Context(), values, windows); err != nil || held != got {
							t.Errorf("%s, %s, %+v: divergence %g, %v, with the dense model's states held %g", device, name, o, got, err, held)
						}
						tuning.Close()
						again, gradient, err := tuning.Gradient(t.Context(), values, windows)
						if err != nil || math.Abs(again-got) > 1e-6*(1+got) || len(gradient) != len(values) {
							t.Fatalf("%s, %s, %+v: divergence %g beside %d derivatives, %v, want %g", device, name, o, again, len(gradient), err, got)
						}
						var size float64
						for _, v := range gradient {
							size = max(size, math.Abs(v))
						}
						for range min(6, len(values)) {
							i := r.IntN(len(values))
							const h = 2e-3
							v := values[i]
							values[i] = v + h
							up := loss()
							values[i] = v - h
							want := (up - loss()) / (2 * h)
							values[i] = v
							if math.Abs(gradient[i]-want) > 5e-3*size+1e-6 {
								t.Errorf("%s, %s, %+v: derivative %d of %d is %g, want %g", device, name, o, i, len(values), gradient[i], want)
							}
						}
						s.Close()
					}
				}
			}
		})
	}
}

// divergence returns the mean divergence of a model from n over all tokens of windows, in nats.
func (n *naive) divergence(other *naive, windows [][]int32) float64 {
	var sum float64
	var tokens int
	for _, w := range windows {
		q := other.logits(w)
		for t, p := range n.logits(w) {
			lp, lq := logSumExp(p), logSumExp(q[t])
			for i := range p {
				sum += math.Exp(p[i]-lp) * (p[i] - lp - q[t][i] + lq)
			}
			tokens++
		}
	}
	return sum / float64(tokens)
}
