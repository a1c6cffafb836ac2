//go:build unix

package sshserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	gossh "golang.org/x/crypto/ssh"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/tui"
)

// echoing is the real program with a mark in the window's title that follows a key, so that a client can tell the frame
// that a key led to from all others.
type echoing struct {
	tea.Model
	keys int
}

func (e *echoing) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	if k, ok := msg.(tea.KeyPressMsg); ok && k.String() == "f9" {
		e.keys++
		return e, nil
	}
	var cmd tea.Cmd
	e.Model, cmd = e.Model.Update(msg)
	return e, cmd
}

func (e *echoing) View() tea.View {
	v := e.Model.View()
	v.WindowTitle = fmt.Sprintf("mark-%d.", e.keys)
	return v
}

// marks is the output of a session, of which only the newest mark counts.
type marks struct {
	mu   sync.Mutex
	tail []byte
	wait string
	seen chan time.Time
}

func (m *marks) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tail = append(m.tail, b...)
	if m.wait != "" && bytes.Contains(m.tail, []byte(m.wait)) {
		m.wait = ""
		m.seen <- time.Now()
	}
	m.tail = m.tail[max(0, len(m.tail)-32):]
	return len(b), nil
}

func (m *marks) expect(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wait = text
}

// burn is a fixed amount of computing.
func burn() (x float64) {
	for i := range 2_000_000 {
		x += float64(i%7) * 1.0000001
	}
	return x
}

// TestLoad has fifty people look at a search on all cores, one of whom has stopped reading, and states what it costs. The
// clients run in the same process, so their work counts too. It takes 40 s and is run on request: LATHE_LOAD=1.
func TestLoad(t *testing.T) {
	if os.Getenv("LATHE_LOAD") == "" {
		t.Skip("takes 40 s on all cores; set LATHE_LOAD=1 to run it")
	}
	const sessions = 50
	panes := tui.NewPanes()
	f := serve(t, func(o *Options) {
		o.Limits.SessionsPerKey = sessions + 1
		o.Program = func(ctx context.Context, s *Session) (tea.Model, []tea.ProgramOption) {
			options := tui.Options{Actor: s.Actor, Environ: s.Environ, Pace: s.Pace, Panes: panes, Hosted: true}
			return &echoing{Model: tui.New(ctx, s.Exploration, options)}, tui.ProgramOptions(ctx, options)
		}
	})
	var candidates atomic.Int64
	f.backend.Pace = func(ctx context.Context, unit string) error {
		if unit != "candidates" {
			return ctx.Err()
		}
		var wg sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			wg.Go(func() { _ = burn() })
		}
		wg.Wait()
		candidates.Add(1)
		return ctx.Err()
	}
	explorertest.Do(t, f.exploration, explorer.GatherStatistics{})
	search, err := f.exploration.Do(t.Context(), explorertest.Owner, explorer.StartSearch{Target: 0.8, Seed: 1, Budget: explorer.Budget{Evaluations: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = f.exploration.Do(context.Background(), explorertest.Owner, explorer.StopJob{Job: search.Job})
	})
	// A phase's candidates a second and processor seconds a second and a candidate. What other processes take from this
	// one changes the first and hardly the others.
	type phase struct{ pace, cores, each float64 }
	throughput := func(during func(until <-chan time.Time)) phase {
		began, from, used := time.Now(), candidates.Load(), processor(t)
		during(time.After(12 * time.Second))
		n, wall, cpu := float64(candidates.Load()-from), time.Since(began).Seconds(), processor(t)-used
		return phase{n / wall, cpu / wall, cpu / n}
	}
	idle := func(until <-chan time.Time) { <-until }
	_ = throughput(func(until <-chan time.Time) { <-time.After(time.Second) }) // warm up
	alone := throughput(idle)
	before := heap()

	type client struct {
		keys io.Writer
		out  *marks
	}
	var clients []client
	for i := range sessions {
		session := f.session(f.viewer)
		keys, err := session.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		c := client{keys, &marks{seen: make(chan time.Time, 1)}}
		c.out.expect("mark-0.")
		if i == 0 { // the one who has stopped reading
			if _, err := session.StdoutPipe(); err != nil {
				t.Fatal(err)
			}
		} else {
			session.Stdout = c.out
		}
		if err := session.RequestPty("xterm-256color", 40, 120, gossh.TerminalModes{}); err != nil {
			t.Fatal(err)
		}
		if err := session.Shell(); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			select {
			case <-c.out.seen:
			case <-time.After(patience):
				t.Fatalf("session %d shows nothing", i)
			}
			clients = append(clients, c)
		}
	}
	watched := throughput(idle)
	memory := (heap() - before) / sessions
	var late []time.Duration
	_ = throughput(func(until <-chan time.Time) {
		for n := 0; ; n++ {
			c := clients[n%len(clients)]
			c.out.expect(fmt.Sprintf("mark-%d.", n/len(clients)+1))
			pressed := time.Now()
			if _, err := io.WriteString(c.keys, "\x1b[20~"); err != nil { // F9
				t.Error(err)
				return
			}
			select {
			case seen := <-c.out.seen:
				late = append(late, seen.Sub(pressed))
			case <-time.After(patience):
				t.Error("a key leads to no frame")
				return
			}
			select {
			case <-until:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	slices.Sort(late)
	p95 := late[len(late)*95/100]
	drawing := watched.cores - watched.pace*alone.each
	kept := 1 - drawing/float64(runtime.GOMAXPROCS(0))
	t.Logf("%d cores (%.2f had alone, %.2f watched), %d sessions of 120x40: search %.1f candidates/s alone, %.1f watched; the sessions and their clients take %.2f cores, which leaves the search %.0f %% of the machine; key to frame median %v, 95th percentile %v of %d keys; pace %v; %.1f MiB a session, clients included",
		runtime.GOMAXPROCS(0), alone.cores, watched.cores, sessions, alone.pace, watched.pace, drawing, 100*kept, late[len(late)/2].Round(time.Millisecond),
		p95.Round(time.Millisecond), len(late), f.pacer.pace().Round(time.Millisecond), float64(memory)/(1<<20))
	if kept < 0.85 {
		t.Errorf("the search keeps %.0f %% of the machine, want 85 %%", 100*kept)
	}
	if p95 > 200*time.Millisecond {
		t.Errorf("key to frame takes %v at the 95th percentile, want 200 ms", p95)
	}
	if n := len(f.Sessions()); n != sessions {
		t.Errorf("%d sessions are open", n)
	}
}

// processor is the processor time this process has used, in seconds.
func processor(t *testing.T) float64 {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// heap is what is in use after a collection, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
