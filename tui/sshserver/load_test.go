//go:build unix

package sshserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
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
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/tui"
)

// echoing is the real program with a mark in the window's title that counts presses of F9, so that a client recognises the
// frame that shows a key.
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

// marks reads the output of a session and waits for one mark.
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

// BenchmarkLoad opens fifty terminals, one of which does not read, while a search uses all cores. It reports the time from a key
// to the frame that shows it (ms-p50, ms-p95), the share of the machine that the sessions leave to the search, the candidates
// per second of the search alone and watched, and the memory of a session. The clients run in the same process and count too.
//
//	go test ./tui/sshserver -run xxx -bench Load -benchtime 1x
func BenchmarkLoad(b *testing.B) {
	const sessions = 50
	panes := tui.NewPanes()
	f := serve(b, func(o *Options) {
		o.Limits.SessionsPerKey = sessions + 1
		o.Program = func(ctx context.Context, s *Session) (tea.Model, []tea.ProgramOption) {
			options := tui.Options{Actor: s.Actor, Environ: s.Environ, Pace: s.Pace, Panes: panes, Hosted: true}
			return &echoing{Model: tui.New(ctx, s.Exploration, options)}, tui.ProgramOptions(ctx, options)
		}
	})
	l := &load{b: b, fixture: f}
	l.search()
	var alone, watched phase
	var memory int64
	var late []time.Duration
	for b.Loop() {
		alone = l.measure(idle)
		before := heap()
		clients := l.open(sessions)
		watched = l.measure(idle)
		memory = (heap() - before) / sessions
		_ = l.measure(func(until <-chan time.Time) { late = append(late, l.press(clients[1:], until)...) })
		if n := len(f.sessions.all()); n != sessions {
			b.Errorf("%d sessions are open", n)
		}
		for _, c := range clients {
			_ = c.session.Close()
		}
		if err := f.sessions.wait(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(late)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	drawing := watched.cores - watched.pace*alone.each
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(late[len(late)/2]), "ms-p50")
	b.ReportMetric(ms(late[len(late)*95/100]), "ms-p95")
	b.ReportMetric(100*(1-drawing/float64(runtime.GOMAXPROCS(0))), "%-left")
	b.ReportMetric(alone.pace, "alone-cand/s")
	b.ReportMetric(watched.pace, "watched-cand/s")
	b.ReportMetric(float64(memory)/(1<<20), "MiB/session")
}

// load is a server under load.
type load struct {
	*fixture
	b          *testing.B
	candidates atomic.Int64 // scored by the search
}

// phase is a search's candidates per second, and its processor seconds per second and per candidate. Other processes of the
// machine change the first and hardly the others.
type phase struct{ pace, cores, each float64 }

// loaded is a client of the benchmark.
type loaded struct {
	session *gossh.Session
	keys    io.Writer
	out     *marks
}

// idle waits for the end of a phase.
func idle(until <-chan time.Time) { <-until }

// search starts a search that uses all cores and does not end by itself.
func (l *load) search() {
	l.backend.Pace = func(ctx context.Context, unit string) error {
		if unit != "candidates" {
			return ctx.Err()
		}
		var wg sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			wg.Go(func() { _ = burn() })
		}
		wg.Wait()
		l.candidates.Add(1)
		return ctx.Err()
	}
	explorertest.Do(l.b, l.exploration, explorer.GatherStatistics{})
	started, err := l.exploration.Do(l.b.Context(), explorertest.Owner, explorer.StartSearch{Target: search.Ratio(0.8), Seed: 1, Budget: explorer.Budget{Evaluations: 1 << 20}})
	if err != nil {
		l.b.Fatal(err)
	}
	l.b.Cleanup(func() {
		_, _ = l.exploration.Do(context.Background(), explorertest.Owner, explorer.StopJob{Job: started.Job})
	})
}

// measure measures the search during a phase of 12 seconds.
func (l *load) measure(during func(until <-chan time.Time)) phase {
	began, from, used := time.Now(), l.candidates.Load(), processor(l.b)
	during(time.After(12 * time.Second))
	n, wall, cpu := float64(l.candidates.Load()-from), time.Since(began).Seconds(), processor(l.b)-used
	return phase{n / wall, cpu / wall, cpu / n}
}

// open opens terminals, of which the first does not read, and waits for the first frame of the others.
func (l *load) open(n int) []loaded {
	var clients []loaded
	for i := range n {
		session := l.session(l.viewer)
		keys, err := session.StdinPipe()
		if err != nil {
			l.b.Fatal(err)
		}
		c := loaded{session, keys, &marks{seen: make(chan time.Time, 1)}}
		c.out.expect("mark-0.")
		if i == 0 {
			if _, err := session.StdoutPipe(); err != nil {
				l.b.Fatal(err)
			}
		} else {
			session.Stdout = c.out
		}
		if err := session.RequestPty("xterm-256color", 40, 120, gossh.TerminalModes{}); err != nil {
			l.b.Fatal(err)
		}
		if err := session.Shell(); err != nil {
			l.b.Fatal(err)
		}
		clients = append(clients, c)
		if i == 0 {
			continue
		}
		select {
		case <-c.out.seen:
		case <-time.After(patience):
			l.b.Fatalf("session %d shows nothing", i)
		}
	}
	return clients
}

// press presses F9 in one client after another until the end of a phase, and returns the times to the frames that show it.
func (l *load) press(clients []loaded, until <-chan time.Time) (late []time.Duration) {
	for n := 0; ; n++ {
		c := clients[n%len(clients)]
		c.out.expect(fmt.Sprintf("mark-%d.", n/len(clients)+1))
		pressed := time.Now()
		if _, err := io.WriteString(c.keys, "\x1b[20~"); err != nil {
			l.b.Fatal(err)
		}
		select {
		case seen := <-c.out.seen:
			late = append(late, seen.Sub(pressed))
		case <-time.After(patience):
			l.b.Fatal("a key leads to no frame")
		}
		select {
		case <-until:
			return late
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// processor is the processor time this process has used, in seconds.
func processor(t testing.TB) float64 {
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
