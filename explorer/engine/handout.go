package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/pipeline"
	"github.com/lathe-llm/lathe/search/remote"
)

// handed has work of one job done by workers.
type handed struct {
	*remote.Exchange
	engine  *Engine
	machine explorer.Machines
	mon     explorer.Monitor
	conn    *nats.Conn
	server  *remote.Server // nil for one elsewhere
	folder  *scratch.Folder
	workers *localWorkers // nil for none
	left    string        // file with what is on a server elsewhere while the work goes on, "" for none
	closed  sync.Once
	err     error // of Close
	end     context.CancelFunc
	shown   sync.WaitGroup
}

// Close ends the workers of this machine and removes what the job has stored on the server.
func (h *handed) Close() error {
	h.closed.Do(func() { h.err = h.close() })
	return h.err
}

func (h *handed) close() error {
	var err error
	if h.end != nil {
		h.end()
		h.shown.Wait()
		h.mon.Workers(explorer.Crew{})
	}
	if h.Exchange != nil {
		err = h.Exchange.Close()
		switch {
		case err == nil && h.left != "":
			err = os.Remove(h.left)
		case errors.Is(err, remote.ErrLeft) && h.server != nil:
			err = nil // it is removed with the server
		case errors.Is(err, remote.ErrLeft) && h.left != "":
			h.mon.Note(err.Error() + "; it is removed when this job is next done with that server, and after a week")
			err = nil
		}
	}
	if h.workers != nil {
		h.workers.stop()
	}
	if h.conn != nil {
		h.conn.Close()
	}
	if h.server != nil {
		h.server.Stop()
	}
	if h.folder != nil {
		err = errors.Join(err, h.folder.Remove())
	}
	return err
}

// referenceTokens is how much text the reference is computed on.
const referenceTokens = 512

// leftFile is the file, in the folder of a search, with the identity of the search on a server elsewhere.
const leftFile = "nats.json"

// left is its content.
type left struct{ NATS, Search string }

// tidy removes what a job with this folder has left on the server because its process was killed, and records what this one will have
// there.
func (h *handed) tidy(ctx context.Context, server, search string) error {
	var before left
	if data, err := os.ReadFile(h.left); err == nil && json.Unmarshal(data, &before) == nil && before.NATS == server {
		if err := remote.Remove(ctx, h.conn, before.Search); err != nil {
			return err
		}
	}
	data, err := json.Marshal(left{server, search})
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Dir(h.left), 0o755); err != nil {
		return err
	}
	return durable.WriteFile(h.left, data, 0o600)
}

// errand is what workers are to do in a phase of a job.
type errand struct {
	with   settings // of the workers of this machine
	spec   remote.Spec
	offers map[string]remote.File // by their paths
	local  search.Evaluator       // nil where there are no candidates
	base   func(weights string) (string, error)
}

// hand starts what workers need, and the workers of this machine. dir is the folder of the job, "" for none, and prepare describes the
// work: it may write files into the folder that it is given.
func (e *Engine) hand(ctx context.Context, r explorer.Machines, dir string, mon explorer.Monitor, prepare func(folder *scratch.Folder) (errand, error)) (*handed, error) {
	h := &handed{engine: e, machine: r, mon: mon}
	if r.NATS != "" && dir != "" {
		h.left = filepath.Join(dir, leftFile)
	}
	if err := h.start(ctx, prepare); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (h *handed) start(ctx context.Context, prepare func(*scratch.Folder) (errand, error)) error {
	e, r := h.engine, h.machine
	var err error
	if h.folder, err = scratch.New(e.options.Scratch, "workers"); err != nil {
		return err
	}
	work, err := prepare(h.folder)
	if err != nil {
		return err
	}
	work.spec.Search = remote.NewSearchID()
	o := remote.Options{Spec: work.spec, Local: work.local, Base: work.base, Note: h.mon.Note, Async: r.Async, Shared: r.Shared, Dir: h.folder.Join("products")}
	own, theirs := e.address(r), e.address(r)
	if r.NATS == "" {
		if h.server, err = remote.StartServer(work.spec.Search, h.folder.Join("nats")); err != nil {
			return err
		}
		own, theirs = h.server.Own(), h.server.Workers()
	}
	if r.Workers > 0 {
		o.Own = h.folder.Join("files")
	}
	h.conn, err = remote.Dial(ctx, own, "lathe search "+work.spec.Search, h.mon.Note)
	if err != nil {
		return err
	}
	if h.left != "" {
		if err := h.tidy(ctx, r.NATS, work.spec.Search); err != nil {
			return err
		}
	}
	o.Conn = h.conn
	if h.Exchange, err = remote.New(ctx, o); err != nil {
		return err
	}
	if err := h.offer(work); err != nil {
		return err
	}
	shows, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h.end = cancel
	h.shown.Go(func() { h.show(shows) })
	if r.Workers == 0 {
		return nil
	}
	h.workers, err = e.startWorkers(r.Workers, h.server != nil, work.with, work.spec, theirs, o.Own, h.mon.Note, h.Fail)
	return err
}

// offer makes files available to workers.
func (h *handed) offer(work errand) error {
	for path, f := range work.offers {
		if err := h.Offer(f, path); err != nil {
			return fmt.Errorf("files for workers: %w", err)
		}
	}
	return nil
}

// begin begins the next phase of the job.
func (h *handed) begin(work errand) error {
	if err := h.offer(work); err != nil {
		return err
	}
	return h.Begin(work.spec, work.local, work.base)
}

// showEvery is how often news of workers are looked for.
const showEvery = 500 * time.Millisecond

// show shows the workers to the monitor until ctx ends.
func (h *handed) show(ctx context.Context) {
	tick := time.NewTicker(showEvery)
	defer tick.Stop()
	for last := uint64(0); ; {
		if now := h.Revision(); now != last {
			last = now
			list, _ := h.list()
			h.mon.Workers(explorer.Crew{Workers: list, Queued: h.Queued(), Drain: h.Drain})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// list lists the workers for viewers, with the share of layers that they had computed before.
func (h *handed) list() (workers []explorer.Worker, reused float64) {
	n := 0
	for _, w := range h.Exchange.Workers() {
		shown := explorer.Worker{ID: w.ID, Host: w.Host, Device: w.Device, State: string(w.State), Scored: w.Scored, Failed: w.Failed, Error: w.Error, Doing: w.Doing}
		if w.Seconds > 0 {
			shown.PerMinute = 60 / w.Seconds
		}
		if w.Scored > 0 {
			reused, n = reused+w.Reused, n+1
		}
		workers = append(workers, shown)
	}
	return workers, reused / float64(max(1, n))
}

// searchHands are the workers of a search, through its phases.
type searchHands struct {
	m   *model
	r   explorer.Machines
	dir string // of the search, "" for none
	mon explorer.Monitor
	*handed
}

// to has workers do what prepare describes: in the next phase where there are workers already.
func (s *searchHands) to(ctx context.Context, name string, prepare func(*scratch.Folder) (errand, error)) error {
	if s.handed == nil {
		var err error
		s.handed, err = s.m.engine.hand(ctx, s.r, s.dir, s.mon, prepare)
		return err
	}
	work, err := prepare(s.folder)
	if err != nil {
		return err
	}
	if err := s.begin(work); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// score has candidates scored and modules measured.
func (s *searchHands) score(ctx context.Context, of pipeline.Scoring) (pipeline.Handed, error) {
	err := s.to(ctx, "candidates", func(f *scratch.Folder) (errand, error) { return s.m.scoring(ctx, of, f) })
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the workers, if there are any.
func (s *searchHands) Close() error {
	if s == nil || s.handed == nil {
		return nil
	}
	return s.handed.Close()
}

// show adds the workers to a view of the search.
func (s *searchHands) show(out *explorer.Search) {
	if s == nil || s.handed == nil {
		return
	}
	out.Workers, out.PrefixReuse = s.list()
	for _, g := range s.GivenUp() {
		out.GivenUp = append(out.GivenUp, g.Name+": "+g.Reason)
	}
	out.Queued, out.Async = s.Queued(), s.r.Async
}

// scoring describes the scoring of candidates.
func (m *model) scoring(ctx context.Context, s pipeline.Scoring, folder *scratch.Folder) (errand, error) {
	work, err := m.work(ctx, s.Windows, s.Local, s.Dense, folder.Join("windows"))
	if err != nil {
		return work, err
	}
	work.local, work.spec.Fitness = s.Local, string(s.Local.Fitness())
	if s.Levels == nil {
		return work, nil
	}
	work.base = s.Levels.BaseFile
	for _, path := range s.Levels.Files() {
		f, err := remote.HashFile(ctx, path)
		if err != nil {
			return work, err
		}
		work.spec.Levels = append(work.spec.Levels, f)
		work.offers[path] = f
	}
	return work, nil
}

// work describes work with the model on windows of text, which are written to a file. The reference is what local finds of the dense model.
func (m *model) work(ctx context.Context, windows [][]int32, local search.Evaluator, dense search.Candidate, file string) (errand, error) {
	l, err := m.loaded.get(ctx, m.load)
	if err != nil {
		return errand{}, err
	}
	work, err := m.errand(ctx, l.device.Name())
	if err != nil {
		return work, err
	}
	if err := os.WriteFile(file, remote.EncodeWindows(windows), 0o600); err != nil {
		return work, err
	}
	if work.spec.Text, err = remote.HashFile(ctx, file); err != nil {
		return work, err
	}
	work.offers[file] = work.spec.Text
	work.spec.Reference.Tier = search.Tier{Tokens: min(referenceTokens, len(windows[0]))}
	err = local.Evaluate(ctx, []search.Candidate{dense}, work.spec.Reference.Tier, func(_ int, got search.Score) { work.spec.Reference.NLL = got.NLL })
	return work, err
}

// errand describes work with the model that needs no text.
func (m *model) errand(ctx context.Context, device string) (errand, error) {
	sum, err := m.SHA256(ctx)
	if err != nil {
		return errand{}, err
	}
	with := m.loadedWith()
	spec := remote.Spec{Version: m.engine.version(), Device: device, Weights: with.weights(), Model: remote.File{SHA256: sum, Bytes: m.file.Size()}}
	return errand{with: with, spec: spec, offers: map[string]remote.File{m.file.Path(): spec.Model}}, nil
}

// address is that of the server of a search, with the user of this process.
func (e *Engine) address(r explorer.Machines) remote.Address {
	return remote.Address{URL: r.NATS, Creds: r.Creds, CA: r.CA, Cert: r.Cert, Key: r.Key, User: e.options.NATSUser, Password: e.options.NATSPassword}
}
