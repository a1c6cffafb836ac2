package explorer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/explorer/internal/pool"
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
	models *pool.Pool

	mu      sync.Mutex
	running map[ChatID]exchange
}

// exchange is a prompt being answered.
type exchange struct {
	author string
	cancel context.CancelFunc
}

func newTalks(e *Exploration) *talks {
	t := &talks{e: e, running: make(map[ChatID]exchange)}
	t.models = pool.New(maxLoaded, func(err error) { e.notify(Warning, "", "unloading a model: "+format.Error(err)) })
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// close ends every exchange and unloads every model.
func (t *talks) close() error {
	t.cancel()
	t.wg.Wait()
	return t.models.Close()
}

// key names what has to be loaded for a subnet: a draft that was edited since is another model.
func (s *Snapshot) key(id SubnetID) string {
	if id == DraftID {
		return fmt.Sprintf("draft-%d", s.Draft.Version)
	}
	return string(id)
}

// borrow returns the loaded model of a subnet, whose file is written first where it has none. gpu is that of the chat.
func (t *talks) borrow(ctx context.Context, id SubnetID, gpu string) (*pool.Loaded, func(), error) {
	layers, err := infer.ParseGPU(gpu)
	if err != nil {
		return nil, nil, err
	}
	key := func() string {
		if layers == infer.AllLayers {
			return t.e.Snapshot().key(id)
		}
		return fmt.Sprintf("%s-gpu%d", t.e.Snapshot().key(id), layers)
	}
	return t.models.Borrow(ctx, string(id), key, func(ctx context.Context, key string) (infer.Model, func() error, error) {
		path := t.e.Snapshot().Model.Path
		var remove func() error
		if id != DenseID {
			sub, err := t.e.loadSubnet(ctx, id)
			if err != nil {
				return nil, nil, err
			}
			path = filepath.Join(t.e.scratch, key+".gguf")
			if _, err := t.e.model.Write(ctx, sub, path, "", silent{}); err != nil {
				return nil, nil, err
			}
			remove = func() error { return os.Remove(path) }
		}
		o := infer.Defaults(path)
		o.GPULayers = layers
		m, err := t.e.model.Load(ctx, o, nil)
		if err != nil && remove != nil {
			err = errors.Join(err, remove())
		}
		return m, remove, err
	})
}

// silent is a Monitor that shows nothing.
type silent struct{}

func (silent) Progress(_, _ float64, _, _ string)                  {}
func (silent) Layer(LayerProgress)                                 {}
func (silent) Phase(Phase)                                         {}
func (silent) Note(string)                                         {}
func (silent) Workers(Crew)                                        {}
func (silent) Gate(ctx context.Context) error                      { return ctx.Err() }
func (silent) Persist(_ context.Context, write func() error) error { return write() }
