package gguf_test

import (
	"errors"
	"math"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// writtenTypes are the names of the types that this build writes, and "" for those of the source.
func writtenTypes() []string {
	types := []string{""}
	for t := gguf.Type(0); t < 64; t++ {
		if t.Known() && gguf.Writable(t) {
			types = append(types, t.String())
		}
	}
	return types
}

// The sizes computed without writing are those of the written files, to the byte: for every family and every type that is written, with the
// cuts in turn.
func TestSizesAreThoseOfFiles(t *testing.T) {
	worst, turn := 0.0, 0
	for _, family := range gguftest.Families() {
		for _, source := range []gguf.Type{gguf.F32, gguf.Q8_0} {
			family.Model.Type = source
			f := gguftest.Open(t, family.Model)
			sizes, err := gguf.NewSizes(f)
			if err != nil {
				t.Fatal(err)
			}
			cases := cutCases()
			if uneven(family) {
				cases = cases[:1] // other counts than the cases are made for
			}
			for _, c := range cases {
				m := c.masks(subnet.Dense(geometryOf(t, f)))
				for _, typ := range writtenTypes() {
					if turn++; turn%12 != 0 && len(cases) > 1 {
						continue
					}
					for _, biases := range []bool{false, true} {
						s := gguf.Subnet{Masks: m}
						if biases {
							s.Refit = randomRefit(t, f, m, true)
						}
						s.Provenance = map[string]any{"method": "obs", "seed": 3}
						got, err := sizes.Of(m, refittedOf(s.Refit), typ)
						if errors.Is(err, gguf.ErrSubnet) && biases {
							continue // the family holds no biases
						}
						if err != nil {
							t.Fatalf("%s, %s as %s: %v", family.Name, c.name, typ, err)
						}
						file := got.WithProvenance(s.Provenance)
						_, report := write(t, f, s, gguf.WriteOptions{Type: typ})
						if got.Tensors != report.TensorBytes || file != report.Bytes {
							t.Errorf("%s, %s as %q, biases %v: promised %d bytes and tensors of %d, written %d and %d", family.Name, c.name, typ, biases,
								file, got.Tensors, report.Bytes, report.TensorBytes)
						}
						worst = max(worst, math.Abs(float64(file)/float64(report.Bytes)-1))
					}
				}
			}
		}
	}
	t.Logf("worst difference over families, cuts and types: %.3g %%", 100*worst)
}

// refittedOf returns which weights are re-fitted in any layer.
func refittedOf(refit []gguf.Refit) gguf.Refitted {
	var r gguf.Refitted
	for _, l := range refit {
		r.Outputs = r.Outputs || l.WO != nil || l.WD != nil
		r.Up = r.Up || l.WU != nil
		r.Biases = r.Biases || l.BO != nil || l.BD != nil
		r.Norms = r.Norms || l.GA != nil || l.GM != nil
	}
	return r
}

func BenchmarkSizes(b *testing.B) {
	f, err := gguf.Open(gguftest.Write(b, gguftest.Tiny("llama")))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	sizes, err := gguf.NewSizes(f)
	if err != nil {
		b.Fatal(err)
	}
	c, err := f.Config()
	if err != nil {
		b.Fatal(err)
	}
	g := c.Geometry()
	m := subnet.Dense(&g)
	for b.Loop() {
		if _, err := sizes.Of(m, gguf.Refitted{}, "Q8_0"); err != nil {
			b.Fatal(err)
		}
	}
}
