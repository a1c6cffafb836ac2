package remote_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/remote"
	"github.com/lathe-llm/lathe/search/searchtest"
	"github.com/lathe-llm/lathe/search/space"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// childVariable holds the settings of a worker process of a test, as JSON.
const childVariable = "LATHE_TEST_WORKER"

// TestMain runs a worker where a test has started the process as one.
func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		os.Exit(child(text))
	}
	os.Exit(m.Run())
}

// childSettings are the settings of a worker process.
type childSettings struct {
	Address remote.Address
	ID      string
	Version string
	Device  string
	Models  []string
	Dir     string // for downloads
	Shared  []string
	Search  string
	Timing  remote.Timing
	// Gated has the worker read a line before each candidate. Poison kills it by a candidate with so many block parameters; Fails makes
	// scoring fail for such a candidate.
	Gated         bool
	Poison, Fails int64
	// PoisonPiece kills it by a piece with that number, and FailsPiece makes such a piece fail. WrongPiece has it send something else. GatedPieces has
	// it read a line before each piece.
	PoisonPiece, FailsPiece, WrongPiece int
	GatedPieces                         bool
	Lines                               chan struct{} `json:"-"`
}

func options() searchtest.Options { return searchtest.Options{Seed: 7, Noise: 0.5, Text: 0.5} }

// child runs a worker whose model is the landscape.
func child(text string) int {
	var s childSettings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	lines := make(chan struct{})
	go func() {
		in := bufio.NewReader(os.Stdin)
		for {
			if _, err := in.ReadString('\n'); err != nil {
				cancel() // the test has ended
				return
			}
			lines <- struct{}{}
		}
	}()
	s.Lines = lines
	l := searchtest.New(options())
	l.Before = func(ctx context.Context, c search.Candidate, t search.Tier) error {
		n := c.Masks.BlockParams()
		switch {
		case n == l.Geometry.BlockParams(): // the reference
			return nil
		case s.Gated:
			select {
			case <-lines:
			case <-ctx.Done():
				return ctx.Err()
			}
		case n == s.Poison:
			os.Exit(9)
		case n == s.Fails:
			return errors.New("out of memory")
		}
		return nil
	}
	conn, err := remote.Dial(ctx, s.Address, s.ID, func(text string) { fmt.Fprintln(os.Stderr, text) })
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer conn.Close()
	_, err = remote.Work(ctx, remote.WorkerOptions{
		Conn: conn, ID: s.ID, Host: "test", Weights: "f32", Version: s.Version, Device: s.Device, Compute: s.Device, Models: s.Models, Search: s.Search, Once: true, Timing: s.Timing,
		Files: remote.Files{Dir: s.Dir, Shared: s.Shared},
		Open: func(_ context.Context, _ remote.Spec, o remote.Opened) (remote.Scorer, error) {
			if data, err := os.ReadFile(o.Model); err != nil || len(data) == 0 {
				return nil, fmt.Errorf("model %s: %d bytes, %w", o.Model, len(data), err)
			}
			return &scorer{l, s}, nil
		},
		Log: func(text string) { fmt.Fprintln(os.Stderr, text) },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 4
	}
	return 0
}

// scorer is the landscape as a worker has it.
type scorer struct {
	l        *searchtest.Landscape
	settings childSettings
}

func (s *scorer) Evaluate(ctx context.Context, batch []search.Candidate, t search.Tier, done func(int, search.Score)) error {
	return s.l.Evaluate(ctx, batch, t, done)
}
func (s *scorer) Geometry() *subnet.Geometry { return s.l.Geometry }
func (s *scorer) Levels() *space.Levels      { return s.l.Levels }
func (s *scorer) Dense() search.Candidate    { return dense(s.l) }
func (s *scorer) Do(ctx context.Context, p remote.Piece, files []string, dir string) (remote.Product, error) {
	return do(ctx, s.settings, p, files, dir)
}
func (s *scorer) AddBase(string, string) error {
	return nil
}
func (s *scorer) Reused() float64 { return 0 }
func (s *scorer) Close()          {}

func dense(l *searchtest.Landscape) search.Candidate {
	return search.Candidate{Masks: subnet.Dense(l.Geometry), Choice: l.Levels.Dense()}
}

// process is a running worker of a test.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	words *words
	ended chan struct{}
}

// words collects what a process prints.
type words struct {
	mu   sync.Mutex
	data []byte
}

func (w *words) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.data = append(w.data, b...)
	return len(b), nil
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.data)
}

// spawn starts a worker process, which ends with the test.
func spawn(t testing.TB, s childSettings) *process {
	t.Helper()
	return spawnBy(t, s, os.Args[0])
}

// spawnBy starts a worker process by a command.
func spawnBy(t testing.TB, s childSettings, command ...string) *process {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), childVariable+"="+string(data))
	p := &process{cmd: cmd, words: &words{}, ended: make(chan struct{})}
	cmd.Stderr = p.words
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.stdin.Close()
		p.kill()
		if t.Failed() {
			t.Logf("worker %s: %s", s.ID, p.words)
		}
	})
	return p
}

// kill ends the process at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// streamsOf connects to a server until the test ends.
func streamsOf(t *testing.T, a remote.Address) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	conn, err := remote.Dial(t.Context(), a, "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return conn, js
}

// quick are times for tests: short, but longer than anything that is not lost takes.
func quick() remote.Timing {
	return remote.Timing{
		AckWait: 2 * time.Second, Heartbeat: 300 * time.Millisecond, Status: 100 * time.Millisecond, Announce: 100 * time.Millisecond,
		Audit: 200 * time.Millisecond, Lost: 2 * time.Second, Silence: 20 * time.Second, Deliveries: 3,
	}
}

// site is a search on a landscape with a server of its own.
type site struct {
	t      testing.TB
	dir    string
	server *remote.Server
	e      *remote.Exchange
	spec   remote.Spec
	l      *searchtest.Landscape
	notes  *words
	next   int
}

// newSite starts a server and announces a search.
func newSite(t testing.TB, change func(*remote.Options)) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), l: searchtest.New(options()), notes: &words{}}
	s.spec = s.describe()
	var err error
	if s.server, err = remote.StartServer(s.spec.Search, filepath.Join(s.dir, "nats")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.server.Stop)
	s.open(s.server.Own(), change)
	return s
}

// describe writes the files of the search and describes it.
func (s *site) describe() remote.Spec {
	s.t.Helper()
	spec := remote.Spec{Search: remote.NewSearchID(), Version: "v1", Device: "go", Weights: "f32", Fitness: "kl", Reference: remote.Reference{Tier: search.Tier{Tokens: 64}}}
	for name, f := range map[string]*remote.File{"model": &spec.Model, "text": &spec.Text} {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, []byte("the "+name), 0o600); err != nil {
			s.t.Fatal(err)
		}
		var err error
		if *f, err = remote.HashFile(s.t.Context(), path); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := s.l.Evaluate(s.t.Context(), []search.Candidate{dense(s.l)}, spec.Reference.Tier, func(_ int, got search.Score) { spec.Reference.NLL = got.NLL }); err != nil {
		s.t.Fatal(err)
	}
	return spec
}

// open connects the search.
func (s *site) open(a remote.Address, change func(*remote.Options)) {
	s.t.Helper()
	conn, err := remote.Dial(s.t.Context(), a, "test", func(text string) { fmt.Fprintln(s.notes, text) })
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(conn.Close)
	o := remote.Options{
		Conn: conn, Spec: s.spec, Local: s.l, Timing: quick(), Own: filepath.Join(s.dir, "shared"),
		Note: func(text string) { fmt.Fprintln(s.notes, text) },
	}
	if change != nil {
		change(&o)
	}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("notes: %s", s.notes)
		}
	})
	e, err := remote.New(s.t.Context(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.e = e
	s.t.Cleanup(func() {
		if err := e.Close(); err != nil {
			s.t.Error(err)
		}
	})
	for name, f := range map[string]remote.File{"model": s.spec.Model, "text": s.spec.Text} {
		if err := s.e.Offer(f, filepath.Join(s.dir, name)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// settings are those of the next worker.
func (s *site) settings() childSettings {
	s.next++
	var a remote.Address
	if s.server != nil {
		a = s.server.Workers()
	}
	return childSettings{
		Address: a, ID: fmt.Sprintf("w%d", s.next), Version: "v1", Device: "go", Timing: quick(), Search: s.spec.Search,
		Dir: filepath.Join(s.dir, "files"), Shared: []string{filepath.Join(s.dir, "shared")},
	}
}

// worker starts a worker.
func (s *site) worker(change func(*childSettings)) *process {
	s.t.Helper()
	c := s.settings()
	if change != nil {
		change(&c)
	}
	return spawn(s.t, c)
}

// until waits for a condition on the workers.
func (s *site) until(what string, holds func(w []remote.Worker) bool) {
	s.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(time.Minute); !holds(s.e.Workers()); {
		select {
		case <-tick.C:
		case <-limit:
			s.t.Fatalf("no %s: %+v", what, s.e.Workers())
		}
	}
}
