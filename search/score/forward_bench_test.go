package score_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

const scoringTokens = 2048

// BenchmarkScoring scores one window of 2048 tokens with the dense default model and with cuts of it. of_dense is the time of
// a cut over that of the dense model. "searched" is the same with what a search computes: the divergence from the dense model,
// and logits of a quarter of the vocabulary. Where PyTorch is installed for the Python that LATHE_TORCH names (default
// python3), x_torch is the time of a dense forward pass in PyTorch, on as many threads, over that of lathe. The programs take
// turns, each round beginning with another one, and times are medians over the rounds, so that other load and the order of
// the turns have little effect.
func BenchmarkScoring(b *testing.B) {
	ctx := context.Background()
	path := filepath.Join(os.Getenv("LATHE_CACHE"), "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	f, err := gguf.Open(path)
	if err != nil {
		b.Skipf("the default model is not there (make setup fetches it): %v", err)
	}
	defer f.Close()
	be, err := decoder.OpenDevice("")
	if err != nil {
		b.Fatal(err)
	}
	defer be.Close()
	m, err := decoder.Load(ctx, be, f)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	window := make([]int32, scoringTokens)
	for i := range window {
		window[i] = int32((i*7919 + 13) % m.Config().Vocab)
	}
	score := func(b *testing.B, s *decoder.Subnet) time.Duration {
		start := time.Now()
		got, err := m.Score(ctx, s, [][]int32{window})
		if err != nil {
			b.Fatal(err)
		}
		if math.IsNaN(got.NLL) {
			b.Fatal("the score is NaN")
		}
		return time.Since(start)
	}
	// No prefix is cached from one subnet to the next.
	scorer, err := m.NewScorer([][]int32{window}, decoder.ScorerOptions{TopK: 512, Vocab: m.Config().Vocab / 4, Memory: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer scorer.Close()
	searched := func(b *testing.B, s *decoder.Subnet) time.Duration {
		start := time.Now()
		got, err := scorer.Score(ctx, s, decoder.Text{Windows: []int{0}})
		if err != nil {
			b.Fatal(err)
		}
		if math.IsNaN(got.NLL + got.KL) {
			b.Fatal("the score is NaN")
		}
		return time.Since(start)
	}
	torch := startTorch(b, m.Geometry())
	for _, c := range []struct {
		name          string
		groups, width float64
	}{{"dense", 1, 1}, {"mlp=0.8", 1, 0.8}, {"mlp=0.5", 1, 0.5}, {"mlp=0.5,groups=0.5", 0.5, 0.5}} {
		b.Run(c.name, func(b *testing.B) {
			s, err := m.Subnet(ctx, gguf.Subnet{Masks: uniform(m.Geometry(), c.groups, c.width)})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			full := m.Dense()
			defer full.Close()
			for _, s := range []*decoder.Subnet{s, full} {
				score(b, s)
				searched(b, s)
			}
			turns := []func() time.Duration{
				func() time.Duration { return score(b, s) }, func() time.Duration { return score(b, full) },
				func() time.Duration { return searched(b, s) }, func() time.Duration { return searched(b, full) },
			}
			if torch != nil {
				turns = append(turns, func() time.Duration { return torch.step(b) })
			}
			took := make([][]time.Duration, len(turns))
			for round := 0; b.Loop(); round++ {
				for i := range turns {
					at := (round + i) % len(turns)
					took[at] = append(took[at], turns[at]())
				}
			}
			cut, dense, cutSearched, denseSearched := median(took[0]), median(took[1]), median(took[2]), median(took[3])
			b.ReportMetric(scoringTokens/cut, "tokens/s")
			b.ReportMetric(cut/dense, "of_dense")
			b.ReportMetric(cutSearched/denseSearched, "of_dense(searched)")
			if torch != nil {
				other := median(took[4])
				b.ReportMetric(other/dense, "x_torch(dense)")
				b.ReportMetric(other/denseSearched, "x_torch(dense,searched)")
			}
		})
	}
}

// uniform keeps the same share of KV groups and of MLP channels in every layer.
func uniform(g *subnet.Geometry, groups, width float64) subnet.Masks {
	m := subnet.Dense(g)
	for i, l := range g.Layers {
		layer := m.Layer(i)
		keep := int(math.Ceil(groups*float64(l.KVHeads))) * (l.Heads / l.KVHeads)
		layer.Heads = subnet.Range(l.Heads, 0, keep)
		layer.Channels = subnet.Range(l.FFN, 0, int(width*float64(l.FFN))/32*32)
		m = m.With(i, layer)
	}
	return m
}

// median returns the median in seconds.
func median(d []time.Duration) float64 {
	slices.Sort(d)
	return (d[(len(d)-1)/2] + d[len(d)/2]).Seconds() / 2
}

// A torchProcess is the PyTorch program. Each step is a forward pass over one window.
type torchProcess struct {
	in  io.Writer
	out *bufio.Scanner
}

// startTorch starts the program. It returns nil where there is no PyTorch.
func startTorch(b *testing.B, g *subnet.Geometry) *torchProcess {
	l := g.Layers[0]
	spec, err := json.Marshal(map[string]int{
		"hidden": g.Hidden, "heads": l.Heads, "kv_heads": l.KVHeads, "head_dim": g.HeadDim, "ffn": l.FFN,
		"layers": len(g.Layers), "vocab": g.Vocab, "tokens": scoringTokens, "threads": runtime.NumCPU(),
	})
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(cmp.Or(os.Getenv("LATHE_TORCH"), "python3"), filepath.Join("torch", "forward.py"), string(spec))
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Logf("continuing without PyTorch: %v", err)
		return nil
	}
	p := &torchProcess{in: in, out: bufio.NewScanner(out)}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if !p.out.Scan() || !strings.HasPrefix(p.out.Text(), "ready") {
		b.Log("continuing without PyTorch: set LATHE_TORCH to a Python that has it")
		return nil
	}
	b.Logf("against PyTorch %s", strings.TrimPrefix(p.out.Text(), "ready "))
	return p
}

// step times one window.
func (p *torchProcess) step(b *testing.B) time.Duration {
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		b.Fatal(err)
	}
	if !p.out.Scan() {
		b.Fatal("the PyTorch program ended")
	}
	seconds, err := strconv.ParseFloat(p.out.Text(), 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(seconds * float64(time.Second))
}
