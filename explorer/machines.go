package explorer

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/lathe-llm/lathe/search/remote"
)

// Machines is where work is done besides the job's own process: by workers, through a NATS server.
type Machines struct {
	// Workers is how many workers are started on this machine, through a server inside the process unless NATS is set.
	Workers int `json:",omitempty"`
	// NATS is the address of a server, "" for none: nats://HOST:PORT or tls://HOST:PORT.
	NATS  string `json:",omitempty"`
	Creds string `json:",omitempty"` // credentials file
	CA    string `json:",omitempty"` // certificates that the server's is checked with
	Cert  string `json:",omitempty"` // certificate of this side, with Key
	Key   string `json:",omitempty"`
	// Shared is a folder that workers see too, in which they find the model and the levels; "" sends them through the server.
	Shared string `json:",omitempty"`
	// Async has the search go on without candidates that take much longer than others.
	Async bool `json:",omitempty"`
}

// MaxWorkers is the most workers that a job starts.
const MaxWorkers = 64

// WorkersRange is the range of the number of workers that a job starts.
func WorkersRange() Range { return Range{1, MaxWorkers, false} }

// On reports whether work is handed out.
func (m Machines) On() bool { return m.Workers > 0 || m.NATS != "" }

// NamesFile reports whether the settings name files or servers, which clients of a server may not.
func (m Machines) NamesFile() bool {
	return m.NATS != "" || m.Creds != "" || m.CA != "" || m.Cert != "" || m.Key != "" || m.Shared != ""
}

// check returns the first setting that is out of range or has no meaning.
func (m Machines) check() error {
	switch {
	case m.Workers < 0 || m.Workers > MaxWorkers:
		return fmt.Errorf("%w: %d workers; %d at most", ErrInvalid, m.Workers, MaxWorkers)
	case m.NATS == "" && (m.Creds != "" || m.CA != "" || m.Cert != "" || m.Key != "" || m.Shared != ""):
		return fmt.Errorf("%w: credentials, certificates and a shared folder belong to a NATS server: give its address", ErrInvalid)
	case m.Async && !m.On():
		return fmt.Errorf("%w: only a search with workers is asynchronous", ErrInvalid)
	case m.NATS == "":
		return nil
	}
	if err := (remote.Address{URL: m.NATS, Creds: m.Creds, CA: m.CA, Cert: m.Cert, Key: m.Key, Password: "from the environment"}).Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// Check returns the first setting that is out of range or has no meaning for work other than a search.
func (m Machines) Check() error { return m.checkPieces() }

// checkPieces is check for work other than a search.
func (m Machines) checkPieces() error {
	if m.Async {
		return fmt.Errorf("%w: only a search is asynchronous", ErrInvalid)
	}
	return m.check()
}

// A Worker is a process that scores candidates of the running search, or does other work of a job.
type Worker struct {
	ID     string
	Host   string
	Device string
	State  string // preparing, refused, idle, scoring, draining, gone, lost
	Scored int    // candidates, or pieces of other work
	Failed int    // those that it could not score or do
	// PerMinute is how many of them it does in a minute lately, 0 while unknown.
	PerMinute float64
	Error     string // the last one
	// Doing is what it does, or did last: candidates, levels, sensitivity, statistics, perplexity or zeroshot; "" before its first task.
	Doing string
}

// A Crew is the workers of a job.
type Crew struct {
	Workers []Worker
	Queued  int // candidates or pieces of work that they have
	// Drain has a worker finish its task and leave; nil where there are none any more.
	Drain func(worker string) error
}

// crew is the drain function of the job that has workers now.
type crew struct {
	mu    sync.Mutex
	job   JobID
	drain func(worker string) error
}

// Workers implements [Monitor].
func (m *monitor) Workers(c Crew) {
	e := m.e
	e.crew.mu.Lock()
	if c.Drain == nil && e.crew.job != m.id {
		e.crew.mu.Unlock()
		return // those of another job
	}
	e.crew.job, e.crew.drain = m.id, c.Drain
	e.crew.mu.Unlock()
	e.update(SectionSearch, func(s *Snapshot) { s.Search.Workers, s.Search.Queued = c.Workers, c.Queued })
}

// Works reports whether a worker takes tasks.
func (w Worker) Works() bool {
	return w.State == string(remote.Idle) || w.State == string(remote.Scoring)
}

func (c DrainWorker) do(_ context.Context, e *Exploration, _ Actor) (Receipt, error) {
	i := slices.IndexFunc(e.Snapshot().Search.Workers, func(w Worker) bool { return w.ID == c.Worker })
	if i < 0 {
		return Receipt{}, fmt.Errorf("worker %.64q: %w", c.Worker, ErrNotFound)
	}
	e.crew.mu.Lock()
	drain := e.crew.drain
	e.crew.mu.Unlock()
	if drain != nil {
		return Receipt{}, drain(c.Worker)
	}
	return Receipt{}, e.order(c)
}
