package decoder_test

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// innerSpec is a subnet with changed matrices before the output matrices: one KV group and half of the channels of the first layer are dropped.
func innerSpec(geo *subnet.Geometry, ungated bool) gguf.Subnet {
	rng := rand.New(rand.NewPCG(1, 2))
	masks := subnet.Dense(geo)
	l, lg := masks.Layer(0), geo.Layers[0]
	if per := lg.HeadsPerGroup(); lg.KVHeads > 1 && geo.Limits().PerLayer {
		l.Heads = subnet.Range(lg.Heads, per, lg.Heads)
	}
	if geo.Limits().PerLayer {
		l.Channels = subnet.Range(lg.FFN, lg.FFN/4, lg.FFN*3/4)
	}
	masks = masks.With(0, l)
	s := gguf.Subnet{Masks: masks, Refit: make([]gguf.Refit, masks.Layers())}
	matrix := func(rows int) []float32 {
		out := make([]float32, rows*geo.Hidden)
		for i := range out {
			out[i] = float32(rng.NormFloat64() / math.Sqrt(float64(geo.Hidden)))
		}
		return out
	}
	for i := range s.Refit {
		r := &s.Refit[i]
		r.WQ, r.WK, r.WV = matrix(len(masks.QRows(i))), matrix(len(masks.KVRows(i))), matrix(len(masks.KVRows(i)))
		r.WU = matrix(masks.Layer(i).Channels.Len())
		if !ungated {
			r.WG = matrix(masks.Layer(i).Channels.Len())
		}
	}
	return s
}

// TestInnerMatrices compares subnets with changed matrices before the output matrices with the plain loops over the file that is written of them, and
// the matrices that are read back with those written.
func TestInnerMatrices(t *testing.T) {
	dev := devices(t)["go"]
	for _, family := range gguftest.Families() {
		t.Run(family.Name, func(t *testing.T) {
			f := gguftest.Open(t, family.Model)
			config, err := f.Config()
			if err != nil {
				t.Fatal(err)
			}
			geo := config.Geometry()
			spec, w := innerSpec(&geo, config.Ungated), window(4, 29, family.Model.Vocab)
			path := filepath.Join(t.TempDir(), "cut.gguf")
			if _, err := gguf.WriteSubnet(t.Context(), f, path, spec, gguf.WriteOptions{Type: "F32"}); err != nil {
				t.Fatal(err)
			}
			cut, err := gguf.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cut.Close() })
			m := load(t, dev, f)
			s, err := m.Subnet(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			got, err := m.Logits(t.Context(), s, w)
			if err != nil {
				t.Fatal(err)
			}
			if d := distance(got, newNaive(t, cut).logits(w)); !(d < tolerance) {
				t.Errorf("logits differ by %g from those of the file", d)
			}
			back, err := gguf.ReadSubnet(t.Context(), f, cut)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range back.Refit {
				want := spec.Refit[i]
				pairs := map[string][2][]float32{"W_U": {r.WU, want.WU}, "W_G": {r.WG, want.WG}}
				if r.WQ != nil { // not read from matrices that the format joins
					pairs["W_Q"], pairs["W_K"], pairs["W_V"] = [2][]float32{r.WQ, want.WQ}, [2][]float32{r.WK, want.WK}, [2][]float32{r.WV, want.WV}
				}
				for name, p := range pairs {
					same := slices.EqualFunc(p[0], p[1], func(a, b float32) bool { return math.Abs(float64(a-b)) < 1e-6 })
					if !same {
						t.Errorf("layer %d: %s is not read back", i, name)
					}
				}
			}
			v, err := gguf.Verify(t.Context(), cut, gguf.VerifyOptions{Source: f})
			if err != nil || !v.OK() {
				t.Errorf("verify: %v %v", err, v.Err())
			}
		})
	}
}
