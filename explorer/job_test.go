package explorer_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

// valve lets units of work through one kind at a time.
type valve struct {
	mu   sync.Mutex
	shut map[string]chan struct{}
	some chan struct{} // closed once something waits
	once sync.Once
}

// waited returns a channel that is closed once something has waited at the valve.
func (v *valve) waited() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.some == nil {
		v.some = make(chan struct{})
	}
	return v.some
}

func (v *valve) pace(ctx context.Context, unit string) error {
	v.mu.Lock()
	c := v.shut[unit]
	v.mu.Unlock()
	if c == nil {
		return nil
	}
	v.waited()
	v.once.Do(func() { close(v.some) })
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (v *valve) close(unit string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shut == nil {
		v.shut = make(map[string]chan struct{})
	}
	v.shut[unit] = make(chan struct{})
}

func (v *valve) open(unit string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	close(v.shut[unit])
	delete(v.shut, unit)
}

func start(t *testing.T, e *explorer.Exploration, c explorer.Command) explorer.JobID {
	t.Helper()
	r, err := e.Do(t.Context(), explorertest.Owner, c)
	if err != nil {
		t.Fatal(err)
	}
	return r.Job
}

func untilState(t *testing.T, e *explorer.Exploration, id explorer.JobID, want explorer.JobState) {
	t.Helper()
	explorertest.Until(t, e, string(id)+" to be "+string(want), func(s *explorer.Snapshot) bool {
		j, _ := s.Job(id)
		return j.State == want
	})
}

func TestForegroundJobsRunOneAtATime(t *testing.T) {
	v := &valve{}
	b := explorertest.New()
	b.Pace = v.pace
	e := explorertest.Open(t, b, "")
	v.close("layers")
	first := start(t, e, explorer.Cut{Target: 0.8})
	second := start(t, e, explorer.Cut{Target: 0.7})
	third := start(t, e, explorer.Cut{Target: 0.6})
	untilState(t, e, first, explorer.Running)
	if j, _ := e.Snapshot().Job(second); j.State != explorer.Queued {
		t.Errorf("second is %s", j.State)
	}
	if _, err := e.Do(t.Context(), explorertest.Owner, explorer.StopJob{Job: second}); err != nil {
		t.Fatal(err)
	}
	untilState(t, e, second, explorer.Stopped)
	v.open("layers")
	untilState(t, e, third, explorer.Done)
	s := e.Snapshot()
	if len(s.Subnets) != 2 || s.Jobs[0].ID != third || s.Jobs[1].ID != first {
		t.Errorf("%d subnets, jobs %v", len(s.Subnets), s.Jobs)
	}
}

func TestSearchYieldsToWhoeverWaits(t *testing.T) {
	v := &valve{}
	b := explorertest.New()
	b.Pace = v.pace
	e := explorertest.Open(t, b, "")
	searching := start(t, e, explorer.StartSearch{Target: search.Ratio(0.8), Budget: explorer.Budget{Evaluations: 1 << 20}})
	explorertest.Until(t, e, "candidates", func(s *explorer.Snapshot) bool { return s.Search.Evaluated > 10 })

	v.close("windows")
	measure := start(t, e, explorer.Measure{Subnet: explorer.DenseID})
	untilState(t, e, measure, explorer.Running)
	untilState(t, e, searching, explorer.Yielded)
	v.open("windows")
	untilState(t, e, measure, explorer.Done)
	untilState(t, e, searching, explorer.Running)

	v.close("token")
	chat := explorertest.Do(t, e, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID}}).Chat
	explorertest.Do(t, e, explorer.Say{Chat: chat, Text: "hello"})
	untilState(t, e, searching, explorer.Yielded)
	before := e.Snapshot().Search.Evaluated
	v.open("token")
	explorertest.Until(t, e, "the search to resume", func(s *explorer.Snapshot) bool { return s.Search.Evaluated > before })

	command(t, e, explorer.PauseJob{Job: searching})
	untilState(t, e, searching, explorer.Paused)
	command(t, e, explorer.ResumeJob{Job: searching})
	untilState(t, e, searching, explorer.Running)

	command(t, e, explorer.Retarget{Target: search.Ratio(0.7)})
	explorertest.Until(t, e, "the new target", func(s *explorer.Snapshot) bool {
		return s.Search.Target == search.Ratio(0.7) && s.Search.Best.Ratio < 0.72
	})
	command(t, e, explorer.Inject{Subnet: explorer.DenseID})
	explorertest.Until(t, e, "the injected one", func(s *explorer.Snapshot) bool {
		for _, c := range s.Search.Population {
			if c.Origin == search.ByHand {
				return true
			}
		}
		return false
	})
	adopted := explorertest.Do(t, e, explorer.Adopt{Name: "the best"}).Subnet
	if n, ok := e.Snapshot().Subnet(adopted); !ok || n.Origin != explorer.Searched || n.Method.Target != 0.7 {
		t.Errorf("adopted %+v", n.Method)
	}
	command(t, e, explorer.StopJob{Job: searching})
	if j := explorertest.Ended(t, e, searching); j.State != explorer.Stopped || j.Result == "" {
		t.Errorf("stopped search: %s, result %q", j.State, j.Result)
	}
}

func TestStatisticsYieldToASearch(t *testing.T) {
	v := &valve{}
	b := explorertest.New()
	b.Pace = v.pace
	e := explorertest.Open(t, b, "")
	v.close("candidates")
	v.close("layers")
	statistics := start(t, e, explorer.GatherStatistics{})
	untilState(t, e, statistics, explorer.Running)
	search := start(t, e, explorer.StartSearch{Target: search.Ratio(0.8), Budget: explorer.Budget{Evaluations: 20}})
	v.open("layers") // it comes to its gate and lets the search in
	untilState(t, e, statistics, explorer.Yielded)
	v.open("candidates")
	untilState(t, e, search, explorer.Done)
	untilState(t, e, statistics, explorer.Done)
}

func TestDraftIsMeasuredByItself(t *testing.T) {
	v := &valve{}
	b := explorertest.New()
	b.Pace = v.pace
	e, err := explorer.Open(t.Context(), explorer.Options{
		Model: "m.gguf", Backend: b, Now: b.Clock.Now, MeasureDraft: &explorer.Measure{Seq: 512, Windows: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	explorertest.Do(t, e, explorer.GatherStatistics{})
	v.close("windows")
	for _, layer := range []int{4, 5, 6} {
		explorertest.Do(t, e, explorer.Edit{Mutations: []draft.Mutation{draft.DropMLP{Layers: []int{layer}}}})
	}
	v.open("windows")
	s := explorertest.Until(t, e, "the measurement", func(s *explorer.Snapshot) bool {
		return s.Draft.Measured != nil && s.Draft.MeasuredVersion == s.Draft.Version && s.Draft.Estimate.Compared > 0
	})
	if s.Draft.Measured.Relative() <= 1 || s.Draft.Estimate.Spread <= 0 || len(s.Model.Measurements) != 1 {
		t.Errorf("measured %+v, estimate %+v", s.Draft.Measured, s.Draft.Estimate)
	}
	measured := 0
	for _, j := range explorertest.Quiet(t, e).Jobs {
		if j.Kind == explorer.JobMeasure && j.State == explorer.Done { // those of earlier drafts were stopped
			measured++
		}
	}
	if measured != 1 {
		t.Errorf("%d measurements for edits made in one go", measured)
	}
}

// TestStopAfterTuning stops a cut in the moment in which its tuning has ended: the tuned subnet is kept.
func TestStopAfterTuning(t *testing.T) {
	b := explorertest.New()
	var e *explorer.Exploration
	b.Write = func() error { // the last thing that tuning does
		_, err := e.Do(context.Background(), explorertest.Owner, explorer.StopJob{Job: e.Snapshot().Jobs[0].ID})
		return err
	}
	e = explorertest.Open(t, b, "")
	j := explorertest.Ended(t, e, start(t, e, explorer.Cut{Target: 0.8, Tuning: explorer.Tuning{Steps: 5}}))
	if n, ok := e.Snapshot().Subnet(j.Result); !ok || n.Method.Tune == nil {
		t.Errorf("%s, %s: kept %t, tuned %+v", j.State, j.Err, ok, n.Method.Tune)
	}
}

func TestCloseStopsEverything(t *testing.T) {
	b, dir := explorertest.New(), t.TempDir()
	e := explorertest.Open(t, b, dir)
	start(t, e, explorer.StartSearch{Target: search.Ratio(0.8), Budget: explorer.Budget{Evaluations: 1 << 30}})
	explorertest.Until(t, e, "candidates", func(s *explorer.Snapshot) bool { return s.Search.Evaluated > 3 })
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Do(t.Context(), explorertest.Owner, explorer.Undo{}); err == nil {
		t.Error("a closed exploration takes commands")
	}
}

func TestPanicInAJobFailsTheJobAlone(t *testing.T) {
	b := explorertest.New()
	b.Pace = func(_ context.Context, unit string) error {
		if unit == "windows" {
			panic("boom")
		}
		return nil
	}
	e := explorertest.Open(t, b, "")
	if j := explorertest.Ended(t, e, start(t, e, explorer.Measure{Subnet: explorer.DenseID})); j.State != explorer.Failed {
		t.Errorf("job is %s", j.State)
	}
	explorertest.Do(t, e, explorer.Cut{Target: 0.8})
}

func command(t *testing.T, e *explorer.Exploration, c explorer.Command) {
	t.Helper()
	if _, err := e.Do(t.Context(), explorertest.Owner, c); err != nil {
		t.Fatalf("%T: %v", c, err)
	}
}

// TestClock shows what is left of a job or its phase until a little after the moment at which it should have ended, and then how long it has run.
func TestClock(t *testing.T) {
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	whole := explorer.Progress{Left: 10 * time.Second, Spent: time.Minute, At: at}
	phase := explorer.Progress{PhaseLeft: 10 * time.Second, Spent: time.Minute, At: at, Phase: explorer.Phase{Number: 2, Of: 5, Name: "levels"}}
	for _, c := range []struct {
		p     explorer.Progress
		after time.Duration
		want  time.Duration
		what  string
	}{
		{whole, 0, 10 * time.Second, "left"},
		{whole, 4 * time.Second, 6 * time.Second, "left"},
		{whole, 12 * time.Second, time.Second, "left"},
		{whole, 20 * time.Second, 80 * time.Second, "so far"},
		{phase, 4 * time.Second, 6 * time.Second, "left of levels"},
		{phase, 20 * time.Second, 80 * time.Second, "so far"},
		{explorer.Progress{Spent: time.Minute, At: at}, time.Second, 61 * time.Second, "so far"},
		{explorer.Progress{}, time.Hour, 0, ""},
	} {
		if d, what := c.p.Clock(at.Add(c.after)); d != c.want || what != c.what {
			t.Errorf("%+v after %v: %v %s, want %v %s", c.p, c.after, d, what, c.want, c.what)
		}
	}
}
