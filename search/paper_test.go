package search_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/searchtest"
)

// evolve runs a short search with the paper's figures.
func evolve(t *testing.T, target float64, change func(*search.Paper)) search.State {
	t.Helper()
	l := searchtest.New(searchtest.Options{Seed: 3, Coupling: 0.3, Text: 1})
	p := search.PaperFull()
	p.Epochs = 12
	change(p)
	job, err := search.NewJob(search.Options{Strategy: p, Problem: l.Problem(search.Ratio(target), 2), Evaluator: l, Unattended: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := job.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r.State
}

// The paper's search scores its candidates at every ratio, and finds better subnets than the one it starts from.
func TestPaperSearches(t *testing.T) {
	for _, target := range []float64{0.9, 0.8, 0.7, 0.6, 0.5} {
		t.Run(fmt.Sprint(target), func(t *testing.T) {
			t.Parallel()
			s := evolve(t, target, func(*search.Paper) {})
			const proposed = 1 + 12*100
			if s.Spent.Evaluations < proposed*9/10 {
				t.Errorf("%d of %d candidates were scored", s.Spent.Evaluations, proposed)
			}
			first, last := s.History[0].Best, s.History[len(s.History)-1].Best
			if !(last < first) {
				t.Errorf("the best fitness is %v, that of the one-shot masks %v", last, first)
			}
			if best, _ := s.Best(); best.Ratio > target || best.Ratio < target*0.98 {
				t.Errorf("the best has a ratio of %v", best.Ratio)
			}
		})
	}
}

// Read literally, the similarity threshold lets no mask of a ratio below it change.
func TestPaperLiteral(t *testing.T) {
	s := evolve(t, 0.6, func(p *search.Paper) { p.P0s, p.Ps, p.Pd, p.Epochs = 0, 0, 0, 1; p.Directed, p.Literal = false, true })
	if s.Spent.Evaluations != 1 || s.Paper.Barren != 100 {
		t.Errorf("%d candidates were scored, %d were not found", s.Spent.Evaluations, s.Paper.Barren)
	}
	s = evolve(t, 0.6, func(p *search.Paper) { p.Epochs, p.Directed = 2, false })
	if s.Spent.Evaluations != 201 {
		t.Errorf("with overlaps as by rejection, %d candidates were scored", s.Spent.Evaluations)
	}
}

func TestSet(t *testing.T) {
	p := search.PaperFull()
	err := search.Set(p, "population=20, mutations=10,crossovers=6 parents=4,epochs=3,p0-mask=0.5,p0-ratio=0.2,p0-depth=0.1,p-mask=0.4,"+
		"p-ratio=0.3,p-depth=0.2,alpha=0.9,overlap=literal,eta=7,range=0.1,tokens=512,granularity=32,head-granularity=2,refit=exact,rho=2,admm-steps=5")
	want := search.Paper{
		N: 20, Nm: 10, Nc: 6, K: 4, Epochs: 3, P0m: 0.5, P0s: 0.2, P0d: 0.1, Pm: 0.4, Ps: 0.3, Pd: 0.2, Alpha: 0.9, Literal: true, Eta: 7,
		Range: 0.1, Tokens: 512, Granularity: 32, HeadGranularity: 2, Refit: search.RefitExact, Rho: 2, Steps: 5,
	}
	if err != nil || *p != want {
		t.Errorf("%+v, %v", p, err)
	}
	for _, s := range search.Settings(p) {
		if err := search.Set(p, s.Name+"="+s.Value()); err != nil {
			t.Errorf("%s=%s: %v", s.Name, s.Value(), err)
		}
	}
	if *p != want {
		t.Errorf("its own values change it to %+v", p)
	}
	for list, message := range map[string]string{
		"alpha=1.5":        `alpha "1.5" is not a number in [0, 1]`,
		"alpha=NaN":        `alpha "NaN" is not a number in [0, 1]`,
		"range=0":          `range "0" is not a number in (0, 1]`,
		"population=0":     `population "0" is not an integer in [1, 100000]`,
		"population=many":  `population "many" is not an integer`,
		"overlap=some":     `overlap "some" is not one of uniform, rejection, literal`,
		"refit=best":       `refit "best" is not one of admm, exact, lathe, none`,
		"rho=0":            `rho "0" is not a number in (0,`,
		"beta=1":           `has no setting "beta"; it has population,`,
		"alpha":            `"alpha" is not a setting such as name=value`,
		"epochs=3 alpha=2": `alpha "2"`,
	} {
		if err := search.Set(search.PaperFull(), list); !errors.Is(err, search.ErrConfig) || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: %v", list, err)
		}
	}
	if err := search.Set(search.DefaultLadder(), "alpha=1"); !errors.Is(err, search.ErrConfig) || !strings.Contains(err.Error(), "it has children") {
		t.Errorf("ladder: %v", err)
	}
	for _, name := range search.Names() {
		if _, err := search.New(name); err != nil {
			t.Error(err)
		}
	}
}
