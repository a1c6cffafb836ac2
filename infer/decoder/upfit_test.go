package decoder_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// upError is the error of an MLP with re-fitted weights on states, in plain loops: see UpProblem.
func (n *naive) upError(layer int, kept subnet.Set, down, up []float64, states [][]float64, relative bool) float64 {
	gain := n.tensor[fmt.Sprintf("blk.%d.%s", layer, "ffn_norm.weight")]
	gate := n.tensor[fmt.Sprintf("blk.%d.%s", layer, "ffn_gate.weight")]
	dense := n.feed(layer, states)
	hidden := n.c.Hidden
	var total float64
	for t, x := range states {
		xn := n.normRow(x, gain)
		residual := make([]float64, hidden)
		for i := range residual {
			residual[i] = dense[t][i] - x[i] // the output of the dense MLP
		}
		for k, c := range kept.Indices() {
			var g, u float64
			for j := range hidden {
				g += gate[c*hidden+j] * xn[j]
				u += up[k*hidden+j] * xn[j]
			}
			mid := g / (1 + math.Exp(-g)) * u
			for i := range residual {
				residual[i] -= down[i*kept.Len()+k] * mid
			}
		}
		var square, w float64
		for i := range residual {
			square += residual[i] * residual[i]
			w += x[i] * x[i] / float64(hidden)
		}
		if relative {
			square /= w + n.c.NormEps
		}
		total += square / float64(len(states))
	}
	return total
}

// TestUpProblem compares gradients and curvature with differences of the error in plain loops, and the inputs of W_D with a
// subnet's own.
func TestUpProblem(t *testing.T) {
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	ref := newNaive(t, f)
	for spec, dev := range devices(t) {
		for _, atOnce := range []int{1, 2, 3} {
			t.Run(fmt.Sprintf("%s/%d", spec, atOnce), func(t *testing.T) {
				m := load(t, dev, f, decoder.WithWidthBucket(8), decoder.WithBatches(atOnce, 0))
				hidden, ffn := m.Geometry().Hidden, m.Geometry().Layers[0].FFN
				windows := [][]int32{window(1, 19, m.Geometry().Vocab), window(2, 19, m.Geometry().Vocab), window(3, 19, m.Geometry().Vocab)}
				st, err := m.NewStates(t.Context(), windows)
				if err != nil {
					t.Fatal(err)
				}
				defer st.Close()
				in, err := m.MLPInputs(t.Context(), 0, nil, st)
				if err != nil {
					t.Fatal(err)
				}
				defer in.Close()
				r := rand.New(rand.NewPCG(1, 2))
				kept := randomSet(r, ffn, 0.4)
				down, up, direction := random(r, hidden*kept.Len(), 0.2), random(r, kept.Len()*hidden, 0.2), random(r, kept.Len()*hidden, 0.2)
				states := append(ref.embed(windows[0]), ref.embed(windows[2])...)
				for _, relative := range []bool{false, true} {
					p, err := m.NewUpProblem(t.Context(), 0, kept, down, in, relative, []int{0, 2})
					if err != nil {
						t.Fatal(err)
					}
					defer p.Close()
					gradient, energy, err := p.Residual(t.Context(), up)
					if err != nil || len(energy) != kept.Len() {
						t.Fatal(len(energy), err)
					}
					curved, err := p.Apply(t.Context(), direction)
					if err != nil {
						t.Fatal(err)
					}
					// The error is a square in U: three values along the direction give its slope and its curvature.
					at := func(step float64) float64 {
						u := widen(up)
						for i := range u {
							u[i] += step * float64(direction[i])
						}
						return ref.upError(0, kept, widen(down), u, states, relative)
					}
					slope, curvature := (at(1)-at(-1))/2, (at(1)+at(-1))/2-at(0)
					var gotSlope, gotCurvature float64
					for i, d := range direction {
						gotSlope -= 2 * gradient[i] * float64(d)
						gotCurvature += curved[i] * float64(d)
					}
					if math.Abs(gotSlope-slope) > 1e-4*math.Abs(slope) || math.Abs(gotCurvature-curvature) > 1e-4*curvature {
						t.Errorf("relative %v: slope %g and curvature %g, want %g and %g", relative, gotSlope, gotCurvature, slope, curvature)
					}
				}
				mid, err := m.RefittedInputs(t.Context(), 0, kept, up, st)
				if err != nil {
					t.Fatal(err)
				}
				defer mid.Close()
				s := gguf.Subnet{Masks: subnet.Dense(m.Geometry()), Refit: make([]gguf.Refit, len(m.Geometry().Layers))}
				l := s.Masks.Layer(0)
				l.Channels = kept
				s.Masks, s.Refit[0] = s.Masks.With(0, l), gguf.Refit{WU: up}
				all := ref.cut(s).gated(0, ref.embed(windows[1]))
				want := make([][]float64, len(all))
				for i, row := range all {
					for _, c := range kept.Indices() {
						want[i] = append(want[i], row[c])
					}
				}
				got, err := mid.Values(t.Context(), 1)
				if err != nil {
					t.Fatal(err)
				}
				if d := distance(got, want); !(d < tolerance) {
					t.Errorf("inputs differ by %g", d)
				}
				if _, err := m.NewUpProblem(t.Context(), 0, kept, down, in, false, []int{3}); err == nil {
					t.Error("a window that is not there is taken")
				}
				if _, err := m.RefittedInputs(t.Context(), 0, kept, up[1:], st); err == nil {
					t.Error("a W_U of another size is taken")
				}
			})
		}
	}
}
