package remote_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/remote"
)

// patience is how long a search of a test may take: much longer than it does, so that only one that has stopped fails.
const patience = 4 * time.Minute

// evaluations is the budget of the searches of the tests.
const evaluations = 150

// find runs a search and returns its result without times. after, unless nil, is called after each score with how many there are.
func find(t *testing.T, problem search.Problem, e search.Evaluator, after func(n int)) search.Result {
	t.Helper()
	n := 0
	if after != nil {
		e = counted{e, func() { n++; after(n) }}
	}
	job, err := search.NewJob(search.Options{Strategy: search.DefaultLadder(), Problem: problem, Evaluator: e, Budget: search.Budget{Evaluations: evaluations}, Unattended: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := job.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.State.History {
		r.State.History[i].Elapsed = 0
	}
	for i := range r.State.Events {
		r.State.Events[i].At = time.Time{}
	}
	return r
}

// counted calls a function after each score.
type counted struct {
	search.Evaluator
	after func()
}

func (c counted) Evaluate(ctx context.Context, batch []search.Candidate, t search.Tier, done func(int, search.Score)) error {
	return c.Evaluator.Evaluate(ctx, batch, t, func(i int, s search.Score) {
		done(i, s)
		c.after()
	})
}

// alone is the result of the search without workers.
func alone(t *testing.T, s *site) search.Result {
	t.Helper()
	return find(t, s.problem(), s.l, nil)
}

func (s *site) problem() search.Problem { return s.l.Problem(search.Ratio(0.7), 3) }

// same fails unless a search with workers has ended exactly as one without: best subnet, front, history, and the number of candidates
// scored.
func same(t *testing.T, got, want search.Result) {
	t.Helper()
	if !got.Best.Masks.Equal(want.Best.Masks) || !reflect.DeepEqual(got.Best.Score, want.Best.Score) {
		t.Errorf("best: #%d %v, without workers #%d %v", got.Best.ID, got.Best.Score, want.Best.ID, want.Best.Score)
	}
	if got.State.Spent != want.State.Spent {
		t.Errorf("spent %+v, without workers %+v", got.State.Spent, want.State.Spent)
	}
	if !reflect.DeepEqual(got.State.History, want.State.History) || !reflect.DeepEqual(got.State.Points, want.State.Points) {
		t.Error("the history differs from that of the search without workers")
	}
}

// TestSameResultWithWorkers runs one search alone, with one worker and with two.
func TestSameResultWithWorkers(t *testing.T) {
	s := newSite(t, nil)
	want := alone(t, s)
	for _, workers := range []int{1, 2} {
		s.worker(nil)
		s.until("worker", func(w []remote.Worker) bool { return len(w) == workers && w[workers-1].State == remote.Idle })
		same(t, find(t, s.problem(), s.e, nil), want)
	}
	scored := 0
	for _, w := range s.e.Workers() {
		scored += w.Scored
		if !w.Exact {
			t.Errorf("worker %s does not reproduce the reference", w.ID)
		}
		if w.Scored == 0 {
			t.Errorf("worker %s scored nothing", w.ID)
		}
	}
	if notes := s.notes.String(); notes != "" {
		t.Errorf("notes: %s", notes)
	}
	if scored < evaluations {
		t.Errorf("the workers scored %d candidates", scored)
	}
}

// TestMasksWithWorkers hands out masks in place of choices.
func TestMasksWithWorkers(t *testing.T) {
	s := newSite(t, nil)
	run := func(e search.Evaluator) search.Result {
		p := search.PaperLaptop()
		job, err := search.NewJob(search.Options{Strategy: p, Problem: s.problem(), Evaluator: e, Budget: search.Budget{Evaluations: 60}, Unattended: true})
		if err != nil {
			t.Fatal(err)
		}
		r, err := job.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	want := run(s.l)
	s.worker(nil)
	if got := run(s.e); !got.Best.Masks.Equal(want.Best.Masks) || got.State.Spent != want.State.Spent {
		t.Errorf("best %v, spent %+v; without workers %v, %+v", got.Best.Score, got.State.Spent, want.Best.Score, want.State.Spent)
	}
}

// TestKilledWorkers kills workers by SIGKILL at random scores and starts others.
func TestKilledWorkers(t *testing.T) {
	s := newSite(t, nil)
	want := alone(t, s)
	rng := rand.New(rand.NewPCG(1, 2))
	workers := []*process{s.worker(nil), s.worker(nil)}
	kills := 0
	got := find(t, s.problem(), s.e, func(int) {
		if rng.IntN(25) == 0 && kills < 4 {
			i := rng.IntN(len(workers))
			workers[i].kill()
			workers[i] = s.worker(nil)
			kills++
		}
	})
	same(t, got, want)
	if kills == 0 {
		t.Error("no worker was killed")
	}
}

// TestRestartedServer stops the server and starts it again while tasks are under way.
func TestRestartedServer(t *testing.T) {
	s := newSite(t, nil)
	want := alone(t, s)
	s.worker(nil)
	s.worker(nil)
	got := find(t, s.problem(), s.e, func(n int) {
		if n == 40 || n == 90 {
			s.restart(nil)
		}
	})
	same(t, got, want)
}

// restart stops the server, changes its folder and starts it again.
func (s *site) restart(change func(dir string)) {
	s.t.Helper()
	s.server.Stop()
	if change != nil {
		change(filepath.Join(s.dir, "nats"))
	}
	if err := s.server.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// TestForgetfulServer takes the server back to an earlier state of its disk, as after a power failure, and then to an empty one.
func TestForgetfulServer(t *testing.T) {
	s := newSite(t, nil)
	want := alone(t, s)
	s.worker(nil)
	s.worker(nil)
	before := filepath.Join(s.dir, "before")
	got := find(t, s.problem(), s.e, func(n int) {
		switch n {
		case 30:
			s.restart(func(dir string) {
				if err := os.CopyFS(before, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
			})
		case 80:
			s.restart(func(dir string) {
				if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(before))); err != nil {
					t.Fatal(err)
				}
			})
		case 110:
			s.restart(func(dir string) {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			})
		}
	})
	same(t, got, want)
}

// TestDuplicates delivers tasks and results again, and messages that are neither.
func TestDuplicates(t *testing.T) {
	s := newSite(t, nil)
	want := alone(t, s)
	conn, js := streamsOf(t, s.server.Own())
	results, err := conn.SubscribeSync("lathe." + s.spec.Search + ".result.*")
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := conn.SubscribeSync("lathe." + s.spec.Search + ".task")
	if err != nil {
		t.Fatal(err)
	}
	s.worker(nil)
	s.worker(nil)
	got := find(t, s.problem(), s.e, func(n int) {
		if n%10 != 0 {
			return
		}
		for _, sub := range []interface {
			NextMsg(time.Duration) (*nats.Msg, error)
		}{results, tasks} {
			m, err := sub.NextMsg(time.Millisecond)
			if err != nil {
				continue
			}
			if m.Subject == "lathe."+s.spec.Search+".task" {
				if _, err := js.Publish(t.Context(), m.Subject, m.Data); err != nil {
					t.Error(err)
				}
			} else if err := conn.Publish(m.Subject, m.Data); err != nil {
				t.Error(err)
			}
		}
		for _, subject := range []string{"result.0123456789abcdef0123456789abcdef", "result.x", "failed", "status.w1", "status.other"} {
			if err := conn.Publish("lathe."+s.spec.Search+"."+subject, []byte(`{"Worker":"w1","Numbers":"AAAAAAAAAAA="}`)); err != nil {
				t.Error(err)
			}
		}
	})
	same(t, got, want)
}

// TestPoisonedCandidate has every worker die of one candidate: the search gives it up, reports why and scores it itself.
func TestPoisonedCandidate(t *testing.T) {
	for name, change := range map[string]func(c *childSettings, params int64){
		"dies":  func(c *childSettings, params int64) { c.Poison = params },
		"fails": func(c *childSettings, params int64) { c.Fails = params },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(o *remote.Options) { o.Timing.AckWait, o.Timing.Deliveries = 500*time.Millisecond, 2 })
			want := alone(t, s)
			poison := want.Best.Masks.BlockParams()
			var workers []*process
			start := func() *process { return s.worker(func(c *childSettings) { change(c, poison) }) }
			workers = append(workers, start(), start())
			end := make(chan struct{})
			kept := make(chan struct{})
			go func() { // keeps two workers alive
				defer close(kept)
				for {
					for i := range workers {
						select {
						case <-end:
							return
						case <-workers[i].ended:
							workers[i] = start()
						case <-time.After(20 * time.Millisecond):
						}
					}
				}
			}()
			got := find(t, s.problem(), s.e, nil)
			close(end)
			<-kept
			same(t, got, want)
			given := s.e.GivenUp()
			if len(given) == 0 || !strings.Contains(s.notes.String(), "it is scored by the search itself") {
				t.Errorf("given up: %v; notes: %s", given, s.notes)
			}
			if name == "fails" && !strings.Contains(fmt.Sprint(given), "out of memory") {
				t.Errorf("given up: %v", given)
			}
		})
	}
}

// memory keeps a checkpoint.
type memory struct{ data []byte }

func (m *memory) Save(data []byte) error {
	m.data = data
	return nil
}

func (m *memory) Load() ([]byte, error) {
	if m.data == nil {
		return nil, search.ErrNoCheckpoint
	}
	return m.data, nil
}

// TestResumedSearch interrupts a search again and again and resumes it from its checkpoint, each time under another identity: what streams
// hold of the one before is not needed, and the end is that of the search alone.
func TestResumedSearch(t *testing.T) {
	s := newSite(t, nil)
	want := alone(t, s)
	store, rng := &memory{}, rand.New(rand.NewPCG(3, 4))
	var got search.Result
	for parts := 0; ; parts++ {
		if parts > 0 {
			s.spec.Search = remote.NewSearchID()
			s.open(s.server.Own(), nil)
		}
		// A worker of the whole server: those that it starts itself are confined to its first search.
		w := s.worker(func(c *childSettings) { c.Address = s.server.Own() })
		ctx, cancel := context.WithCancel(t.Context())
		left := 20 + rng.IntN(40)
		job, err := search.NewJob(search.Options{
			Strategy: search.DefaultLadder(), Problem: s.problem(), Budget: search.Budget{Evaluations: evaluations}, Unattended: true, Store: store, Resume: true,
			Evaluator: counted{s.e, func() {
				if left--; left == 0 {
					cancel()
				}
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err = job.Run(ctx)
		cancel()
		w.kill()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) || parts > 20 {
			t.Fatalf("part %d: %v", parts, err)
		}
	}
	if !got.Best.Masks.Equal(want.Best.Masks) || got.State.Spent != want.State.Spent || !reflect.DeepEqual(got.State.Points, want.State.Points) {
		t.Errorf("best %v, spent %+v; alone %v, %+v", got.Best.Score, got.State.Spent, want.Best.Score, want.State.Spent)
	}
}

// TestSlowWorker has one worker that never finishes. Its candidates are handed out again.
func TestSlowWorker(t *testing.T) {
	s := newSite(t, nil)
	want := alone(t, s)
	s.worker(func(c *childSettings) { c.Gated = true })
	s.worker(nil)
	s.until("two workers", func(w []remote.Worker) bool {
		return len(w) == 2 && w[0].State == remote.Idle && w[1].State == remote.Idle
	})
	same(t, find(t, s.problem(), s.e, nil), want)
}

// TestAsync has one worker that never finishes: an asynchronous search goes on without its candidates, and counts them apart.
func TestAsync(t *testing.T) {
	s := newSite(t, func(o *remote.Options) { o.Async = true })
	s.worker(func(c *childSettings) { c.Gated = true })
	s.worker(nil)
	s.until("two workers", func(w []remote.Worker) bool {
		return len(w) == 2 && w[0].State == remote.Idle && w[1].State == remote.Idle
	})
	got := find(t, s.problem(), s.e, nil)
	events := ""
	for _, e := range got.State.Events {
		events += e.Text + "\n"
	}
	if !strings.Contains(events, "were not waited for") || got.State.Spent.Dropped > 0 {
		t.Errorf("events: %s, %d dropped", events, got.State.Spent.Dropped)
	}
	if got.Best.ID == 0 || got.State.Spent.Evaluations < evaluations {
		t.Errorf("best #%d after %d evaluations", got.Best.ID, got.State.Spent.Evaluations)
	}
}

// TestDrain drains one of two workers: it leaves with status 0, and the search ends as alone.
func TestDrain(t *testing.T) {
	s := newSite(t, nil)
	want := alone(t, s)
	first := s.worker(nil)
	s.worker(nil)
	s.until("two workers", func(w []remote.Worker) bool {
		return len(w) == 2 && w[0].State == remote.Idle && w[1].State == remote.Idle
	})
	got := find(t, s.problem(), s.e, func(n int) {
		if n == 20 {
			if err := s.e.Drain("w1"); err != nil {
				t.Error(err)
			}
		}
	})
	same(t, got, want)
	<-first.ended
	if code := first.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the drained worker ended with status %d", code)
	}
	s.until("worker that has gone", func(w []remote.Worker) bool { return w[0].State == remote.Gone })
	if err := s.e.Drain("w1"); !errors.Is(err, remote.ErrNoWorker) {
		t.Errorf("error %v", err)
	}
}

// TestRefused starts workers that do not fit the search. Each gives one clear line.
func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*childSettings)
		search func(*remote.Options)
		want   string
	}{
		"version": {func(c *childSettings) { c.Version = "v2" }, nil, "it runs in version v1, the worker is version v2"},
		"device":  {func(c *childSettings) { c.Device = "cuda" }, nil, "it computes on go, the worker on cuda"},
		"weights": {nil, func(o *remote.Options) { o.Spec.Weights = "bf16" }, "its weights are bf16 on the device, the worker's f32"},
		"algebra": {nil, func(o *remote.Options) { o.Spec.Algebra = "xla" }, "its linear algebra is that of xla, the worker's of"},
		"runner":  {nil, func(o *remote.Options) { o.Spec.Runner = "llama-server" }, "it runs models on llama-server, the worker on"},
		"model":   {func(c *childSettings) { c.Models = []string{strings.Repeat("0", 64)} }, nil, "its model has the hash"},
		"loss":    {nil, func(o *remote.Options) { o.Spec.Reference.NLL *= 1.01 }, "the dense model's loss is"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, test.search)
			p := s.worker(test.change)
			<-p.ended
			if code, words := p.cmd.ProcessState.ExitCode(), p.words.String(); code != 4 || !strings.Contains(words, test.want) {
				t.Errorf("status %d: %s", code, words)
			}
			s.until("refusal", func(w []remote.Worker) bool {
				return len(w) == 1 && w[0].State == remote.Refused && strings.Contains(w[0].Error, test.want)
			})
			if !strings.Contains(s.notes.String(), test.want) {
				t.Errorf("notes: %s", s.notes)
			}
		})
	}
	t.Run("text", func(t *testing.T) {
		s := newSite(t, nil)
		path := filepath.Join(s.dir, "shared", s.spec.Text.SHA256)
		if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("the texT"), 0o600)); err != nil {
			t.Fatal(err)
		}
		p := s.worker(nil)
		<-p.ended
		if words := p.words.String(); p.cmd.ProcessState.ExitCode() != 4 || !strings.Contains(words, "its content is not that of its hash") {
			t.Errorf("words: %s", words)
		}
	})
}
