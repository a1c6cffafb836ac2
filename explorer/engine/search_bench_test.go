package engine

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/score"
	"github.com/lathe-llm/lathe/search/searchtest/contest"
)

// BenchmarkSearch compares ladder, paper (laptop preset) and random search on the default model at equal tokens over three
// seeds: the loss of the best subnet on the end of a text whose beginning was fitted to and searched on. Masks found by the
// paper's search are re-fitted before they are judged, since the levels of the others are re-fitted too. It takes an hour or
// two and runs only if LATHE_SLOW is set. LATHE_SEARCH_TEXT names another text than the calibration text of make setup,
// LATHE_SEARCH_TOKENS the number of tokens that each search computes; LATHE_SEARCH_FINAL judges the final subnets only, which
// saves half of the time. The table and the chart go to standard output, all samples to search.csv in the folder that
// LATHE_BENCH names.
func BenchmarkSearch(b *testing.B) {
	if os.Getenv("LATHE_SLOW") == "" {
		b.Skip("takes an hour or two: set LATHE_SLOW=1")
	}
	tokens := int64(60_000)
	if v := os.Getenv("LATHE_SEARCH_TOKENS"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		tokens = n
	}
	cache := os.Getenv("LATHE_CACHE")
	text := cmp.Or(os.Getenv("LATHE_SEARCH_TEXT"), filepath.Join(cache, "text", "wiki.utf8"))
	if _, err := os.Stat(text); err != nil {
		b.Skipf("make setup fetches the text: %v", err)
	}
	w, err := New(Options{Text: text, Scratch: b.TempDir(), LogDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	opened, err := w.Open(b.Context(), filepath.Join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf"))
	if err != nil {
		b.Skipf("the default model is not there (make setup fetches it): %v", err)
	}
	defer func() { _ = opened.Close() }()
	m := opened.(*model)
	set := searchSet(b, m, text)
	compared := contest.Contest{
		Problem: search.Problem{Model: "default", Geometry: m.geometry(), Levels: m.levels.Levels(), Target: search.Ratio(0.8)},
		Names:   []string{"ladder", "paper", "random"}, Evaluator: set.eval, Judge: set.judge, Seeds: []uint64{1, 2, 3}, Tokens: tokens,
		Final: os.Getenv("LATHE_SEARCH_FINAL") != "",
	}
	if compared.Problem.Start, err = oneshot.Start(b.Context(), set.dm, set.fitting, nil); err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"ladder", "paper-laptop", "random"} {
		s, err := search.New(name)
		if err != nil {
			b.Fatal(err)
		}
		s.LimitText(set.eval.Tokens())
		compared.Strategies = append(compared.Strategies, s)
	}
	for b.Loop() {
		all, err := contest.Run(b.Context(), compared)
		if err != nil {
			b.Fatal(err)
		}
		if err := contest.WriteText(os.Stdout, all, tokens); err != nil {
			b.Fatal(err)
		}
		if dir := os.Getenv("LATHE_BENCH"); dir != "" {
			writeSamples(b, filepath.Join(dir, "search.csv"), all)
		}
	}
}

func writeSamples(b *testing.B, path string, all []contest.Series) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := contest.WriteCSV(f, all); err != nil {
		b.Fatal(err)
	}
}

// contestants is what the compared searches have in common.
type contestants struct {
	m       *model
	dm      *decoder.Model
	fitting [][]int32 // windows that levels are made from
	held    passage   // that subnets are judged on
	eval    *score.Evaluator
}

// searchSet makes levels from six windows of a text and an evaluator on two others.
func searchSet(b *testing.B, m *model, text string) *contestants {
	b.Helper()
	p, err := m.calibration(b.Context(), explorer.Calibration{}, 8, false, &quiet{})
	if err != nil {
		b.Fatal(err)
	}
	dm, err := m.weights(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	s := &contestants{m: m, dm: dm, fitting: p.windows[:6]}
	var tuning [][]int32
	for _, w := range p.windows[6:] {
		tuning = append(tuning, w[:judgedSeq], w[judgedSeq:2*judgedSeq])
	}
	store, err := levels.Build(b.Context(), dm, s.fitting, b.TempDir(), levels.Options{Text: p.ref.SHA256})
	if err != nil {
		b.Fatal(err)
	}
	if err := m.keepLevels(store); err != nil {
		b.Fatal(err)
	}
	if s.eval, err = score.New(dm, store, tuning, score.KL); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.eval.Close)
	if _, err := s.eval.Probe(b.Context(), 4, nil, nil); err != nil {
		b.Fatal(err)
	}
	if s.held, err = m.passage(b.Context(), text, take{windows: 4, seq: judgedSeq, fromEnd: true}); err != nil {
		b.Fatal(err)
	}
	return s
}

const judgedSeq = 1024

// judge scores subnets on the end of a text, masks alone after a re-fit.
func (s *contestants) judge(ctx context.Context, c search.Candidate) (float64, error) {
	var sub gguf.Subnet
	var err error
	if c.Choice != nil {
		sub, err = s.m.levels.Subnet(c.Choice, c.Base)
	} else {
		recipe := reform.Recipe{Solve: reform.Options{Lambdas: []float64{0.1}, Pull: true}}
		sub, _, err = reform.Refit(ctx, s.dm, s.fitting, c.Masks, reform.Config{Recipe: recipe})
	}
	if err != nil {
		return 0, err
	}
	q, _, err := s.m.scoreDecoder(ctx, sub, "", s.held, &quiet{})
	return q.NLL, err
}
