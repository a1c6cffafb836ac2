//go:build cgo && !nocgo

package gguf_test

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// stockJob is what testdata/stock.py does with one file, stockResult what it answers.
type stockJob struct {
	Model    string `json:"model"`
	Tokens   []int  `json:"tokens"`
	From     int    `json:"from"`
	Generate int    `json:"generate"`
}

type stockResult struct {
	LogProbs []*float64 `json:"logprobs"`
	Greedy   []int      `json:"greedy"`
}

// stockPython returns the Python that has a stock llama.cpp, or skips the test.
func stockPython(t *testing.T) string {
	t.Helper()
	python := os.Getenv("LATHE_STOCK_PYTHON")
	if python == "" {
		t.Skip("set LATHE_STOCK_PYTHON to a Python that has the package xllamacpp")
	}
	return python
}

// runStock runs files in the llama.cpp of another build.
func runStock(t *testing.T, jobs []stockJob) []stockResult {
	t.Helper()
	in, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), stockPython(t), "testdata/stock.py")
	var out, log bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, log.Bytes()[max(0, log.Len()-2000):])
	}
	results := make([]stockResult, len(jobs))
	for i, d := 0, json.NewDecoder(&out); i < len(jobs); i++ {
		if err := d.Decode(&results[i]); err != nil {
			t.Fatal(err)
		}
	}
	return results
}

// A stock llama.cpp must give the greedy text and the perplexity that the one in this program gives: within 0.1 %, or, where activations are
// rounded to eight bits before a product and the order of additions decides which way, within three standard errors of the mean difference.
func TestStockRuntimeAgrees(t *testing.T) {
	stockPython(t)
	var jobs []stockJob
	var names []string
	add := func(name string, f *gguf.File, m subnet.Masks, typ string) {
		out, report := write(t, f, gguf.Subnet{Masks: m}, gguf.WriteOptions{Type: typ})
		names = append(names, name+" as "+report.Arch+" "+typ)
		jobs = append(jobs, stockJob{Model: out.Path(), Tokens: randomTokens(400, 320), From: 8, Generate: 12})
	}
	f := gguftest.Open(t, wide())
	for _, typ := range writableTypes() {
		add("llama", f, halfOfLayerOne(t, f), typ)
	}
	for _, family := range gguftest.Runnable() {
		f := gguftest.Open(t, family.Model)
		add(family.Name, f, dropLayer(subnet.Dense(geometryOf(t, f)), 1), "F16")
	}
	compareStock(t, names, jobs)
}

func TestStockRuntimeAgreesOnTheDefaultModel(t *testing.T) {
	path := defaultModel(t)
	stockPython(t)
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	m := dropLayer(everySecondChannel(subnet.Dense(geometryOf(t, f)), 20, 1), 14)
	var jobs []stockJob
	var names []string
	for _, typ := range append([]string{""}, writableTypes()...) {
		out, report := write(t, f, gguf.Subnet{Masks: m}, gguf.WriteOptions{Type: typ})
		names = append(names, report.Arch+" "+typ)
		jobs = append(jobs, stockJob{Model: out.Path(), Tokens: textTokens(t, path, 96), From: 8, Generate: 24})
	}
	compareStock(t, names, jobs)
}

func compareStock(t *testing.T, names []string, jobs []stockJob) {
	t.Helper()
	for i, r := range runStock(t, jobs) {
		var own, stock []float64
		for j, p := range runtimeLogProbs(t, jobs[i].Model, jobs[i].Tokens)[jobs[i].From-1:] {
			if q := r.LogProbs[j]; q != nil {
				own, stock = append(own, p), append(stock, *q)
			}
		}
		a, b := perplexity(own), perplexity(stock)
		noise := standardError(own, stock)
		allowed := 1e-3
		if !strings.HasSuffix(names[i], "F32") && !strings.HasSuffix(names[i], "F16") {
			allowed = max(allowed, min(3*noise, 0.03))
		}
		greedy := runtimeGreedy(t, jobs[i].Model, jobs[i].Tokens, jobs[i].Generate)
		t.Logf("%s: perplexity of %d tokens %.4f here, %.4f in stock llama.cpp (%+.4f %%), %d greedy tokens", names[i], len(own), a, b, 100*(b/a-1), len(r.Greedy))
		if !(math.Abs(a/b-1) <= allowed) {
			t.Errorf("%s: perplexity %v here, %v in stock llama.cpp, allowed %.4f", names[i], a, b, allowed)
		}
		greedy = greedy[:min(len(greedy), len(r.Greedy))]
		if k := firstDifference(greedy, r.Greedy); k >= 0 {
			// Engines add in another order: of two tokens that are as likely within what that does to one token, each may take either.
			before := slices.Concat(jobs[i].Tokens, greedy[:k])
			last := func(token int) float64 {
				p := runtimeLogProbs(t, jobs[i].Model, append(slices.Clone(before), token))
				return p[len(p)-1]
			}
			gap := last(greedy[k]) - last(r.Greedy[k])
			t.Logf("%s: greedy tokens differ from %d on, where the two best are %.4f nats apart", names[i], k, gap)
			if !(gap < max(0.05, 3*noise*math.Sqrt(float64(len(own))))) {
				t.Errorf("%s: greedy tokens %v here, %v in stock llama.cpp", names[i], greedy, r.Greedy)
			}
		}
	}
}

// standardError is that of the mean of a − b.
func standardError(a, b []float64) float64 {
	var sum, squares float64
	for i := range a {
		sum += a[i] - b[i]
		squares += (a[i] - b[i]) * (a[i] - b[i])
	}
	n := float64(len(a))
	return math.Sqrt(max(0, squares/n-sum/n*sum/n) / n)
}

// firstDifference returns the first index at which two lists of one length differ, -1 for none.
func firstDifference(a, b []int) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// Files of a smaller vocabulary too, tiny ones of both kinds and the default model with half of its tokens.
func TestStockRuntimeAgreesOnTrimmedVocabularies(t *testing.T) {
	stockPython(t)
	var jobs []stockJob
	var names []string
	add := func(name string, f *gguf.File, n int, tokens func(path string, kept int) []int, generate int) {
		m := withVocab(t, f, subnet.Dense(geometryOf(t, f)), n)
		out, _ := write(t, f, gguf.Subnet{Masks: m}, gguf.WriteOptions{})
		names = append(names, name)
		jobs = append(jobs, stockJob{Model: out.Path(), Tokens: tokens(out.Path(), m.VocabLen()), From: 8, Generate: generate})
	}
	for _, arch := range []string{"llama", "qwen2"} {
		add(arch+" F16", gguftest.Open(t, gguftest.Tiny(arch)), 270, func(_ string, kept int) []int { return randomTokens(200, kept) }, 12)
	}
	if path := defaultModel(t); path != "" {
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }() // only read from
		add("default model", f, 24000, func(path string, _ int) []int { return textTokens(t, path, 64) }, 24)
	}
	compareStock(t, names, jobs)
}

// Files of mixed types too: a tiny one with changed matrices of every kind, and the default model with fewer channels and tokens.
func TestStockRuntimeAgreesOnMixedTypes(t *testing.T) {
	stockPython(t)
	f := gguftest.Open(t, wide())
	s := gguf.Subnet{Masks: everySecondChannel(subnet.Dense(geometryOf(t, f)), 1, 0)}
	s.Types, s.Importance = mixedTypes(f)
	s.Refit = randomRefit(t, f, s.Masks, false)
	for i := range s.Refit {
		hidden := s.Masks.Geometry().Hidden
		s.Refit[i].WG = randomMatrix(uint64(i), s.Masks.Layer(i).Channels.Len(), hidden)
		s.Refit[i].WQ = randomMatrix(uint64(10+i), len(s.Masks.QRows(i)), hidden)
	}
	out, _ := write(t, f, s, gguf.WriteOptions{})
	names := []string{"tiny, mixed"}
	jobs := []stockJob{{Model: out.Path(), Tokens: randomTokens(400, 320), From: 8, Generate: 12}}
	if path := defaultModel(t); path != "" {
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }() // only read from
		m := everySecondChannel(subnet.Dense(geometryOf(t, f)), 20, 1)
		types := manyTypes(m.Layers())
		out, _ := write(t, f, gguf.Subnet{Masks: withVocab(t, f, m, 36000), Types: types}, gguf.WriteOptions{})
		names = append(names, "default model, mixed, 36,000 tokens")
		jobs = append(jobs, stockJob{Model: out.Path(), Tokens: textTokens(t, out.Path(), 256), From: 8, Generate: 24})
	}
	compareStock(t, names, jobs)
}

// randomMatrix returns a matrix of small numbers.
func randomMatrix(seed uint64, rows, columns int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make([]float32, rows*columns)
	for i := range out {
		out[i] = float32(rng.NormFloat64() / math.Sqrt(float64(columns)))
	}
	return out
}
