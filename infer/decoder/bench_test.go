//go:build unix

package decoder

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// benchmarkTokens is the length of the window that benchmarks compute, that of the papers' perplexities.
const benchmarkTokens = 2048

// benchmarkModel loads the default model, or skips where it is not in the cache.
func benchmarkModel(b *testing.B) *Model {
	b.Helper()
	f, err := gguf.Open(filepath.Join(os.Getenv("LATHE_CACHE"), "models", "SmolLM2-135M-Instruct.Q4_1.gguf"))
	if err != nil {
		b.Skipf("the default model is not there (make setup fetches it): %v", err)
	}
	b.Cleanup(func() { _ = f.Close() })
	dev, err := OpenDevice("")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(dev.Close)
	m, err := Load(b.Context(), dev, f)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(m.Close)
	b.Log(dev.Description())
	return m
}

func benchmarkWindow(m *Model) []int32 {
	w := make([]int32, benchmarkTokens)
	for i := range w {
		w[i] = int32((i*i + 17*i) % m.config.Vocab)
	}
	return w
}

// measure runs f once to compile it, and then as a benchmark of so many tokens a run.
func measure(b *testing.B, tokens int, f func() error) {
	b.Helper()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	start := processorTime()
	for b.Loop() {
		if err := f(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((processorTime()-start).Seconds()/float64(b.N), "cpu-s/op")
	b.ReportMetric(float64(tokens)*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}

// processorTime is what the process has computed so far on all cores. On a machine that does other work besides, it
// compares better than the time on the clock.
func processorTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// halves returns the default cuts of the benchmarks by name: the dense model, half of every MLP, and half of every MLP
// with half of the KV groups (in turn one of three and two of three).
func halves(geo *subnet.Geometry) []struct {
	name  string
	masks subnet.Masks
} {
	mlp, both := subnet.Dense(geo), subnet.Dense(geo)
	for i, g := range geo.Layers {
		l := subnet.DenseLayer(g)
		l.Channels = subnet.Range(g.FFN, 0, g.FFN/2)
		mlp = mlp.With(i, l)
		groups := (g.KVHeads + i%2) / 2
		l.Heads = subnet.Range(g.Heads, 0, groups*g.HeadsPerGroup())
		both = both.With(i, l)
	}
	return []struct {
		name  string
		masks subnet.Masks
	}{{"dense", subnet.Dense(geo)}, {"mlp-half", mlp}, {"both-half", both}}
}

// BenchmarkScore scores a window of the default model and of cut ones.
func BenchmarkScore(b *testing.B) {
	m := benchmarkModel(b)
	w := benchmarkWindow(m)
	for _, c := range halves(&m.geo) {
		b.Run(c.name, func(b *testing.B) {
			s, err := m.Subnet(b.Context(), gguf.Subnet{Masks: c.masks})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			measure(b, len(w), func() error {
				_, err := m.Score(b.Context(), s, [][]int32{w})
				return err
			})
		})
	}
}

// BenchmarkBlocks times what a forward pass is made of, each for one layer.
func BenchmarkBlocks(b *testing.B) {
	m := benchmarkModel(b)
	ctx := b.Context()
	w := benchmarkWindow(m)
	x, err := m.embed(ctx, w)
	if err != nil {
		b.Fatal(err)
	}
	defer free(x)
	run := func(name string, f func() (*tensors.Tensor, error)) {
		b.Run(name, func(b *testing.B) {
			measure(b, len(w), func() error {
				t, err := f()
				free(t)
				return err
			})
		})
	}
	run("attention", func() (*tensors.Tensor, error) { return m.passAttention(ctx, m.attention[0], x, 1) })
	run("mlp", func() (*tensors.Tensor, error) { return m.passMLP(ctx, m.mlp[0], x) })
	both := halves(&m.geo)[2].masks // one KV group kept in layer 0, two in layer 1
	s, err := m.Subnet(ctx, gguf.Subnet{Masks: both})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	run("attention-one-group", func() (*tensors.Tensor, error) { return m.passAttention(ctx, s.attention[0], x, 1) })
	run("attention-two-groups", func() (*tensors.Tensor, error) { return m.passAttention(ctx, s.attention[1], x, 1) })
	run("mlp-half", func() (*tensors.Tensor, error) { return m.passMLP(ctx, s.mlp[0], x) })
	b.Run("head", func(b *testing.B) {
		measure(b, len(w), func() error {
			_, err := m.nll(ctx, x, w)
			return err
		})
	})
	for name, entries := range map[string]int{"divergence": 0, "divergence-sampled-vocab": 12288} {
		sc, err := m.NewScorer([][]int32{w}, ScorerOptions{TopK: 512, Vocab: entries})
		if err != nil {
			b.Fatal(err)
		}
		defer sc.Close()
		b.Run(name, func(b *testing.B) {
			t, err := sc.targets(ctx, windowKey{0, len(w)})
			if err != nil {
				b.Fatal(err)
			}
			measure(b, len(w), func() error {
				_, _, err := sc.head(ctx, x, t)
				return err
			})
		})
	}
}

// BenchmarkMoments times the moments of the inputs of W_D of a layer.
func BenchmarkMoments(b *testing.B) {
	m := benchmarkModel(b)
	ctx := b.Context()
	st, err := m.NewStates(ctx, [][]int32{benchmarkWindow(m)})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	in, err := m.MLPInputs(ctx, 0, nil, st)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	measure(b, benchmarkTokens, func() error {
		_, err := in.Moments(ctx)
		return err
	})
}
