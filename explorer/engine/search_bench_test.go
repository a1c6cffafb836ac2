package engine

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/score"
	contest "github.com/lathe-llm/lathe/search/searchtest/contest"
)

// BenchmarkSearch compares ladder, paper (laptop preset) and random search on the default model at equal tokens over
// three seeds: the loss of the best subnet on text that was neither fitted to nor searched on. What the paper's search
// finds is re-fitted before it is judged, like the levels of the others are. It runs for an hour or two and only where
// LATHE_SLOW is set; LATHE_SEARCH_TOKENS changes how many tokens each search computes,
// and LATHE_SEARCH_FINAL leaves out what the searches had found on the way, which saves half of the time. The table and the
// chart go to standard output, all samples to search.csv in the folder that LATHE_BENCH names.
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
	valid := filepath.Join("..", "..", "..", "shared", "data", "wikitext-2", "valid.txt")
	if _, err := os.Stat(valid); err != nil {
		b.Skip(err)
	}
	w, err := New(Options{Text: valid, Scratch: b.TempDir(), LogDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	opened, err := w.Open(b.Context(), filepath.Join(os.Getenv("LATHE_CACHE"), "models", "SmolLM2-135M-Instruct.Q4_1.gguf"))
	if err != nil {
		b.Skipf("the default model is not there (make setup fetches it): %v", err)
	}
	defer func() { _ = opened.Close() }()
	m := opened.(*model)
	h := &hunt{m: m, dir: b.TempDir(), mon: &quiet{}, bytes: map[int]int64{}, request: explorer.StartSearch{Target: 0.8, Calibration: explorer.Calibration{Windows: 8}}}
	if err := h.prepare(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer h.close()
	judge, err := h.judge(b.Context(), valid)
	if err != nil {
		b.Fatal(err)
	}
	compared := contest.Contest{
		Problem: search.Problem{Model: "default", Geometry: h.work.dm.Geometry(), Levels: m.levels.Levels(), Target: search.Ratio(0.8)},
		Names:   []string{"ladder", "paper", "random"}, Evaluator: h.eval, Judge: judge, Seeds: []uint64{1, 2, 3}, Tokens: tokens,
		Final: os.Getenv("LATHE_SEARCH_FINAL") != "",
	}
	if compared.Problem.Start, err = score.Start(b.Context(), h.work.dm, h.fitting, nil); err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"ladder", "paper-laptop", "random"} {
		s, err := search.New(name)
		if err != nil {
			b.Fatal(err)
		}
		h.fit(s)
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

// judge scores subnets on the end of a text, masks alone after a re-fit.
func (h *hunt) judge(ctx context.Context, text string) (contest.Judge, error) {
	held, err := h.m.passage(ctx, text, take{windows: 4, seq: tuningSeq, fromEnd: true})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, c search.Candidate) (float64, error) {
		subnet, err := h.subnet(c)
		if err == nil && c.Choice == nil {
			recipe := reform.Recipe{Solve: reform.Options{Lambdas: []float64{0.1}, Pull: true}}
			subnet, _, err = reform.Refit(ctx, h.work.dm, h.fitting, c.Masks, reform.Config{Recipe: &recipe})
		}
		if err != nil {
			return 0, err
		}
		return h.loss(ctx, subnet, held)
	}, nil
}

func (h *hunt) loss(ctx context.Context, s gguf.Subnet, p passage) (float64, error) {
	q, err := h.m.scoreDecoder(ctx, s, p, h.mon)
	return q.NLL, err
}
