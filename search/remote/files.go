package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lathe-llm/lathe/infer/durable"
)

// partBytes is the size of the parts in which files are transferred, but for the last one.
const partBytes = 4 << 20

// errAltered is wrapped when content is not that of its hash.
var errAltered = errors.New("its content is not that of its hash")

// HashFile describes a file.
func HashFile(ctx context.Context, path string) (File, error) {
	sum, n, err := durable.HashFile(ctx, path)
	return File{sum, n}, err
}

// Share puts a file into a folder that workers see too, under its hash. For workers of this machine it is a symbolic link; for others a
// hard link where the file system allows it, else a copy.
func Share(folder string, f File, path string, here bool) error {
	to := filepath.Join(folder, f.SHA256)
	if info, err := os.Stat(to); err == nil && info.Size() == f.Bytes {
		return nil
	}
	if err := durable.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) { // it has another size
		return err
	}
	if here {
		full, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		return os.Symlink(full, to)
	}
	if err := os.Link(path, to); err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return durable.Copy(path, to, 0o600)
}

// partRequest asks for a part of a file.
type partRequest struct {
	SHA256 string
	Part   int64
	Again  bool // it was not in the object store after the last answer
}

// partReply answers that the part is in the object store, or why not.
type partReply struct {
	Error    string
	Unwanted bool `json:",omitempty"` // the piece that needed the file has a product, or was withdrawn
}

// partName is the name of a part in the object store.
func partName(hash string, part int64) string { return fmt.Sprintf("%s.%d", hash, part) }

// supply puts the parts that workers ask for into the object store of a search.
type supply struct {
	js       jetstream.JetStream
	search   string
	replicas int

	mu     sync.Mutex
	paths  map[string]string // by hash
	files  map[string]File
	bucket jetstream.ObjectStore // nil before the first request
	there  map[string]bool       // parts
	gone   map[string]bool       // hashes of files that were taken back
}

func newSupply(js jetstream.JetStream, search string, replicas int) *supply {
	return &supply{js: js, search: search, replicas: replicas, paths: map[string]string{}, files: map[string]File{}, there: map[string]bool{}, gone: map[string]bool{}}
}

// add offers a file.
func (s *supply) add(f File, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paths[f.SHA256], s.files[f.SHA256] = path, f
	delete(s.gone, f.SHA256)
}

// remove takes a file back, and its parts from the object store, as far as that is possible within ctx.
func (s *supply) remove(ctx context.Context, f File) {
	s.mu.Lock()
	delete(s.paths, f.SHA256)
	delete(s.files, f.SHA256)
	s.gone[f.SHA256] = true
	bucket := s.bucket
	var parts []string
	for part := range (f.Bytes + partBytes - 1) / partBytes {
		if name := partName(f.SHA256, part); s.there[name] {
			delete(s.there, name)
			parts = append(parts, name)
		}
	}
	s.mu.Unlock()
	for _, name := range parts {
		if bucket.Delete(ctx, name) != nil && ctx.Err() != nil {
			return // all of it is removed at the end
		}
	}
}

// answer answers one request. Requests come one after another.
func (s *supply) answer(ctx context.Context, m *nats.Msg) {
	reply := partReply{}
	if err := s.provide(ctx, m.Data); err != nil {
		reply.Error, reply.Unwanted = line(err.Error()), errors.Is(err, errUnwanted)
	}
	data, _ := json.Marshal(reply) // a struct of text
	_ = m.Respond(data)            // the worker asks again
}

func (s *supply) provide(ctx context.Context, data []byte) error {
	var r partRequest
	if err := decode(data, maxStatus, &r); err != nil {
		return err
	}
	s.mu.Lock()
	path, known := s.paths[r.SHA256]
	size, there := s.files[r.SHA256].Bytes, s.there[partName(r.SHA256, r.Part)]
	gone := s.gone[r.SHA256]
	s.mu.Unlock()
	switch {
	case gone:
		return errUnwanted
	case !known:
		return errors.New("the search has no such file")
	case r.Part < 0 || r.Part >= (size+partBytes-1)/partBytes:
		return errors.New("the file has no such part")
	case there && !r.Again:
		return nil
	}
	s.mu.Lock()
	bucket := s.bucket
	s.mu.Unlock()
	if bucket == nil {
		var err error
		bucket, err = s.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: bucketName(s.search), Storage: jetstream.FileStorage, Replicas: s.replicas, TTL: week})
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.bucket = bucket
		s.mu.Unlock()
	}
	f, err := os.Open(path)
	if err != nil {
		return errors.New("the file is gone")
	}
	defer func() { _ = f.Close() }() // only read from
	piece := make([]byte, min(partBytes, size-r.Part*partBytes))
	if _, err := f.ReadAt(piece, r.Part*partBytes); err != nil {
		return errors.New("the file cannot be read")
	}
	if _, err := bucket.PutBytes(ctx, partName(r.SHA256, r.Part), piece); err != nil {
		return err
	}
	s.mu.Lock()
	s.there[partName(r.SHA256, r.Part)] = true
	s.mu.Unlock()
	return nil
}
