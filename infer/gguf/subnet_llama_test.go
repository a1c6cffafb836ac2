//go:build cgo && !nocgo

package gguf_test

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// A cut file must compute what the same masks, filled with zeros in a file of full size, compute.
func TestCutEqualsZeroed(t *testing.T) {
	for _, family := range gguftest.Runnable() {
		if uneven(family) {
			continue // other counts: TestCutOfUnequalLayers
		}
		for i, c := range cutCases() {
			for j, refit := range []string{"", "refit"} {
				if family.Name != "llama" && i%2 != j {
					continue // alternate with and without re-fitting: one family has both
				}
				t.Run(family.Name+"/"+c.name+"/"+refit, func(t *testing.T) {
					f := gguftest.Open(t, family.Model)
					m := c.masks(subnet.Dense(geometryOf(t, f)))
					s := gguf.Subnet{Masks: m}
					if refit != "" {
						s.Refit = randomRefit(t, f, m, holdsBiases(family))
					}
					compareCutAndZeroed(t, f, s, family.Model.Vocab)
				})
			}
		}
	}
}

func compareCutAndZeroed(t *testing.T, f *gguf.File, s gguf.Subnet, vocab int) {
	t.Helper()
	dir := t.TempDir()
	cut, zeroed := filepath.Join(dir, "cut.gguf"), filepath.Join(dir, "zeroed.gguf")
	if _, err := gguf.WriteSubnet(context.Background(), f, cut, s, gguf.WriteOptions{Type: "F32"}); err != nil {
		t.Fatal(err)
	}
	if _, err := gguf.WriteSubnet(context.Background(), f, zeroed, s, gguf.WriteOptions{Type: "F32", Zeroed: true}); err != nil {
		t.Fatal(err)
	}
	tokens := randomTokens(64, vocab)
	a, b := runtimeLogProbs(t, cut, tokens), runtimeLogProbs(t, zeroed, tokens)
	// The same numbers added in another order, with a cache of halves: far inside the 0.1 % that files of halves must keep.
	if pa, pb := perplexity(a), perplexity(b); math.Abs(pa/pb-1) > 1e-3 || math.IsNaN(pa) {
		t.Errorf("perplexity %v cut, %v zeroed", pa, pb)
	}
	for i := range a {
		if math.Abs(a[i]-b[i]) > 0.02 {
			t.Fatalf("token %d: log-probability %v cut, %v zeroed", i, a[i], b[i])
		}
	}
}

// Models whose layers differ already can be cut again, also where a layer without attention comes first.
func TestCutOfUnequalLayers(t *testing.T) {
	for _, family := range gguftest.Runnable() {
		if !uneven(family) {
			continue
		}
		for _, c := range []cutCase{
			{"nothing", func(m subnet.Masks) subnet.Masks { return m }},
			{"first layer", func(m subnet.Masks) subnet.Masks { return dropLayer(m, 0) }},
			{"middle layer", func(m subnet.Masks) subnet.Masks { return dropLayer(m, 1) }},
			{"attention of the last layer", func(m subnet.Masks) subnet.Masks { return dropAttention(m, 2) }},
			{"MLP of the middle layer", func(m subnet.Masks) subnet.Masks { return dropMLP(m, 1) }},
			{"heads and channels", func(m subnet.Masks) subnet.Masks { return everySecondChannel(keepHeads(m, 2, 0, 3), 0, 1) }},
		} {
			t.Run(family.Name+"/"+c.name, func(t *testing.T) {
				f := gguftest.Open(t, family.Model)
				m := c.masks(subnet.Dense(geometryOf(t, f)))
				compareCutAndZeroed(t, f, gguf.Subnet{Masks: m}, family.Model.Vocab)
				compareCutAndZeroed(t, f, gguf.Subnet{Masks: m, Refit: randomRefit(t, f, m, family.Name == "deci")}, family.Model.Vocab)
			})
		}
	}
}

// The masks that keep everything must give what the source gives, to the last bit.
func TestNothingCutChangesNothing(t *testing.T) {
	for _, family := range gguftest.Runnable() {
		t.Run(family.Name, func(t *testing.T) {
			f := gguftest.Open(t, family.Model)
			out := filepath.Join(t.TempDir(), "out.gguf")
			s := gguf.Subnet{Masks: subnet.Dense(geometryOf(t, f))}
			if _, err := gguf.WriteSubnet(context.Background(), f, out, s, gguf.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			tokens := randomTokens(64, family.Model.Vocab)
			if a, b := runtimeLogProbs(t, f.Path(), tokens), runtimeLogProbs(t, out, tokens); !slices.Equal(a, b) {
				t.Errorf("%v before, %v after", a, b)
			}
		})
	}
}
