package decoder_test

import (
	"sync"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// TestConcurrentUse cuts, scores and closes subnets of one model from many goroutines, which must find what one alone
// finds.
func TestConcurrentUse(t *testing.T) {
	ctx := t.Context()
	m := load(t, devices(t)["go"], gguftest.Open(t, gguftest.Tiny("llama")), decoder.WithWidthBucket(8))
	specs := cuts(t, m.Geometry())
	w := [][]int32{window(1, 20, 320)}
	once := func(name string) (float64, error) {
		s, err := m.Subnet(ctx, specs[name])
		if err != nil {
			return 0, err
		}
		defer s.Close()
		score, err := m.Score(ctx, s, w)
		return score.NLL, err
	}
	want := make(map[string]float64)
	for name := range specs {
		nll, err := once(name)
		if err != nil {
			t.Fatal(err)
		}
		want[name] = nll
	}
	var wg sync.WaitGroup
	for range 4 {
		for name := range specs {
			wg.Go(func() {
				for range 3 {
					nll, err := once(name)
					if err != nil || nll != want[name] {
						t.Errorf("%s: %v (%v), want %v", name, nll, err, want[name])
					}
				}
			})
		}
	}
	wg.Wait()
}
