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
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/lathe-llm/lathe/infer/durable"
)

// maxArrivals bounds how many files may be under way.
const maxArrivals = 4096

// intake receives the files that pieces of work result in, part after part, into a folder.
type intake struct {
	dir string

	mu      sync.Mutex
	limits  map[string]int64    // bytes that a piece may result in, by its key
	arrival map[string]*arrival // by the hash of the file and the worker
	whole   map[string]bool     // hashes of files that are there
}

// arrival is a file that a worker sends.
type arrival struct {
	partOfProduct
	path string
	have int64
	sum  hash.Hash
}

func newIntake(dir string) *intake {
	return &intake{dir: dir, limits: map[string]int64{}, arrival: map[string]*arrival{}, whole: map[string]bool{}}
}

// errUnwanted is returned for files of a piece that has a product or was withdrawn.
var errUnwanted = errors.New("nothing of this piece is wanted")

// expect permits files of a piece, so many bytes of each worker.
func (n *intake) expect(key string, limit int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.limits[key] = limit
}

// forget ends the permission, and removes what is there of files of the piece.
func (n *intake) forget(key string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.limits, key)
	for id, a := range n.arrival {
		if a.Key == key {
			delete(n.arrival, id)
			_ = os.Remove(a.path) // the folder is temporary
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
	n.mu.Lock()
	defer n.mu.Unlock()
	limit, wanted := n.limits[p.Key]
	switch {
	case n.whole[p.File.SHA256]:
		return p.File.Bytes, nil
	case !wanted:
		return 0, errUnwanted
	}
	owner := sha256.Sum256([]byte(p.Worker))
	id := p.File.SHA256 + "-" + hex.EncodeToString(owner[:8])
	a := n.arrival[id]
	if a == nil {
		sum := p.File.Bytes
		for _, o := range n.arrival {
			if o.Key == p.Key && o.Worker == p.Worker {
				sum += o.File.Bytes
			}
		}
		if sum > limit || len(n.arrival) >= maxArrivals {
			return 0, fmt.Errorf("the piece may result in %d bytes, not %d", limit, sum)
		}
		a = &arrival{partOfProduct: p, path: filepath.Join(n.dir, id+".partial"), sum: sha256.New()}
		n.arrival[id] = a
	}
	if a.File != p.File || a.Key != p.Key {
		return 0, errors.New("the file has another size than before, or belongs to another piece")
	}
	if p.Offset != a.have {
		return a.have, nil // it goes on from there
	}
	if err := a.write(n.dir, body); err != nil {
		return a.have, err
	}
	if a.have < a.File.Bytes {
		return a.have, nil
	}
	if hex.EncodeToString(a.sum.Sum(nil)) != a.File.SHA256 {
		delete(n.arrival, id)
		return 0, errors.Join(errAltered, os.Remove(a.path))
	}
	if err := os.Rename(a.path, filepath.Join(n.dir, a.File.SHA256)); err != nil {
		return 0, err
	}
	delete(n.arrival, id)
	n.whole[a.File.SHA256] = true
	return a.have, nil
}

// write appends a part.
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
	return nil
}

// spent forgets a file, which its receiver has removed or taken away.
func (n *intake) spent(f File) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.whole, f.SHA256)
}
