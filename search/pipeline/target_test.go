package pipeline

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// prices are the sizes of files of a tiny model, and times that were measured only where timed is set.
type prices struct {
	*gguf.Sizes
	timed *atomic.Bool
}

func (p prices) Bytes(m subnet.Masks, typ string) (file, tensors int64, err error) {
	size, err := p.Of(m, gguf.Refitted{Outputs: true}, typ)
	return size.File, size.Tensors, err
}

func (p prices) Seconds(m subnet.Masks, _ string) (float64, bool) {
	return 1e-3 * (0.2 + 0.8*m.Size().Ratio), p.timed.Load()
}

// priced is the configuration of a run with prices.
func priced(t *testing.T, s *set, dir, target string, candidates int) Config {
	t.Helper()
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	sizes, err := gguf.NewSizes(f)
	if err != nil {
		t.Fatal(err)
	}
	c := s.config(dir, candidates)
	if c.Target, err = search.ParseTarget(target, ""); err != nil {
		t.Fatal(err)
	}
	p := prices{sizes, new(atomic.Bool)}
	c.Prices = func(_ context.Context, t search.Target) (search.Prices, error) {
		if t.Timed() {
			p.timed.Store(true) // as a measurement does
		}
		return p, nil
	}
	return c
}

// What a run finds meets its target, whatever the target bounds, and one that it cannot meet is refused before the work.
func TestRunMeetsTargets(t *testing.T) {
	for _, target := range []string{"150kB", "150kB:Q8_0", "memory=150kB@256", "speed=1.2x", "latency=0.85ms"} {
		for _, strategy := range []string{"", "paper-laptop"} {
			if strategy != "" && target != "latency=0.85ms" {
				continue // its space does not reach the others
			}
			s := newSet(t, "llama")
			c := priced(t, s, t.TempDir(), target, 20)
			c.Strategy = strategy
			got, err := Run(t.Context(), c)
			if err != nil {
				t.Errorf("%s by %q: %v", target, strategy, err)
				continue
			}
			p, err := c.Prices(t.Context(), c.Target)
			if err != nil {
				t.Fatal(err)
			}
			cost := c.Target.Cost(got.Subnet.Masks, p)
			if got.Target != c.Target || cost > c.Target.Value*(1+1e-9) || cost < 0.8*c.Target.Value {
				t.Errorf("%s by %q: the subnet costs %v of %v", target, strategy, cost, c.Target.Value)
			}
		}
	}
	for _, target := range []string{"10kB", "memory=1kB@256", "speed=100x", "latency=1us"} {
		c := priced(t, newSet(t, "llama"), t.TempDir(), target, 20)
		var refused *RequestError
		if _, err := Run(t.Context(), c); !errors.As(err, &refused) || !errors.Is(err, search.ErrTarget) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// A search is resumed to a target of another kind with the levels that it has.
func TestRunResumesToAnotherKindOfTarget(t *testing.T) {
	s, dir := newSet(t, "llama"), t.TempDir()
	c := priced(t, s, dir, "0.8", 20)
	if _, err := Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	key := s.store.Levels().Key
	c.Resume, c.Budget.Evaluations = true, 40
	var err error
	if c.Retarget, err = search.ParseTarget("speed=1.3x", ""); err != nil {
		t.Fatal(err)
	}
	got, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := c.Prices(t.Context(), c.Retarget)
	if got.Target != c.Retarget || c.Retarget.Cost(got.Subnet.Masks, p) > c.Retarget.Value || s.store.Levels().Key != key {
		t.Errorf("it found %v for %v, levels %s instead of %s", c.Retarget.Cost(got.Subnet.Masks, p), got.Target, s.store.Levels().Key, key)
	}
	// And again, with the target that the checkpoint has.
	c.Retarget, c.Budget.Evaluations = search.Target{}, 60
	if again, err := Run(t.Context(), c); err != nil || again.Target != got.Target {
		t.Errorf("it continues to %v (%v)", again.Target, err)
	}
}

// While a command holds the search, nothing is scored; and the target that it then sets is met.
func TestHold(t *testing.T) {
	s := newSet(t, "llama")
	c := priced(t, s, t.TempDir(), "0.8", 1000)
	target, err := search.ParseTarget("speed=1.4x", "")
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	c.Command = func(ctx context.Context, job Running, hold func(context.Context) (func(), error)) {
		if job.Snapshot().State.Generation < 2 {
			return
		}
		once.Do(func() {
			release, err := hold(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			before := job.Snapshot().Spent.Evaluations
			if err := job.Retarget(target); !errors.Is(err, search.ErrConfig) {
				t.Errorf("a target in time before times were measured: %v", err)
			}
			if _, err := c.Prices(ctx, target); err != nil {
				t.Error(err)
			}
			if err := job.Retarget(target); err != nil {
				t.Error(err)
			}
			if after := job.Snapshot().Spent.Evaluations; after != before {
				t.Errorf("%d candidates were scored meanwhile", after-before)
			}
			release()
		})
	}
	got, err := Run(t.Context(), c)
	if err != nil || got.Target != target {
		t.Errorf("it ends at %v (%v)", got.Target, err)
	}
}
