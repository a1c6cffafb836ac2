package decoder_test

import (
	"math"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// divergence is what a scorer should find of one window: the sum over its tokens but the last of the divergence of q
// from p, with all but the k likeliest tokens of p taken as one.
func divergence(p, q *naive, w []int32, k int) float64 {
	var total float64
	lp, lq := p.logits(w), q.logits(w)
	for t := range len(w) - 1 {
		order := make([]int, len(lp[t]))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int {
			if lp[t][a] > lp[t][b] {
				return -1
			}
			return 1
		})
		sp, sq := logSumExp(lp[t]), logSumExp(lq[t])
		restP, restQ := 1.0, 1.0
		for _, i := range order[:k] {
			a, b := lp[t][i]-sp, lq[t][i]-sq
			total += math.Exp(a) * (a - b)
			restP -= math.Exp(a)
			restQ -= math.Exp(b)
		}
		total += restP * (math.Log(restP) - math.Log(restQ))
	}
	return total
}

func TestScorer(t *testing.T) {
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	ref := newNaive(t, f)
	windows := [][]int32{window(1, 40, 320), window(2, 30, 320)}
	for name, dev := range devices(t) {
		t.Run(name, func(t *testing.T) {
			m := load(t, dev, f, decoder.WithWidthBucket(8))
			sc, err := m.NewScorer(windows, decoder.ScorerOptions{TopK: 50})
			if err != nil {
				t.Fatal(err)
			}
			defer sc.Close()
			for cut, spec := range cuts(t, m.Geometry()) {
				s, err := m.Subnet(t.Context(), spec)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				for _, text := range []decoder.Text{{Windows: []int{0, 1}}, {Windows: []int{1}, Length: 12}} {
					got, err := sc.Score(t.Context(), s, text)
					if err != nil {
						t.Fatal(err)
					}
					other := ref.cut(spec)
					var nll, kl float64
					var tokens int
					for _, i := range text.Windows {
						w := windows[i]
						if text.Length > 0 {
							w = w[:text.Length]
						}
						for _, v := range other.logProbs(w) {
							nll -= v
						}
						kl += divergence(ref, other, w, 50)
						tokens += len(w)
					}
					if math.Abs(got.NLL-nll) > tolerance*float64(tokens) || math.Abs(got.KL-kl) > tolerance*float64(tokens) {
						t.Errorf("%s: NLL %g, divergence %g, want %g, %g", cut, got.NLL, got.KL, nll, kl)
					}
					if got.Tokens != tokens-len(text.Windows) || got.TokensComputed != tokens {
						t.Errorf("%s: %d tokens scored and %d computed of %d", cut, got.Tokens, got.TokensComputed, tokens)
					}
				}
			}
		})
	}
}

// TestPrefixReuse scores children of one parent that differ from some layer on: layers are reused, and a scorer that
// may keep nothing finds the same bits.
func TestPrefixReuse(t *testing.T) {
	ctx := t.Context()
	recipe := gguftest.Tiny("llama")
	recipe.Layers = slices.Repeat(recipe.Layers[:1], 6)
	m := load(t, devices(t)["go"], gguftest.Open(t, recipe), decoder.WithWidthBucket(8))
	windows := [][]int32{window(1, 40, 320), window(2, 40, 320)}
	newScorer := func(memory int64) *decoder.Scorer {
		sc, err := m.NewScorer(windows, decoder.ScorerOptions{TopK: 20, Memory: memory})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(sc.Close)
		return sc
	}
	const state = 4 * 40 * 64 // bytes of one
	roomy, tight, none := newScorer(0), newScorer(3*state), newScorer(1)
	parent := subnet.Dense(m.Geometry())
	reused := 0
	for round := range 3 {
		for changed := 5; changed >= 0; changed-- {
			l := subnet.DenseLayer(m.Geometry().Layers[changed])
			l.Channels = subnet.Range(128, 0, 64+8*round)
			s, err := m.Subnet(ctx, gguf.Subnet{Masks: parent.With(changed, l)})
			if err != nil {
				t.Fatal(err)
			}
			text := decoder.Text{Windows: []int{0, 1}}
			want, err := none.Score(ctx, s, text)
			if err != nil {
				t.Fatal(err)
			}
			if want.LayersReused != 0 || want.LayersRun != 12 {
				t.Errorf("%d layers run and %d reused where nothing is kept", want.LayersRun, want.LayersReused)
			}
			for _, sc := range []*decoder.Scorer{roomy, tight} {
				got, err := sc.Score(ctx, s, text)
				if err != nil {
					t.Fatal(err)
				}
				if got.NLL != want.NLL || got.KL != want.KL {
					t.Errorf("NLL %v, divergence %v, without reuse %v, %v", got.NLL, got.KL, want.NLL, want.KL)
				}
				if got.LayersRun+got.LayersReused != 12 {
					t.Errorf("%d layers run and %d reused of 12", got.LayersRun, got.LayersReused)
				}
				if sc == roomy && round == 2 && got.LayersReused != 2*changed {
					t.Errorf("%d layers reused, want %d", got.LayersReused, 2*changed)
				}
				reused += got.LayersReused
			}
			s.Close()
		}
	}
	if reused == 0 {
		t.Error("no layer was reused")
	}
}

// TestSharedBlocks finds that equal layers of subnets made apart are one, so that the second costs no memory.
func TestSharedBlocks(t *testing.T) {
	ctx := t.Context()
	m := load(t, devices(t)["go"], gguftest.Open(t, gguftest.Tiny("llama")))
	spec := cuts(t, m.Geometry())["refit"]
	a, err := m.Subnet(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	before := a.DeviceBytes()
	b, err := m.Subnet(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if before == 0 || b.DeviceBytes() != before || !b.Shares(a) {
		t.Errorf("equal subnets of %d and %d bytes do not share their blocks", before, b.DeviceBytes())
	}
	spec.Refit[1].WD[3]++
	c, err := m.Subnet(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Shares(a) {
		t.Error("subnets of different refits share all blocks")
	}
}
