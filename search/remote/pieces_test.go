package remote_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/search/remote"
)

// pieces is how many pieces the tests hand out.
const pieces = 24

// times is how often a piece repeats its file: the result has several parts.
const times = 4

// worksite is a site that hands out pieces.
type worksite struct {
	*site
	left []int // numbers of the pieces that workers could not do
}

// newWorksite starts a server and announces pieces.
func newWorksite(t *testing.T, change func(*remote.Options)) *worksite {
	t.Helper()
	s := newSite(t, func(o *remote.Options) {
		o.Dir = filepath.Join(t.TempDir(), "products")
		if change != nil {
			change(o)
		}
	})
	return &worksite{site: s}
}

// piece offers the file of a piece and returns it.
func (s *worksite) piece(number int) remote.Piece {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "input")
	if err := os.WriteFile(path, noise(number), 0o600); err != nil {
		s.t.Fatal(err)
	}
	f, err := remote.HashFile(s.t.Context(), path)
	if err == nil {
		err = s.e.Offer(f, path)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	settings, err := json.Marshal(double{number, times})
	if err != nil {
		s.t.Fatal(err)
	}
	return remote.Piece{Kind: "double", Settings: settings, Files: []remote.File{f}, Spent: 1, Limit: times * f.Bytes}
}

// hand hands pieces out and checks that each comes back once, and right: by a worker or, where none could do it, as left. after, unless nil, is
// called after each with how many there are.
func (s *worksite) hand(after func(n int)) {
	s.t.Helper()
	back := map[int]bool{}
	took := func(number int) {
		if back[number] {
			s.t.Errorf("piece %d comes back twice", number)
		}
		back[number] = true
		if after != nil {
			after(len(back))
		}
	}
	p := s.e.NewPieces(func(_ context.Context, number int, got remote.Product) error {
		var value int
		if err := json.Unmarshal(got.Value, &value); err != nil || value != 2*number || len(got.Files) != 1 {
			return fmt.Errorf("%w: %s", remote.ErrProduct, got.Value)
		}
		data, err := os.ReadFile(got.Files[0])
		if err != nil {
			return err
		}
		if !bytes.Equal(data, doubled(noise(number), times)) {
			s.t.Errorf("piece %d: the file has %d bytes, and is not what it should be", number, len(data))
		}
		took(number)
		return nil
	}, func(_ context.Context, number int, _ string) error {
		s.left = append(s.left, number)
		took(number)
		return nil
	})
	for number := 1; number <= pieces; number++ {
		if err := p.Add(number, fmt.Sprint("piece ", number), s.piece(number)); err != nil {
			s.t.Fatal(err)
		}
	}
	p.End()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := p.Run(ctx); err != nil {
		s.t.Fatal(err)
	}
	if len(back) != pieces {
		s.t.Errorf("%d of %d pieces come back", len(back), pieces)
	}
}

// TestPieces hands pieces out to two workers: through a folder that both sides see, and through the server alone.
func TestPieces(t *testing.T) {
	for _, shared := range []bool{true, false} {
		t.Run(fmt.Sprintf("shared %v", shared), func(t *testing.T) {
			s := newWorksite(t, func(o *remote.Options) {
				if !shared {
					o.Own = ""
				}
			})
			change := func(c *childSettings) {
				if !shared {
					c.Shared, c.Address, c.Dir = nil, s.server.Own(), t.TempDir() // a server elsewhere permits the object store
				}
			}
			s.worker(change)
			s.worker(change)
			s.until("two workers", func(w []remote.Worker) bool {
				return len(w) == 2 && w[0].State == remote.Idle && w[1].State == remote.Idle
			})
			s.hand(nil)
			if len(s.left) > 0 || s.notes.String() != "" {
				t.Errorf("left: %v; notes: %s", s.left, s.notes)
			}
			s.until("report of what is done", func(w []remote.Worker) bool { return w[0].Scored+w[1].Scored == pieces })
			for _, w := range s.e.Workers() {
				if w.Scored == 0 || w.Doing != "double" {
					t.Errorf("worker %+v", w)
				}
			}
			folders := []string{"shared"}
			if !shared {
				folders = nil
			}
			for _, name := range folders { // inputs stay until they are retracted, results do not
				files, err := os.ReadDir(filepath.Join(s.dir, name))
				if err != nil || len(files) != pieces+2 {
					t.Errorf("%d files are left in %s: %v", len(files), name, err)
				}
			}
		})
	}
}

// TestPiecesSurvive does the pieces of work what is done to candidates: workers are killed, the server restarts and forgets, messages come twice, a worker
// never finishes, another sends wrong results, and one is drained.
func TestPiecesSurvive(t *testing.T) {
	t.Run("killed workers", func(t *testing.T) {
		s := newWorksite(t, nil)
		rng := rand.New(rand.NewPCG(5, 6))
		workers := []*process{s.worker(nil), s.worker(nil)}
		kills := 0
		s.hand(func(int) {
			if rng.IntN(5) == 0 && kills < 4 {
				i := rng.IntN(len(workers))
				workers[i].kill()
				workers[i] = s.worker(nil)
				kills++
			}
		})
		if kills == 0 {
			t.Error("no worker was killed")
		}
	})
	t.Run("restarted server", func(t *testing.T) {
		s := newWorksite(t, nil)
		s.worker(nil)
		s.worker(nil)
		s.hand(func(n int) {
			switch n {
			case 5:
				s.restart(nil)
			case 14:
				s.restart(func(dir string) {
					if err := os.RemoveAll(dir); err != nil {
						t.Fatal(err)
					}
				})
			}
		})
	})
	t.Run("duplicates", func(t *testing.T) {
		s := newWorksite(t, nil)
		conn, err := remote.Dial(t.Context(), s.server.Own(), "duplicates", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		var mu sync.Mutex
		var heard [][2]string
		for _, subject := range []string{".task", ".result.*", ".product"} {
			sub, err := conn.SubscribeSync("lathe." + s.spec.Search + subject)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for {
					m, err := sub.NextMsgWithContext(t.Context())
					if err != nil {
						return
					}
					mu.Lock()
					heard = append(heard, [2]string{m.Subject, string(m.Data)})
					mu.Unlock()
				}
			}()
		}
		s.worker(nil)
		s.worker(nil)
		s.hand(func(int) {
			mu.Lock()
			again := heard
			heard = nil
			mu.Unlock()
			for _, m := range again[:min(len(again), 3)] {
				if err := conn.Publish(m[0], []byte(m[1])); err != nil {
					t.Error(err)
				}
			}
			for _, subject := range []string{"product", "result.0123456789abcdef0123456789abcdef"} {
				if err := conn.Publish("lathe."+s.spec.Search+"."+subject, []byte(`{"Worker":"w1","Value":1}`)); err != nil {
					t.Error(err)
				}
			}
		})
	})
	t.Run("slow worker", func(t *testing.T) {
		s := newWorksite(t, nil)
		s.worker(func(c *childSettings) { c.GatedPieces = true })
		s.worker(nil)
		s.until("two workers", func(w []remote.Worker) bool {
			return len(w) == 2 && w[0].State == remote.Idle && w[1].State == remote.Idle
		})
		s.hand(nil)
	})
	t.Run("drained worker", func(t *testing.T) {
		s := newWorksite(t, nil)
		first := s.worker(nil)
		s.worker(nil)
		s.until("two workers", func(w []remote.Worker) bool {
			return len(w) == 2 && w[0].State == remote.Idle && w[1].State == remote.Idle
		})
		s.hand(func(n int) {
			if n == 4 {
				if err := s.e.Drain("w1"); err != nil {
					t.Error(err)
				}
			}
		})
		<-first.ended
		if code := first.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the drained worker ended with status %d", code)
		}
	})
}

// TestPoisonedPiece has every worker die of one piece, fail on it, or send a wrong result: it is left to the caller, with the reason.
func TestPoisonedPiece(t *testing.T) {
	const number = 7
	for name, test := range map[string]struct {
		change func(*childSettings)
		want   string
	}{
		"dies":  {func(c *childSettings) { c.PoisonPiece = number }, "2 workers took it and were not heard of again"},
		"fails": {func(c *childSettings) { c.FailsPiece = number }, "out of memory"},
		"wrong": {func(c *childSettings) { c.WrongPiece = number }, "unusable result"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newWorksite(t, func(o *remote.Options) { o.Timing.AckWait, o.Timing.Deliveries = 500*time.Millisecond, 2 })
			start := func() *process { return s.worker(test.change) }
			workers := []*process{start(), start()}
			end, kept := make(chan struct{}), make(chan struct{})
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
			s.hand(nil)
			close(end)
			<-kept
			if len(s.left) == 0 || s.left[0] != number || !strings.Contains(fmt.Sprint(s.e.GivenUp()), test.want) || !strings.Contains(s.notes.String(), "it is done here") {
				t.Errorf("left: %v; given up: %v; notes: %s", s.left, s.e.GivenUp(), s.notes)
			}
		})
	}
}

// TestPhases has the same workers do pieces and score candidates, each in a phase of one search. Tasks of a phase that workers have not heard of yet
// are not lost.
func TestPhases(t *testing.T) {
	s := newWorksite(t, nil)
	want := alone(t, s.site)
	s.worker(nil)
	s.worker(nil)
	for phase := range 3 {
		if phase > 0 {
			if err := s.e.Begin(s.spec, s.l, nil); err != nil {
				t.Fatal(err)
			}
		}
		if phase != 1 {
			s.hand(nil)
		}
		same(t, find(t, s.problem(), s.e, nil), want)
	}
	for _, w := range s.e.Workers() {
		if w.Scored < pieces/2 || w.State == remote.Gone || w.State == remote.Refused {
			t.Errorf("worker %+v", w)
		}
	}
	if len(s.left) > 0 || s.notes.String() != "" {
		t.Errorf("left: %v; notes: %s", s.left, s.notes)
	}
}

// TestPiecesComeAndGo adds pieces while others are under way, and withdraws one that no worker does.
func TestPiecesComeAndGo(t *testing.T) {
	s := newWorksite(t, nil)
	s.worker(func(c *childSettings) { c.GatedPieces = true })
	var p *remote.Pieces
	var back []int
	p = s.e.NewPieces(func(_ context.Context, number int, _ remote.Product) error {
		back = append(back, number)
		return nil
	}, func(context.Context, int, string) error { return errors.New("a piece is left") })
	ended := make(chan error, 1)
	go func() { ended <- p.Run(t.Context()) }()
	for number := 1; number <= 3; number++ {
		if err := p.Add(number, "piece", s.piece(number)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Add(1, "piece", s.piece(1)); err == nil {
		t.Error("the same piece twice")
	}
	s.until("worker that has a piece", func(w []remote.Worker) bool { return len(w) == 1 && w[0].State == remote.Scoring })
	for number := 1; number <= 3; number++ {
		p.Withdraw(number)
	}
	p.End()
	if err := <-ended; err != nil || len(back) > 0 {
		t.Errorf("%v come back, error %v", back, err)
	}
	if n := s.e.Queued(); n != 0 {
		t.Errorf("%d pieces are with workers", n)
	}
}

// TestEqualPieces hands equal pieces out under several numbers: each comes back.
func TestEqualPieces(t *testing.T) {
	s := newWorksite(t, nil)
	s.worker(nil)
	back := map[int]bool{}
	p := s.e.NewPieces(func(_ context.Context, number int, got remote.Product) error {
		back[number] = true
		_, err := os.Stat(got.Files[0])
		return err
	}, func(context.Context, int, string) error { return errors.New("a piece is left") })
	for number := 1; number <= 3; number++ {
		if err := p.Add(number, "piece", s.piece(1)); err != nil {
			t.Fatal(err)
		}
	}
	p.End()
	if err := p.Run(t.Context()); err != nil || len(back) != 3 || s.notes.String() != "" {
		t.Errorf("%v come back, error %v; notes: %s", back, err, s.notes)
	}
}

// TestNoWorkers hands a piece out to nobody: that is reported, and the work waits.
func TestNoWorkers(t *testing.T) {
	var late atomic.Bool
	s := newWorksite(t, func(o *remote.Options) {
		o.Now = func() time.Time {
			if late.Load() {
				return time.Now().Add(time.Hour)
			}
			return time.Now()
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := s.e.NewPieces(func(context.Context, int, remote.Product) error { return errors.New("a product") }, func(context.Context, int, string) error { return errors.New("left") })
	if err := p.Add(1, "piece", s.piece(1)); err != nil {
		t.Fatal(err)
	}
	p.End()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	late.Store(true)
	s.until("note", func([]remote.Worker) bool { return strings.Contains(s.notes.String(), "no worker has joined yet") })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || strings.Count(s.notes.String(), "\n") != 1 {
		t.Errorf("error %v; notes: %s", err, s.notes)
	}
}
