//go:build cgo && !nocgo

package oneshot_test

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/ollama/ollama/llama"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/memory"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

// defaultModel loads the default model and windows of the calibration text, or skips where they are not in the cache.
func defaultModel(t testing.TB, count, tokens int) (*decoder.Model, [][]int32) {
	t.Helper()
	cache := os.Getenv("LATHE_CACHE")
	path := filepath.Join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	text, err := os.ReadFile(filepath.Join(cache, "text", "wiki.utf8"))
	if err != nil {
		t.Skipf("the calibration text is not in LATHE_CACHE (make setup fetches it): %v", err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Skipf("the default model is not in LATHE_CACHE (make setup fetches it): %v", err)
	}
	t.Cleanup(func() { _ = f.Close() })
	be, err := decoder.OpenDevice("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(be.Close)
	m, err := decoder.Load(t.Context(), be, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	vocabulary, err := llama.LoadModelFromFile(path, llama.ModelParams{VocabOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer llama.FreeModel(vocabulary)
	ids, err := vocabulary.Tokenize(string(text[:min(len(text), 8*count*tokens)]), false, false)
	if err != nil || len(ids) < count*tokens {
		t.Fatalf("%d tokens, error %v", len(ids), err)
	}
	windows := make([][]int32, count)
	for i := range windows {
		for _, id := range ids[i*tokens : (i+1)*tokens] {
			windows[i] = append(windows[i], int32(id))
		}
	}
	return m, windows
}

func perplexity(t *testing.T, m *decoder.Model, s gguf.Subnet, windows [][]int32) float64 {
	t.Helper()
	sub, err := m.Subnet(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	score, err := m.Score(t.Context(), sub, windows)
	if err != nil {
		t.Fatal(err)
	}
	return score.Perplexity()
}

// Re-fitting on some text lowers the perplexity on other text.
func TestRefitOfTheDefaultModel(t *testing.T) {
	m, windows := defaultModel(t, 5, 512)
	s, _, err := oneshot.OneShot(t.Context(), m, windows[:4], 0.9, oneshot.Config{Preset: preset.Random})
	if err != nil {
		t.Fatal(err)
	}
	none := perplexity(t, m, s, windows[4:])
	recipe := reform.Recipe{Solve: reform.Options{Pull: true, Lambdas: []float64{0.1}}, Relative: true}
	fit, report, err := reform.Refit(t.Context(), m, windows[:4], s.Masks, reform.Config{Recipe: recipe})
	if err != nil {
		t.Fatal(err)
	}
	got := perplexity(t, m, fit, windows[4:])
	t.Logf("perplexity %.2f without a re-fit, %.2f with it, in %.1f s", none, got, report.Seconds)
	if !(got < 0.9*none) {
		t.Errorf("perplexity %.2f with a re-fit, %.2f without", got, none)
	}
}

// The loss predicted of an edit ranks edits as their true loss does, measured after a re-fit on other text.
func TestPredictionRanksEdits(t *testing.T) {
	if os.Getenv("LATHE_SLOW") == "" {
		t.Skip("takes minutes: set LATHE_SLOW=1")
	}
	m, windows := defaultModel(t, 10, 512)
	stats, err := oneshot.NewStatistics(t.Context(), m, windows[:8], oneshot.Gathering{})
	if err != nil {
		t.Fatal(err)
	}
	scorer, err := m.NewScorer(windows[8:], decoder.ScorerOptions{TopK: 512})
	if err != nil {
		t.Fatal(err)
	}
	defer scorer.Close()
	recipe := reform.Recipe{Solve: reform.Options{Pull: true, Lambdas: []float64{0.1}}}
	rng := rand.New(rand.NewPCG(1, 30))
	g := m.Geometry()
	var predicted, measured []float64
	for range 30 {
		masks := subnet.Dense(g)
		for range 1 + rng.IntN(3) {
			i := rng.IntN(len(g.Layers))
			masks = masks.With(i, randomEdit(rng, masks.Layer(i), g.Layers[i], stats.Layers[i]))
		}
		s, _, err := reform.Refit(t.Context(), m, windows[:4], masks, reform.Config{Recipe: recipe})
		if err != nil {
			t.Fatal(err)
		}
		sub, err := m.Subnet(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		score, err := scorer.Score(t.Context(), sub, decoder.Text{Windows: []int{0, 1}})
		sub.Close()
		if err != nil {
			t.Fatal(err)
		}
		predicted, measured = append(predicted, stats.Predict(masks)), append(measured, score.KL/float64(score.Tokens))
	}
	for i := range predicted {
		t.Logf("predicted %.4f, measured %.4f nats per token", predicted[i], measured[i])
	}
	off := make([]float64, len(predicted)) // of the perplexities
	for i := range off {
		off[i] = math.Abs(math.Expm1(measured[i] - predicted[i]))
	}
	slices.Sort(off)
	t.Logf("half of the perplexities within %.3f, nine of ten within %.3f", off[len(off)/2], off[len(off)*9/10])
	if r := search.Spearman(predicted, measured); r < 0.8 {
		t.Errorf("rank correlation %.3f, want at least 0.8", r)
	} else {
		t.Logf("rank correlation %.3f", r)
	}
}

// randomEdit drops random or unimportant channels, or the heads of a random group.
func randomEdit(rng *rand.Rand, l subnet.Layer, g subnet.LayerGeometry, s oneshot.LayerStatistics) subnet.Layer {
	drop := 32 * (1 + rng.IntN(g.FFN/32*3/4))
	switch rng.IntN(4) {
	case 0:
		group := rng.IntN(g.KVHeads)
		per := g.HeadsPerGroup()
		l.Heads = l.Heads.Minus(subnet.Range(g.Heads, group*per, (group+1)*per))
	case 1:
		l.Channels = l.Channels.Minus(subnet.Full(g.FFN).Sample(rng, drop))
	default:
		l.Channels = l.Channels.Without(s.Channels.Order[:drop]...)
	}
	return l
}

// TestMemoryOfDefaultModel compares what is computed with what the process held at most, to a quarter: the heap keeps garbage,
// and other tests have left theirs.
func TestMemoryOfDefaultModel(t *testing.T) {
	if os.Getenv("LATHE_SLOW") == "" {
		t.Skip("takes minutes: set LATHE_SLOW=1")
	}
	const count, tokens, ratio = 8, 2048, 0.8 // with less text the C library has little to keep
	m, windows := defaultModel(t, count, tokens)
	debug.FreeOSMemory()
	// 5 resets the peak (proc(5), clear_refs).
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Skip("the kernel keeps no peak")
	}
	if _, _, err := oneshot.OneShot(t.Context(), m, windows, ratio, oneshot.Config{}); err != nil {
		t.Fatal(err)
	}
	_, most := memory.Resident(os.Getpid())
	estimate := oneshot.MemoryOf(m.Geometry(), ratio, count, tokens, oneshot.Limits{States: decoder.DefaultMemory})
	t.Logf("%d MB at most, %d MB estimated: %+v", most/1e6, estimate.Total()/1e6, estimate)
	if r := float64(most) / float64(estimate.Total()); r < 0.75 || r > 1.25 {
		t.Errorf("peak of %d bytes is %.2f of the estimated %d", most, r, estimate.Total())
	}
	_, weights := m.ResidentBytes()
	if weights > estimate.Weights || weights < estimate.Weights*3/4 {
		t.Errorf("weights took %d bytes, %d were estimated", weights, estimate.Weights)
	}
}
