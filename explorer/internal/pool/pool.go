// Package pool keeps a bounded number of models loaded for those who run them. Whoever borrows a model waits until there is
// room, first come, first served; models that nobody uses stay loaded until their room is needed.
package pool

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/lathe-llm/lathe/infer"
)

// A Pool holds loaded models. It may be used from any goroutine.
type Pool struct {
	max    int
	warn   func(error) // receives errors of unloading
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	line infer.Queue // of callers that need a model

	mu     sync.Mutex
	models map[string]*Loaded
	clock  int
	freed  chan struct{} // closed and replaced when a model is returned
}

// Loaded is a loaded model.
type Loaded struct {
	infer.Model
	Memory infer.Memory // taken when it was loaded; zero where it is unknown

	ready  chan struct{} // closed once it is loaded or failed; the fields above and below are written before
	remove func() error  // removes its file; nil where that is not the pool's
	err    error

	users int // these two are guarded by the pool's mu
	used  int // when it was last asked for, by the pool's clock
}

// Open loads the model of a key. remove, which may be nil, is called after the model was closed.
type Open func(ctx context.Context, key string) (m infer.Model, remove func() error, err error)

// New returns a pool of at most max models.
func New(max int, warn func(error)) *Pool {
	p := &Pool{max: max, warn: warn, models: make(map[string]*Loaded), freed: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Close unloads every model. No model may be borrowed.
func (p *Pool) Close() error {
	p.cancel()
	p.wg.Wait()
	p.mu.Lock()
	models := p.models
	p.models = nil
	p.mu.Unlock()
	var err error
	for _, m := range models {
		err = errors.Join(err, m.unload())
	}
	return err
}

func (l *Loaded) unload() error {
	var err error
	if l.Model != nil {
		err = l.Model.Close()
	}
	if l.remove != nil {
		err = errors.Join(err, l.remove())
	}
	return err
}

// Borrow returns the model of a key, loading it if that was not done yet, and waiting while as many models are in use as may
// be loaded. The model stays loaded until release is called. No caller borrows a second model while holding one, so that
// there is no deadlock. name is the caller's entry in the queue; key is called when it is its turn.
func (p *Pool) Borrow(ctx context.Context, name string, key func() string, open Open) (m *Loaded, release func(), err error) {
	m, err = p.claim(ctx, name, key, open)
	if err != nil {
		return nil, nil, err
	}
	release = sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		m.users--
		close(p.freed)
		p.freed = make(chan struct{})
	})
	select {
	case <-m.ready:
	case <-ctx.Done():
		release()
		return nil, nil, ctx.Err()
	}
	if m.err != nil {
		release()
		return nil, nil, m.err
	}
	return m, release, nil
}

// claim finds a model, or makes an entry for it once there is room, and counts the caller among its users.
func (p *Pool) claim(ctx context.Context, name string, key func() string, open Open) (*Loaded, error) {
	leave, err := p.line.Enter(ctx, name)
	if err != nil {
		return nil, err
	}
	defer leave()
	k := key()
	for {
		p.mu.Lock()
		m, ok := p.models[k]
		if !ok && len(p.models) < p.max {
			m = &Loaded{ready: make(chan struct{})}
			p.models[k] = m
			p.wg.Go(func() { p.load(k, m, open) })
		}
		if m != nil {
			p.clock++
			m.users++
			m.used = p.clock
			p.mu.Unlock()
			return m, nil
		}
		freed := p.freed
		p.mu.Unlock()
		if p.Trim(p.max-1) > 0 {
			continue
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// load fills in a model. One that failed is forgotten, so that the next borrower tries again.
func (p *Pool) load(key string, m *Loaded, open Open) {
	defer close(m.ready)
	if m.Model, m.remove, m.err = open(p.ctx, key); m.err == nil {
		// Read now, while no other caller waits for the model.
		if memory, err := m.Model.Memory(p.ctx); err == nil {
			m.Memory = memory
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.models, key)
}

// Trim unloads models that nobody uses, the longest unused first, until at most n are loaded, and returns how many it
// unloaded.
func (p *Pool) Trim(n int) int {
	p.mu.Lock()
	var idle []string
	for key, m := range p.models {
		if m.users == 0 {
			idle = append(idle, key)
		}
	}
	slices.SortFunc(idle, func(a, b string) int { return p.models[a].used - p.models[b].used })
	var gone []*Loaded
	for _, key := range idle {
		if len(p.models) <= n {
			break
		}
		gone = append(gone, p.models[key])
		delete(p.models, key)
	}
	p.mu.Unlock()
	for _, m := range gone {
		<-m.ready
		if err := m.unload(); err != nil {
			p.warn(err)
		}
	}
	return len(gone)
}
