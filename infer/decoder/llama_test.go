//go:build cgo && !nocgo

package decoder_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/llamacpp"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// TestMain makes the test binary the engine's child when it is started as one.
func TestMain(m *testing.M) {
	llamacpp.RunIfChild()
	os.Exit(m.Run())
}

// TestFamiliesInLlamaCpp compares the plain loops, which the package is compared with elsewhere, with llama.cpp on every
// family. llama.cpp keeps keys and values in 16 bits and looks GELU up in a table of such numbers.
func TestFamiliesInLlamaCpp(t *testing.T) {
	engine, err := llamacpp.New(llamacpp.Options{LogDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	for _, family := range gguftest.Runnable() {
		t.Run(family.Name, func(t *testing.T) {
			family.Model.Type = gguf.F32
			f := gguftest.Open(t, family.Model)
			w := window(8, 40, family.Model.Vocab)
			model, err := engine.Load(t.Context(), infer.Defaults(f.Path()), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer model.Close()
			got, err := model.Score(t.Context(), [][]int32{w}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i, lp := range newNaive(t, f).logProbs(w) {
				if !(math.Abs(float64(got[0][i])+lp) < 0.01) {
					t.Errorf("token %d: log-probability %.4f, llama.cpp %.4f", i+1, lp, -got[0][i])
				}
			}
		})
	}
}

// TestLlamaCpp compares 512 tokens of the default model with llama.cpp on a copy in F16. llama.cpp rounds activations
// and keys to 16 bits, so single tokens differ: perplexity must agree to half a percent and 99 of 100 log-probabilities
// to 0.05.
func TestLlamaCpp(t *testing.T) {
	ids := readReference(t).IDs[:512]
	source := defaultPath(t)
	f, err := gguf.Open(source)
	if err != nil {
		t.Skipf("the default model is not there (make setup fetches it): %v", err)
	}
	defer f.Close()
	config, err := f.Config()
	if err != nil {
		t.Fatal(err)
	}
	geo := config.Geometry()
	copied := filepath.Join(t.TempDir(), "f16.gguf")
	if _, err := gguf.WriteSubnet(t.Context(), f, copied, gguf.Subnet{Masks: subnet.Dense(&geo)}, gguf.WriteOptions{Type: "F16"}); err != nil {
		t.Fatal(err)
	}

	engine, err := llamacpp.New(llamacpp.Options{LogDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	loaded, err := engine.Load(t.Context(), infer.Defaults(copied), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer loaded.Close()
	want, err := loaded.Score(t.Context(), [][]int32{ids}, nil)
	if err != nil {
		t.Fatal(err)
	}

	g, err := gguf.Open(copied)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	m, err := decoder.Load(t.Context(), device(t), g)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s := m.Dense()
	defer s.Close()
	got, err := m.LogProbs(t.Context(), s, ids)
	if err != nil {
		t.Fatal(err)
	}
	if len(want[0]) != len(got) {
		t.Fatalf("%d values, llama.cpp has %d", len(got), len(want[0]))
	}
	var sum, other float64
	apart := 0
	for i, lp := range got {
		nll := float64(want[0][i])
		sum, other = sum-float64(lp), other+nll
		if math.Abs(float64(lp)+nll) > 0.05 {
			apart++
		}
	}
	n := float64(len(got))
	t.Logf("perplexity %.4f, llama.cpp %.4f; %d of %d log-probabilities more than 0.05 apart", math.Exp(sum/n), math.Exp(other/n), apart, len(got))
	if r := math.Exp((sum - other) / n); !(math.Abs(r-1) < 0.005) {
		t.Errorf("perplexity is %.4f times that of llama.cpp", r)
	}
	if float64(apart) > 0.01*n {
		t.Errorf("%d of %d log-probabilities are more than 0.05 apart", apart, len(got))
	}
}
