package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// A Product is what a piece of work has resulted in.
type Product struct {
	Value  json.RawMessage
	Files  []string // paths
	Worker string   // who did it
}

// ErrProduct is wrapped when the product of a worker cannot be that of its piece.
var ErrProduct = errUnusable

// Pieces are pieces of work that workers do. They may be added and withdrawn while the work is under way.
type Pieces struct {
	e    *Exchange
	each func(ctx context.Context, id int, p Product) error
	left func(ctx context.Context, id int, reason string) error

	mu    sync.Mutex
	more  []string
	less  []string
	open  bool
	ids   map[string]int
	names map[string]string
	all   map[string]Piece
}

// NewPieces returns an empty set of pieces. done is called with each product; its error ends the work or, if it wraps [ErrProduct], has another
// worker do the piece. The files of a product are removed when it returns. left is called for a piece that workers could not do, which the
// caller then does itself. Neither is called for the same piece twice.
func (e *Exchange) NewPieces(done func(ctx context.Context, id int, p Product) error, left func(ctx context.Context, id int, reason string) error) *Pieces {
	return &Pieces{e: e, each: done, left: left, open: true, ids: map[string]int{}, names: map[string]string{}, all: map[string]Piece{}}
}

// Add adds a piece under a number and a name for people. Pieces under different numbers may be equal. Its files have been offered, see
// [Exchange.Offer].
func (p *Pieces) Add(id int, name string, piece Piece) error {
	piece.Number = id
	if err := piece.check(); err != nil {
		return err
	}
	data, err := json.Marshal(task{Piece: &piece})
	if err == nil && len(data) > maxTask {
		err = fmt.Errorf("%w: a piece of %d bytes, messages have %d at most", errTask, len(data), maxTask)
	}
	if err != nil {
		return err
	}
	key := keyOfPiece(p.e.spec().identity(), piece)
	p.mu.Lock()
	_, known := p.ids[key]
	if !known {
		p.ids[key], p.names[key], p.all[key] = id, name, piece
	}
	p.mu.Unlock()
	if known {
		return fmt.Errorf("%w: the piece %q is there already", errTask, name)
	}
	p.e.intake.expect(key, piece.Limit)
	p.mu.Lock()
	p.more = append(p.more, key)
	p.mu.Unlock()
	p.e.signal()
	return nil
}

// Withdraw takes back a piece that is not needed any more.
func (p *Pieces) Withdraw(id int) {
	var keys []string
	p.mu.Lock()
	for key, of := range p.ids {
		if of == id {
			keys = append(keys, key)
		}
	}
	p.less = append(p.less, keys...)
	p.mu.Unlock()
	for _, key := range keys {
		p.e.intake.forget(key)
	}
	p.e.signal()
}

// End reports that no more pieces are added.
func (p *Pieces) End() {
	p.mu.Lock()
	p.open = false
	p.mu.Unlock()
	p.e.signal()
}

// Run hands the pieces out until there are products of all and no more may be added.
func (p *Pieces) Run(ctx context.Context) error { return p.e.run(ctx, p) }

func (p *Pieces) changed() (more, less []string, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	more, less = slices.DeleteFunc(p.more, func(key string) bool { return slices.Contains(p.less, key) }), p.less
	p.more, p.less = nil, nil
	return more, less, p.open
}

func (p *Pieces) single() bool { return true }

// of returns the piece of a key.
func (p *Pieces) of(key string) (id int, piece Piece) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ids[key], p.all[key]
}

func (p *Pieces) message(_ context.Context, keys []string) ([]byte, int, error) {
	_, piece := p.of(keys[0])
	data, err := json.Marshal(task{Phase: p.e.spec().Phase, Piece: &piece})
	if err != nil {
		err = fmt.Errorf("%w: %w", errTask, err)
	}
	return data, 1, err
}

func (p *Pieces) read(data []byte) (any, error) {
	r, err := decodeProduct(data)
	return r, err
}

func (p *Pieces) done(ctx context.Context, key string, result any) error {
	r, ok := result.(product)
	if !ok {
		return fmt.Errorf("%w: no product", errUnusable) // a score
	}
	end, wanted := p.e.intake.use(key)
	if !wanted {
		return nil // it was withdrawn
	}
	defer end()
	id, piece := p.of(key)
	err := p.take(ctx, id, piece, key, r)
	if err == nil {
		p.e.intake.forget(key)
	}
	return err
}

// take passes a product on, with its files, which are removed afterwards.
func (p *Pieces) take(ctx context.Context, id int, piece Piece, key string, r product) (err error) {
	out := Product{Value: r.Value, Worker: r.Worker}
	defer func() {
		for i, path := range out.Files {
			p.e.intake.spent(productName(key, r.Worker, r.Files[i]))
			if gone := os.Remove(path); gone != nil && !errors.Is(gone, os.ErrNotExist) {
				err = errors.Join(err, gone)
			}
		}
	}()
	var sum int64
	for _, f := range r.Files {
		if sum += f.Bytes; sum > piece.Limit {
			return fmt.Errorf("%w of %s: %d bytes, %d at most", errUnusable, r.Worker, sum, piece.Limit)
		}
		path, err := p.e.received(ctx, productName(key, r.Worker, f), f)
		if err != nil {
			return fmt.Errorf("%w of %s: %w", errUnusable, r.Worker, err)
		}
		out.Files = append(out.Files, path)
	}
	return p.each(ctx, id, out)
}

// received returns the path of a file that a worker has sent or put into the shared folder, under a name. Its content is checked.
func (e *Exchange) received(ctx context.Context, name string, f File) (string, error) {
	if path := e.intake.find(name); path != "" {
		return path, nil // checked when it arrived
	}
	for _, dir := range e.folders() {
		path := filepath.Join(dir, name)
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			return "", err
		case !info.Mode().IsRegular() || info.Size() != f.Bytes:
			return "", errAltered
		}
		found, err := HashFile(ctx, path)
		if err == nil && found != f {
			err = errAltered
		}
		return path, err
	}
	return "", errors.New("the file did not arrive")
}

func (p *Pieces) here(ctx context.Context, key, reason string) (any, error) {
	id, _ := p.of(key)
	p.e.intake.forget(key)
	p.e.o.Note(fmt.Sprintf("%s: %s: it is done here", p.name(key), reason))
	return nil, p.left(ctx, id, reason)
}

func (p *Pieces) late(context.Context, string) bool { return false }

func (p *Pieces) name(key string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.names[key]
}
