package remote

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/lathe-llm/lathe/infer/durable"
)

// maxArrivals bounds how many files may be under way or wait for their product.
const maxArrivals = 4096

// intake receives the files that pieces of work result in: part after part into a folder, or whole in folders that workers write to.
type intake struct {
	dir     string
	folders []string

	mu     sync.Mutex // never held over I/O
	pieces map[string]*expected
	files  map[string]*arrival // by their names
}

// expected is a piece of which files may come.
type expected struct {
	limit int64 // bytes that a worker may send
	used  bool  // a product of it is being taken
	gone  bool  // nothing of it is wanted any more
}

// arrival is a file that a worker sends.
type arrival struct {
	partOfProduct
	path  string
	have  int64
	sum   hash.Hash
	busy  bool // a part is being written, by the goroutine that takes parts
	whole bool
}

// newIntake returns an intake into a folder, and from folders that workers write to.
func newIntake(dir string, folders ...string) *intake {
	return &intake{dir: dir, folders: folders, pieces: map[string]*expected{}, files: map[string]*arrival{}}
}

// errUnwanted is returned for files of a piece that has a product or was withdrawn.
var errUnwanted = errors.New("nothing of this piece is wanted")

// productName is the name of a file that a worker has made for a piece, in the folders that both sides see.
func productName(key, worker string, f File) string { return key + "-" + worker + "-" + f.SHA256 }

// expect permits files of a piece, so many bytes of each worker.
func (n *intake) expect(key string, limit int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pieces[key] = &expected{limit: limit}
}

// use keeps the files of a piece until end is called, also if it is forgotten meanwhile. wanted reports whether it was not forgotten before.
func (n *intake) use(key string) (end func(), wanted bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.pieces[key]
	if e == nil {
		return nil, false
	}
	e.used = true
	return func() {
		n.mu.Lock()
		e.used = false
		gone := e.gone
		n.mu.Unlock()
		if gone {
			n.forget(key)
		}
	}, true
}

// forget ends the permission, and removes what is there of files of the piece.
func (n *intake) forget(key string) {
	n.mu.Lock()
	e := n.pieces[key]
	if e != nil {
		e.gone = true
	}
	if e == nil || e.used {
		n.mu.Unlock()
		return
	}
	delete(n.pieces, key)
	paths := n.drop(func(a *arrival) bool { return a.Key == key })
	n.mu.Unlock()
	if e.limit > 0 {
		for _, dir := range n.folders {
			found, _ := os.ReadDir(dir) // there is none before something is offered
			for _, f := range found {
				if strings.HasPrefix(f.Name(), key+"-") {
					paths = append(paths, filepath.Join(dir, f.Name()))
				}
			}
		}
	}
	for _, path := range paths {
		_ = os.Remove(path) // of use to nobody
	}
}

// close forgets all pieces.
func (n *intake) close() {
	n.mu.Lock()
	var keys []string
	for key := range n.pieces {
		keys = append(keys, key)
	}
	n.mu.Unlock()
	for _, key := range keys {
		n.forget(key)
	}
}

// drop forgets files and returns the paths to remove. A file that is being written is removed by its writer. The lock is held.
func (n *intake) drop(which func(*arrival) bool) (paths []string) {
	for name, a := range n.files {
		if which(a) {
			delete(n.files, name)
			if !a.busy {
				paths = append(paths, a.path)
			}
		}
	}
	return paths
}

// discard removes the files of a product that nobody takes.
func (n *intake) discard(key string, data []byte) {
	p, err := decodeProduct(data)
	if err != nil || !isHex(key, keyDigits) {
		return
	}
	n.mu.Lock()
	wanted := n.pieces[key] != nil
	n.mu.Unlock()
	if wanted {
		return // they are removed when the piece is forgotten
	}
	for _, f := range p.Files {
		for _, dir := range n.folders {
			_ = os.Remove(filepath.Join(dir, productName(key, p.Worker, f))) // of use to nobody
		}
	}
}

// answer takes a part of a file. Parts come one after another.
func (n *intake) answer(m *nats.Msg) {
	reply := sliceReply{}
	var err error
	if reply.Have, err = n.take(m.Data); err != nil {
		reply.Error, reply.Unwanted = line(err.Error()), errors.Is(err, errUnwanted)
	}
	data, _ := json.Marshal(reply) // a struct of text
	_ = m.Respond(data)            // the worker sends it again
}

// take writes a part and returns how many bytes of the file there are.
func (n *intake) take(data []byte) (int64, error) {
	p, body, err := decodeSlice(data)
	if err != nil {
		return 0, err
	}
	a, stale, err := n.admit(p)
	for _, path := range stale {
		if gone := os.Remove(path); !errors.Is(gone, os.ErrNotExist) { // a file whose first part could not be written
			err = errors.Join(err, gone)
		}
	}
	if err != nil || a == nil {
		return 0, err
	}
	if !a.busy { // it goes on from there, or is whole
		return a.have, nil
	}
	failed := a.write(n.dir, body)
	n.mu.Lock()
	a.busy = false
	dropped := n.files[a.name()] != a
	if !dropped && errors.Is(failed, errAltered) {
		delete(n.files, a.name())
		dropped = true
	}
	n.mu.Unlock()
	if !dropped {
		return a.have, failed
	}
	if err := os.Remove(a.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		failed = errors.Join(failed, err)
	}
	if failed == nil {
		failed = errUnwanted
	}
	return 0, failed
}

// admit returns the file that a part belongs to: busy if the part is the next one, which is then to be written. stale are files to
// remove, which the same worker has begun before.
func (n *intake) admit(p partOfProduct) (a *arrival, stale []string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.pieces[p.Key]
	if e == nil || e.gone {
		return nil, nil, errUnwanted
	}
	name := productName(p.Key, p.Worker, p.File)
	if a = n.files[name]; a == nil {
		mine := func(o *arrival) bool { return o.Key == p.Key && o.Worker == p.Worker }
		stale = n.drop(func(o *arrival) bool { return mine(o) && !o.whole }) // one file comes after another
		sum := p.File.Bytes
		for _, o := range n.files {
			if mine(o) {
				sum += o.File.Bytes
			}
		}
		if sum > e.limit || len(n.files) >= maxArrivals {
			return nil, stale, fmt.Errorf("the piece may result in %d bytes, not %d", e.limit, sum)
		}
		a = &arrival{partOfProduct: p, path: filepath.Join(n.dir, name), sum: sha256.New()}
		n.files[name] = a
	}
	if a.File != p.File {
		return nil, stale, errors.New("the file has another size than before")
	}
	a.busy = !a.whole && p.Offset == a.have
	return a, stale, nil
}

func (a *arrival) name() string { return productName(a.Key, a.Worker, a.File) }

// write appends a part. Its error wraps errAltered if the file is whole and has another content than its hash.
func (a *arrival) write(dir string, body []byte) error {
	if dir == "" {
		return errors.New("files are not wanted")
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(body, a.have); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	_, _ = a.sum.Write(body) // a hash never fails
	a.have += int64(len(body))
	if a.have < a.File.Bytes {
		return nil
	}
	if hex.EncodeToString(a.sum.Sum(nil)) != a.File.SHA256 {
		return errAltered
	}
	a.whole = true
	return nil
}

// find returns the path of a file that has arrived whole, "" for none.
func (n *intake) find(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.files[name]; a != nil && !a.busy && a.whole {
		return a.path
	}
	return ""
}

// spent forgets a file, which its receiver has removed or taken away.
func (n *intake) spent(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.files[name]; a != nil && !a.busy {
		delete(n.files, name)
	}
}
