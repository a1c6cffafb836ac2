package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/pipeline"
	"github.com/lathe-llm/lathe/search/remote"
)

// handed has the candidates of one search scored by workers.
type handed struct {
	*remote.Evaluator
	conn    *nats.Conn
	server  *remote.Server // nil for one elsewhere
	folder  *scratch.Folder
	workers *localWorkers // nil for none
	async   bool
	left    string // file with what is on a server elsewhere while the search runs, "" for none
}

// Close ends the workers of this machine and removes what the search has stored.
func (h *handed) Close() error {
	var err error
	if h.Evaluator != nil {
		if err = h.Evaluator.Close(); err == nil && h.left != "" {
			err = os.Remove(h.left)
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

// tidy removes what a search of this folder has left on the server because its process was killed, and records what this one will have
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

// handOut starts what workers need, and the workers of this machine. dir is the folder of the search, "" for none.
func (m *model) handOut(ctx context.Context, r explorer.Machines, dir string, s pipeline.Scoring, mon explorer.Monitor) (*handed, error) {
	h := &handed{async: r.Async}
	if r.NATS != "" && dir != "" {
		h.left = filepath.Join(dir, leftFile)
	}
	if err := h.start(ctx, m, r, s, mon); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (h *handed) start(ctx context.Context, m *model, r explorer.Machines, s pipeline.Scoring, mon explorer.Monitor) error {
	var err error
	if h.folder, err = scratch.New(m.engine.options.Scratch, "workers"); err != nil {
		return err
	}
	spec, offers, err := m.spec(ctx, s, h.folder.Join("windows"))
	if err != nil {
		return err
	}
	o := remote.Options{Spec: spec, Local: s.Local, Note: mon.Note, Async: r.Async, Shared: r.Shared}
	if s.Levels != nil {
		o.Base = s.Levels.BaseFile
	}
	own, theirs := m.engine.address(r), m.engine.address(r)
	if r.NATS == "" {
		if h.server, err = remote.StartServer(spec.Search, h.folder.Join("nats")); err != nil {
			return err
		}
		own, theirs = h.server.Own(), h.server.Workers()
		o.Shared, o.Here = h.folder.Join("files"), true
	}
	h.conn, err = remote.Dial(ctx, own, "lathe search "+spec.Search, mon.Note)
	if err != nil {
		return err
	}
	if h.left != "" {
		if err := h.tidy(ctx, r.NATS, spec.Search); err != nil {
			return err
		}
	}
	o.Conn = h.conn
	if h.Evaluator, err = remote.New(ctx, o); err != nil {
		return err
	}
	for path, f := range offers {
		if err := h.Offer(f, path); err != nil {
			return fmt.Errorf("files for workers: %w", err)
		}
	}
	if r.Workers == 0 {
		return nil
	}
	shared := o.Shared
	if shared == "" { // workers of this machine need no transfer
		shared = h.folder.Join("files")
		for path, f := range offers {
			if err := remote.Share(shared, f, path, true); err != nil {
				return fmt.Errorf("files for workers: %w", err)
			}
		}
	}
	h.workers, err = m.engine.startWorkers(r.Workers, h.server != nil, spec, theirs, shared, mon.Note, h.Fail)
	return err
}

// spec describes a search to workers, and returns the files that they need by their paths. The windows are written to a file.
func (m *model) spec(ctx context.Context, s pipeline.Scoring, windows string) (remote.Spec, map[string]remote.File, error) {
	l, err := m.loaded.get(ctx, m.load)
	if err != nil {
		return remote.Spec{}, nil, err
	}
	spec := remote.Spec{
		Search: remote.NewSearchID(), Version: m.engine.version(), Device: l.device.Name(), Fitness: string(s.Local.Fitness()),
		Model:     remote.File{SHA256: s.Model, Bytes: m.file.Size()},
		Reference: remote.Reference{Tier: search.Tier{Tokens: min(referenceTokens, len(s.Windows[0]))}},
	}
	offers := map[string]remote.File{m.file.Path(): spec.Model}
	if err := os.WriteFile(windows, remote.EncodeWindows(s.Windows), 0o600); err != nil {
		return spec, nil, err
	}
	if spec.Text, err = remote.HashFile(ctx, windows); err != nil {
		return spec, nil, err
	}
	offers[windows] = spec.Text
	if s.Levels != nil {
		for _, path := range s.Levels.Files() {
			f, err := remote.HashFile(ctx, path)
			if err != nil {
				return spec, nil, err
			}
			spec.Levels = append(spec.Levels, f)
			offers[path] = f
		}
	}
	err = s.Local.Evaluate(ctx, []search.Candidate{s.Dense}, spec.Reference.Tier, func(_ int, got search.Score) { spec.Reference.NLL = got.NLL })
	return spec, offers, err
}

// address is that of the server of a search, with the user of this process.
func (e *Engine) address(r explorer.Machines) remote.Address {
	return remote.Address{URL: r.NATS, Creds: r.Creds, CA: r.CA, Cert: r.Cert, Key: r.Key, User: e.options.NATSUser, Password: e.options.NATSPassword}
}

// show adds the workers to a view of the search.
func (h *handed) show(out *explorer.Search) {
	if h == nil {
		return
	}
	reused, n := 0.0, 0
	for _, w := range h.Evaluator.Workers() {
		shown := explorer.Worker{ID: w.ID, Host: w.Host, Device: w.Device, State: string(w.State), Scored: w.Scored, Failed: w.Failed, Error: w.Error}
		if w.Seconds > 0 {
			shown.PerMinute = 60 / w.Seconds
		}
		if w.Scored > 0 {
			reused, n = reused+w.Reused, n+1
		}
		out.Workers = append(out.Workers, shown)
	}
	for _, g := range h.GivenUp() {
		out.GivenUp = append(out.GivenUp, g.Candidate+": "+g.Reason)
	}
	out.Queued, out.Async = h.Queued(), h.async
	out.PrefixReuse = reused / float64(max(1, n))
}

// localWorkers are the worker processes that a search has started.
type localWorkers struct {
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu    sync.Mutex
	alive int
	notes func(string)
	fail  func(error)
}

// stop ends the workers.
func (l *localWorkers) stop() {
	l.cancel()
	l.ended.Wait()
}

// workerRestarts is how often a worker that ends unexpectedly is started again.
const workerRestarts = 20

// startWorkers starts workers on this machine. They end with this process, and one that dies is started again. Where there can be no
// others, fail is called when none is left.
func (e *Engine) startWorkers(n int, only bool, spec remote.Spec, a remote.Address, shared string, note func(string), fail func(error)) (*localWorkers, error) {
	if len(e.options.Worker) == 0 {
		return nil, fmt.Errorf("%w: this program cannot start workers", explorer.ErrUnsupported)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &localWorkers{cancel: cancel, alive: n, notes: note, fail: fail}
	gpus := visibleGPUs(spec.Device)
	for i := range n {
		p := workerProcess{engine: e, spec: spec, address: a, shared: shared, name: fmt.Sprintf("local-%d", i+1), of: n, only: only}
		if len(gpus) > 0 {
			p.gpu = gpus[i%len(gpus)]
		}
		l.ended.Go(func() { l.keep(ctx, p) })
	}
	return l, nil
}

// keep runs a worker, again when it ends unexpectedly.
func (l *localWorkers) keep(ctx context.Context, p workerProcess) {
	var err error
	for range workerRestarts {
		err = p.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil { // drained
			break
		}
		l.notes(fmt.Sprintf("worker %s ended: %v", p.name, err))
		if errors.Is(err, errRefusedWorker) {
			break
		}
	}
	l.mu.Lock()
	l.alive--
	none := l.alive == 0
	l.mu.Unlock()
	if none && p.only { // on a server elsewhere, others may come
		l.fail(fmt.Errorf("the search has no workers left: %w", cmp.Or(err, errors.New("all were drained"))))
	}
}

// visibleGPUs lists what CUDA_VISIBLE_DEVICES may be for one GPU, one for each; none where workers compute on the processor.
func visibleGPUs(device string) []string {
	if device != "cuda" {
		return nil
	}
	if list := os.Getenv("CUDA_VISIBLE_DEVICES"); list != "" {
		return strings.Split(list, ",")
	}
	found, _ := filepath.Glob("/dev/nvidia[0-9]*")
	out := make([]string, len(found))
	for i := range found {
		out[i] = fmt.Sprint(i)
	}
	return out
}
