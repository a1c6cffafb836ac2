package explorer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/lathe-llm/lathe/infer"
)

// Bounds of chats: models loaded at once, and replies under way at once, of all people and of one.
const (
	maxLoaded       = MaxColumns
	maxAnswering    = 64
	maxAnsweringOne = 4
)

// talks holds the models loaded for chats and the exchanges under way.
type talks struct {
	e      *Exploration
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	line infer.Queue // of callers that need a model: first come, first served

	mu      sync.Mutex
	engines map[string]*engine
	clock   int
	freed   chan struct{} // closed and replaced when a model is given back
	running map[ChatID]exchange
}

// exchange is a prompt being answered.
type exchange struct {
	author string
	cancel context.CancelFunc
}

// engine is one loaded model. Its fields but ready are written before ready is closed, or under talks' mu.
type engine struct {
	ready  chan struct{}
	model  infer.Model
	memory infer.Memory // taken when it was loaded; zero where it is not known
	file   string       // scratch file the model was loaded from; "" for the dense model's own
	err    error
	users  int
	used   int // when it was last asked for, by talks' clock
}

func newTalks(e *Exploration) *talks {
	t := &talks{e: e, engines: make(map[string]*engine), freed: make(chan struct{}), running: make(map[ChatID]exchange)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// close ends every exchange and unloads every model.
func (t *talks) close() error {
	t.cancel()
	t.wg.Wait()
	t.mu.Lock()
	engines := t.engines
	t.engines = nil // no exchange is left to borrow one
	t.mu.Unlock()
	var err error
	for _, g := range engines {
		err = errors.Join(err, g.close())
	}
	return err
}

func (g *engine) close() error {
	var err error
	if g.model != nil {
		err = g.model.Close()
	}
	if g.file != "" {
		err = errors.Join(err, os.Remove(g.file))
	}
	return err
}

// key names what has to be loaded for a subnet: a draft that was edited since is another model.
func (s *Snapshot) key(id SubnetID) string {
	if id == DraftID {
		return fmt.Sprintf("draft-%d", s.Draft.Version)
	}
	return string(id)
}

// borrow returns the engine of a subnet, writing its model out and loading it where that was not done yet, and waiting where
// as many models are in use as may be. The model stays loaded at least until give is called. No caller borrows a second model
// while holding one, so that there is no deadlock.
func (t *talks) borrow(ctx context.Context, id SubnetID) (g *engine, give func(), err error) {
	g, err = t.claim(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	give = sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		g.users--
		close(t.freed)
		t.freed = make(chan struct{})
	})
	select {
	case <-g.ready:
	case <-ctx.Done():
		give()
		return nil, nil, ctx.Err()
	}
	if g.err != nil {
		give()
		return nil, nil, g.err
	}
	return g, give, nil
}

// claim finds the engine of a subnet, or makes one once there is room for it, and counts the caller among its users.
func (t *talks) claim(ctx context.Context, id SubnetID) (*engine, error) {
	leave, err := t.line.Enter(ctx, string(id))
	if err != nil {
		return nil, err
	}
	defer leave()
	key := t.e.Snapshot().key(id)
	for {
		t.mu.Lock()
		g, ok := t.engines[key]
		room := len(t.engines) < maxLoaded
		if !ok && room {
			g = &engine{ready: make(chan struct{})}
			t.engines[key] = g
			t.wg.Go(func() { t.load(id, key, g) })
		}
		if g != nil {
			t.clock++
			g.users++
			g.used = t.clock
			t.mu.Unlock()
			return g, nil
		}
		freed := t.freed
		t.mu.Unlock()
		if t.trim(maxLoaded-1) > 0 {
			continue
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// load fills in an engine. One that failed is forgotten, so that the next borrower tries again.
func (t *talks) load(id SubnetID, key string, g *engine) {
	defer close(g.ready)
	if g.file, g.model, g.err = t.open(id, key); g.err == nil {
		// Read now, while no other caller waits for the model.
		if memory, err := g.model.Memory(t.ctx); err == nil {
			g.memory = memory
		}
	} else {
		t.mu.Lock()
		delete(t.engines, key)
		t.mu.Unlock()
	}
}

func (t *talks) open(id SubnetID, key string) (file string, m infer.Model, err error) {
	path := t.e.Snapshot().Model.Path
	if id != DenseID {
		subject, err := t.e.loadSubnet(t.ctx, id)
		if err != nil {
			return "", nil, err
		}
		path = filepath.Join(t.e.scratch, key+".gguf")
		if _, err := t.e.model.Write(t.ctx, subject, path, "", silent{}); err != nil {
			return "", nil, err
		}
		file = path
	}
	m, err = t.e.model.Load(t.ctx, infer.Defaults(path), nil)
	if err != nil && file != "" {
		err = errors.Join(err, os.Remove(file))
	}
	return file, m, err
}

// trim unloads idle models, the longest unused first, until at most n are loaded, and returns how many it unloaded.
func (t *talks) trim(n int) int {
	t.mu.Lock()
	var idle []string
	for key, g := range t.engines {
		if g.users == 0 {
			idle = append(idle, key)
		}
	}
	slices.SortFunc(idle, func(a, b string) int { return t.engines[a].used - t.engines[b].used })
	var gone []*engine
	for _, key := range idle {
		if len(t.engines) <= n {
			break
		}
		gone = append(gone, t.engines[key])
		delete(t.engines, key)
	}
	t.mu.Unlock()
	for _, g := range gone {
		<-g.ready
		if err := g.close(); err != nil {
			t.e.notify(Warning, "", "unloading a model: "+err.Error())
		}
	}
	return len(gone)
}

// silent is a Monitor that shows nothing.
type silent struct{}

func (silent) Progress(_, _ float64, _, _ string) {}
func (silent) Layer(LayerProgress)                {}
func (silent) Note(string)                        {}
func (silent) Gate(ctx context.Context) error     { return ctx.Err() }
