package explorertest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/search"
)

func (c contract) ask() explorer.StartSearch {
	return explorer.StartSearch{Target: search.Ratio(0.8), Seed: 1, Budget: explorer.Budget{Evaluations: c.Evaluations}, Calibration: c.Calibration}
}

func (c contract) search(t *testing.T) {
	w, o := watch(t), &orders{}
	dir := t.TempDir()
	made, err := c.m.Search(t.Context(), c.ask(), dir, o, w)
	if err != nil {
		t.Fatal(err)
	}
	w.worked()
	if r := made.Subnet.Masks.Size().Ratio; made.Subnet.Masks.Validate() != nil || r > 0.81 || made.Method.Preset == "" || made.Method.Target != 0.8 {
		t.Errorf("ratio %g by %+v", r, made.Method)
	}
	if o.wrong != "" || len(o.measured) == 0 {
		t.Errorf("sensitivities of %d modules are shown; wrong: %s", len(o.measured), o.wrong)
	}
	evaluated := 0
	for _, s := range o.all() {
		if s.Evaluated < evaluated {
			t.Errorf("%d candidates after %d", s.Evaluated, evaluated)
		}
		evaluated = s.Evaluated
	}
	last := o.last()
	if last.Best == nil || last.Evaluated < c.Evaluations || last.DensePerplexity <= 1 || len(last.Front) == 0 || len(last.Cloud) == 0 || last.Strategy == "" || last.Seed != 1 {
		t.Fatalf("the last state is %+v", last)
	}
	if !slices.IsSortedFunc(last.Front, func(a, b explorer.Candidate) int {
		if a.Ratio < b.Ratio {
			return -1
		}
		return 1
	}) {
		t.Error("the front is not in order of size")
	}
	sub, err := c.m.Assemble(t.Context(), *last.Best, dir)
	if err != nil || !sub.Masks.Equal(last.Best.Masks) {
		t.Errorf("assembled other masks (%v)", err)
	}
	more := c.ask()
	more.Resume, more.Budget.Evaluations = true, c.Evaluations+10
	o = &orders{}
	if _, err := c.m.Search(t.Context(), more, dir, o, watch(t)); err != nil || o.last().Evaluated < c.Evaluations+10 {
		t.Errorf("resumed with a larger budget: %d candidates (%v)", o.last().Evaluated, err)
	}
}

func (c contract) searchOrders(t *testing.T) {
	o := &orders{given: []explorer.Order{explorer.Retarget{Target: search.Ratio(0.7)}, explorer.Injection{Name: "by hand", Subnet: gguf.Subnet{Masks: c.without(0)}}}}
	ask := c.ask()
	ask.Budget.Evaluations *= 10 // candidates enough for the orders to come in between
	made, err := c.m.Search(t.Context(), ask, "", o, watch(t))
	if err != nil {
		t.Fatal(err)
	}
	if last := o.last(); last.Target != search.Ratio(0.7) || made.Method.Target != 0.7 || made.Subnet.Masks.Size().Ratio > 0.71 {
		t.Errorf("target %v, ratio %g", last.Target, made.Subnet.Masks.Size().Ratio)
	}
}

func (c contract) searchPaused(t *testing.T) {
	w, o := watch(t), &orders{}
	w.held, w.release = make(chan struct{}), make(chan struct{})
	ended := make(chan error)
	go func() {
		_, err := c.m.Search(t.Context(), c.ask(), "", o, w)
		ended <- err
	}()
	select {
	case <-w.held:
	case err := <-ended:
		t.Fatalf("it ended without a gate: %v", err)
	}
	select {
	case err := <-ended:
		t.Errorf("it ended while it was paused: %v", err)
	default:
	}
	close(w.release)
	if err := <-ended; err != nil || o.last().Evaluated < c.Evaluations {
		t.Errorf("resumed: %d candidates (%v)", o.last().Evaluated, err)
	}
}

func (c contract) searchCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := &orders{published: func(s explorer.Search) {
		if s.Best != nil {
			cancel()
		}
	}}
	ask := c.ask()
	ask.Budget.Evaluations = 1 << 20
	made, err := c.m.Search(ctx, ask, t.TempDir(), o, watch(t))
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if made.Subnet.Masks.Layers() == 0 {
		t.Error("what was found is lost")
	}
}

func (c contract) searchRefused(t *testing.T) {
	for name, change := range map[string]func(*explorer.StartSearch){
		"strategy": func(s *explorer.StartSearch) { s.Strategy = "none such" },
		"fitness":  func(s *explorer.StartSearch) { s.Fitness = "none such" },
		"target":   func(s *explorer.StartSearch) { s.Target = search.Ratio(1.5) },
	} {
		ask := c.ask()
		change(&ask)
		if _, err := c.m.Search(t.Context(), ask, "", &orders{}, watch(t)); !errors.Is(err, explorer.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ask := c.ask()
	ask.Calibration.Text = c.Missing
	if _, err := c.m.Search(t.Context(), ask, "", &orders{}, watch(t)); !errors.Is(err, explorer.ErrText) {
		t.Errorf("a missing text: %v", err)
	}
}
