package pipeline

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/score"
	"github.com/lathe-llm/lathe/search/space"
)

// monitor is a Monitor that never pauses.
type monitor struct {
	notes []string
	gate  func(context.Context) error
}

func (m *monitor) Progress(float64, float64, string, string) {}
func (m *monitor) Note(text string)                          { m.notes = append(m.notes, text) }
func (m *monitor) Gate(ctx context.Context) error {
	if m.gate != nil {
		return m.gate(ctx)
	}
	return ctx.Err()
}

func (m *monitor) Persist(_ context.Context, write func() error) error { return write() }

// set is a tiny random model on the Go backend, and what a run in it is given.
type set struct {
	model *decoder.Model
	read  []int // windows that runs asked for
	store *levels.Store
}

func newSet(t *testing.T, arch string) *set {
	t.Helper()
	be, err := decoder.OpenDevice("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(be.Close)
	s := &set{}
	if s.model, err = decoder.Load(t.Context(), be, gguftest.Open(t, gguftest.Tiny(arch))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.model.Close)
	t.Cleanup(func() {
		if s.store != nil {
			_ = s.store.Close()
		}
	})
	return s
}

// config is a run over text of ten windows that ends after so many candidates.
func (s *set) config(dir string, candidates int) Config {
	const available, byDefault, seq = 10, 4, 32
	return Config{
		Request: Request{Target: search.Ratio(0.8), Seed: 1, Budget: search.Budget{Evaluations: candidates}},
		Source: Source{
			Geometry: s.model.Geometry(),
			Identity: func(context.Context) (string, error) { return "tiny", nil },
			Model:    func(context.Context) (*decoder.Model, error) { return s.model, nil },
			Levels: func(store *levels.Store) error {
				if s.store != nil {
					_ = s.store.Close()
				}
				s.store = store
				return nil
			},
			Text: func(_ context.Context, n int, atMost bool) (Text, error) {
				s.read = append(s.read, n)
				if n == 0 {
					n = byDefault
				}
				if atMost {
					n = min(n, available)
				}
				rng := rand.New(rand.NewPCG(1, 1))
				out := Text{Windows: make([][]int32, n), ID: "random"}
				for i := range out.Windows {
					for range seq {
						out.Windows[i] = append(out.Windows[i], int32(rng.IntN(s.model.Geometry().Vocab)))
					}
				}
				return out, nil
			},
		},
		Monitor: &monitor{}, Dir: dir, Scratch: os.TempDir(),
	}
}

func TestRun(t *testing.T) {
	s := newSet(t, "llama")
	for _, strategy := range []string{"", "paper-laptop", "paper", "paper+", "random"} {
		c := s.config(t.TempDir(), 40)
		c.Strategy = strategy
		var last View
		c.Show = func(v View) { last = v }
		modules := 0
		c.Refitting = func(oneshot.Event) { modules++ }
		got, err := Run(t.Context(), c)
		if err != nil {
			t.Fatalf("%q: %v", strategy, err)
		}
		if err := got.Subnet.Masks.Validate(); err != nil || got.Subnet.Masks.Size().Ratio > 0.8 || got.Subnet.Refit == nil {
			t.Errorf("%q: ratio %v, %v", strategy, got.Subnet.Masks.Size().Ratio, err)
		}
		if got.Report == nil || got.Recipe == nil || modules == 0 || got.Seq != 32 || got.Target != search.Ratio(0.8) {
			t.Errorf("%q: %d windows of %d, target %v, %d modules reported", strategy, got.Windows, got.Seq, got.Target, modules)
			continue
		}
		windows, fitness := 4, score.KL
		if strings.HasPrefix(strategy, "paper") { // as much text as there is, and the masks that were found
			windows, fitness = 10, score.Perplexity
			if best, _ := last.Best(); !got.Subnet.Masks.Equal(best.Masks) {
				t.Errorf("%q: the masks are not those of the best candidate", strategy)
			}
		}
		if solve := got.Recipe.Solve; strategy == "paper" && (solve.Method != reform.ADMM || solve.Rho != 1 || solve.Steps != 30 || solve.Pull) ||
			strategy != "paper" && strategy != "paper-laptop" && solve.Method == reform.ADMM {
			t.Errorf("%q: re-fitted by %+v", strategy, solve)
		}
		if got.Windows != windows || last.Fitness != fitness {
			t.Errorf("%q: %d windows, fitness %s", strategy, got.Windows, last.Fitness)
		}
		if last.Snapshot == nil || last.Status != search.Ended || last.Spent.Evaluations < 40 || last.DensePerplexity <= 1 || last.Strategy == "" {
			t.Errorf("%q: the last view is %+v", strategy, last)
		}
	}
}

// TestRunSets runs the paper's search with settings, and refuses others before it reads text.
func TestRunSets(t *testing.T) {
	s := newSet(t, "llama")
	c := s.config("", 0)
	c.Strategy, c.Set = "paper", "population=6,mutations=3,crossovers=2,epochs=2,tokens=64,range=0.2,refit=exact"
	var last View
	c.Show = func(v View) { last = v }
	got, err := Run(t.Context(), c)
	if err != nil || got.Recipe.Solve.Method != reform.Exact || last.Spent.Evaluations != 13 || last.Spent.Tokens != 13*64 {
		t.Errorf("%d candidates on %d tokens, re-fitted by %+v: %v", last.Spent.Evaluations, last.Spent.Tokens, got.Recipe, err)
	}
	s.read = nil
	for _, set := range []string{"alpha=2", "population=3", "nothing=1"} {
		c.Set = set
		if _, err := Run(t.Context(), c); !errors.As(err, new(*RequestError)) || !errors.Is(err, search.ErrConfig) || len(s.read) > 0 {
			t.Errorf("%s: %v", set, err)
		}
	}
}

// TestRunResumesWithItsText resumes a run whose text the time limit decided, without one.
func TestRunResumesWithItsText(t *testing.T) {
	s := newSet(t, "llama")
	dir := filepath.Join(t.TempDir(), "search") // not there yet
	c := s.config(dir, 20)
	c.Budget.Time = 10 * time.Minute
	first, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	// Workspaces hold this file.
	if text, err := os.ReadFile(filepath.Join(dir, "text.json")); err != nil || string(text) != `{"Windows":10,"Levels":8}` {
		t.Errorf("text.json is %s, %v", text, err)
	}
	c = s.config(dir, 40)
	c.Resume = true
	again, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.read) != 2 || s.read[0] != maxRefitWindows || s.read[1] != 10 {
		t.Errorf("text of %d windows was read", s.read)
	}
	if again.Windows < first.Windows {
		t.Errorf("re-fitted on %d windows, at first on %d", again.Windows, first.Windows)
	}
	c.Seed = 2
	if _, err := Run(t.Context(), c); !errors.Is(err, search.ErrOther) {
		t.Errorf("another seed: %v", err)
	}
}

func TestRunRefuses(t *testing.T) {
	s := newSet(t, "llama")
	for name, change := range map[string]func(*Config){
		"strategy":       func(c *Config) { c.Strategy = "magic" },
		"fitness":        func(c *Config) { c.Fitness = "beauty" },
		"steps":          func(c *Config) { c.UpSteps = new(-1) },
		"target":         func(c *Config) { c.Target = search.Ratio(1e-9) },
		"no such target": func(c *Config) { c.Target = search.Target{Measure: "weight", Value: 1} },
		"no prices":      func(c *Config) { c.Target = search.Target{Measure: search.Bytes, Value: 1e5} },
	} {
		c := s.config(t.TempDir(), 10)
		change(&c)
		var refused *RequestError
		if _, err := Run(t.Context(), c); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := s.config(t.TempDir(), 10)
	c.Windows = 1
	if _, err := Run(t.Context(), c); !errors.Is(err, reform.ErrText) {
		t.Errorf("one window: %v", err)
	}
	g := s.model.Geometry()
	uniformOnly := *g
	uniformOnly.Arch = "qwen3"
	c = s.config(t.TempDir(), 10)
	c.Geometry, c.Strategy = &uniformOnly, "random"
	if _, err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "use uniform") {
		t.Errorf("unequal widths for qwen3: %v", err)
	}
}

// prepared returns a run that is about to search.
func prepared(t *testing.T, c Config) *run {
	t.Helper()
	r := &run{Config: c, clock: newClock(c.Now)}
	t.Cleanup(r.close)
	if err := errors.Join(r.check(t.Context()), r.prepare(t.Context())); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestCompare has the dense model as one of two subnets, which nothing can beat.
func TestCompare(t *testing.T) {
	r := prepared(t, newSet(t, "llama").config(t.TempDir(), 1))
	l := r.store.Levels()
	dense, cut := l.Dense(), l.Dense()
	for slot := range cut {
		if subnet.Module(slot%subnet.Modules) == subnet.MLP {
			cut[slot] = int16(len(l.Ladder(slot)) / 2)
		}
	}
	for _, c := range []struct {
		name     string
		compare  bool
		found    space.Choice
		oneShots []space.Choice
		want     space.Choice
	}{
		{"the one-shot is better", true, cut, []space.Choice{dense}, dense},
		{"the best subnet is better", true, dense, []space.Choice{cut}, dense},
		{"the best subnet is the one-shot", true, cut, []space.Choice{cut}, cut},
		{"the best subnet is the first one-shot, the second is better", true, cut, []space.Choice{cut, dense}, dense},
		{"too little time, found nothing", false, cut, []space.Choice{cut, dense}, cut},
		{"too little time", false, cut, []space.Choice{dense}, cut},
		{"no one-shot", true, cut, nil, cut},
	} {
		r.plan.Compare = c.compare
		var found search.Result
		found.Best.Choice = c.found
		var err error
		if found.Best.Masks, err = l.Masks(c.found); err != nil {
			t.Fatal(err)
		}
		found.State.Ladder = &search.LadderState{OneShots: c.oneShots}
		got, err := r.compare(t.Context(), found)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		want, err := l.Masks(c.want)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Best.Choice.Equal(c.want) || !got.Best.Masks.Equal(want) {
			t.Errorf("%s: it was not chosen", c.name)
		}
	}
}

// TestPaceOfLevelsFound opens levels that another run made, for another fitness.
func TestPaceOfLevelsFound(t *testing.T) {
	s, dir := newSet(t, "llama"), t.TempDir()
	var first levels.Pace
	for _, fitness := range []score.Fitness{score.KL, score.Perplexity, score.KL} {
		c := s.config(dir, 1)
		c.Fitness = fitness
		r := prepared(t, c)
		if first == (levels.Pace{}) {
			first = r.pace
		}
		if r.pace.Window <= 0 || r.pace != first {
			t.Errorf("%s: pace %v, levels were made at %v", fitness, r.pace, first)
		}
	}
}

// TestPausesTakeNoTime pauses a run for a day at each gate; its time limit does not notice.
func TestPausesTakeNoTime(t *testing.T) {
	s := newSet(t, "llama")
	now := time.Unix(0, 0)
	c := s.config("", 30)
	c.Budget.Time = time.Hour
	c.Now = func() time.Time { return now }
	gates := 0
	c.Monitor = &monitor{gate: func(ctx context.Context) error {
		gates++
		now = now.Add(24 * time.Hour)
		return ctx.Err()
	}}
	var last View
	c.Show = func(v View) { last = v }
	got, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if last.Spent.Evaluations < 30 || last.Elapsed != 0 || gates < 30 {
		t.Errorf("%d candidates in %v, %d gates", last.Spent.Evaluations, last.Elapsed, gates)
	}
	if got.Windows != 10 {
		t.Errorf("re-fitted on %d of 10 windows", got.Windows)
	}
}

func TestRetries(t *testing.T) {
	full := errors.New("disk full")
	var r retries
	now := time.Unix(0, 0)
	failed, running := &search.Snapshot{Status: search.Paused, Err: full}, &search.Snapshot{Status: search.Running}
	for try := range maxRetries + 1 {
		want := failing
		if try == maxRetries {
			want = givingUp
		}
		if got := r.next(failed, now); got != want {
			t.Fatalf("error %d: %v, want %v", try, got, want)
		}
		if got := r.next(failed, now.Add(retryAfter)); got != nothing {
			t.Errorf("error %d: %v too soon", try, got)
		}
		if got := r.next(failed, now.Add(retryAfter+1)); got != retrying {
			t.Errorf("error %d: %v, want a retry", try, got)
		}
		if got := r.next(running, now); got != nothing {
			t.Errorf("error %d: %v while it runs", try, got)
		}
	}
}
