package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lathe-llm/lathe/infer/durable"
)

// Files is where a worker finds files by their hashes, and keeps those that it downloads.
type Files struct {
	Dir    string            // for downloads
	Shared []string          // folders that the search or others fill, see [Share]
	Known  map[string]string // paths of files whose hashes are known
}

// partTries is how often a part is asked for before the transfer fails, and partWait how long one request may take.
const (
	partTries = 60
	partWait  = 30 * time.Second
)

// find returns the path of a file that needs no transfer, "" if there is none. Its content is checked.
func (s Files) find(ctx context.Context, f File) (string, error) {
	if path := s.Known[f.SHA256]; path != "" {
		return path, nil
	}
	for _, dir := range append(append([]string{}, s.Shared...), s.Dir) {
		path := filepath.Join(dir, f.SHA256)
		info, err := os.Stat(path)
		if dir == "" || err != nil || info.Size() != f.Bytes {
			continue
		}
		found, err := HashFile(ctx, path)
		if err != nil {
			return "", err
		}
		if found != f {
			return "", fmt.Errorf("%s: %w", path, errAltered)
		}
		return path, nil
	}
	return "", nil
}

// get returns the path of a file, which it downloads if it is nowhere else. A transfer that was interrupted continues.
func (s Files) get(ctx context.Context, conn *nats.Conn, js jetstream.JetStream, search string, f File, progress func(done int64)) (string, error) {
	path, err := s.find(ctx, f)
	if path != "" || err != nil {
		return path, err
	}
	if err := durable.MkdirAll(s.Dir, 0o700); err != nil {
		return "", err
	}
	path = filepath.Join(s.Dir, f.SHA256)
	lock := flock.New(path + ".lock")
	if _, err := lock.TryLockContext(ctx, 200*time.Millisecond); err != nil {
		return "", err
	}
	defer func() { _ = lock.Unlock() }()
	if found, err := s.find(ctx, f); found != "" || err != nil { // by another worker meanwhile
		return found, err
	}
	if err := s.download(ctx, path+".partial", f, func(part int64, again bool) ([]byte, error) {
		return getPart(ctx, conn, js, search, f, part, again)
	}, progress); err != nil {
		return "", err
	}
	return path, os.Rename(path+".partial", path)
}

// discard removes what was downloaded of a file that nobody needs, unless another process of this machine downloads it.
func (s Files) discard(f File) {
	path := filepath.Join(s.Dir, f.SHA256)
	there := false
	for _, suffix := range []string{"", ".partial", ".lock"} {
		_, err := os.Lstat(path + suffix)
		there = there || err == nil
	}
	if s.Dir == "" || !there {
		return
	}
	lock := flock.New(path + ".lock")
	if own, err := lock.TryLock(); err != nil || !own {
		return
	}
	for _, suffix := range []string{"", ".partial", ".lock"} {
		_ = os.Remove(path + suffix) // it is a copy
	}
	_ = lock.Unlock()
}

// download writes the parts that a file does not have yet, and checks its content.
func (s Files) download(ctx context.Context, path string, f File, get func(part int64, again bool) ([]byte, error), progress func(done int64)) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it is synced before it is used
	info, err := file.Stat()
	if err != nil {
		return err
	}
	for part := min(info.Size(), f.Bytes) / partBytes; part*partBytes < f.Bytes; part++ {
		want := min(partBytes, f.Bytes-part*partBytes)
		var data []byte
		for try := 0; ; try++ {
			if data, err = get(part, try > 0); err == nil && int64(len(data)) == want {
				break
			}
			if err == nil {
				err = fmt.Errorf("part %d has %d bytes, not %d", part, len(data), want)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if try >= partTries || errors.Is(err, errRefusedPart) || errors.Is(err, errUnwanted) {
				return fmt.Errorf("file %.12s: %w", f.SHA256, err)
			}
			if err := pause(ctx, 500*time.Millisecond); err != nil {
				return err
			}
		}
		if _, err := file.WriteAt(data, part*partBytes); err != nil {
			return err
		}
		progress(part*partBytes + want)
	}
	if err := file.Truncate(f.Bytes); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	found, err := HashFile(ctx, path)
	if err != nil {
		return err
	}
	if found != f {
		return errors.Join(fmt.Errorf("file %.12s: %w", f.SHA256, errAltered), os.Remove(path))
	}
	return nil
}

// errRefusedPart is wrapped when the search does not provide a part.
var errRefusedPart = errors.New("the search does not provide it")

// getPart asks for a part and reads it from the object store.
func getPart(ctx context.Context, conn *nats.Conn, js jetstream.JetStream, search string, f File, part int64, again bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, partWait)
	defer cancel()
	request, err := json.Marshal(partRequest{f.SHA256, part, again})
	if err != nil {
		return nil, err
	}
	m, err := conn.RequestWithContext(ctx, fileSubject(search), request)
	if err != nil {
		return nil, err
	}
	var reply partReply
	if err := decode(m.Data, maxStatus, &reply); err != nil {
		return nil, err
	}
	if reply.Unwanted {
		return nil, errUnwanted
	}
	if reply.Error != "" {
		return nil, fmt.Errorf("%w: %s", errRefusedPart, line(reply.Error))
	}
	bucket, err := js.ObjectStore(ctx, bucketName(search))
	if err != nil {
		return nil, err
	}
	info, err := bucket.GetInfo(ctx, partName(f.SHA256, part))
	if err != nil {
		return nil, err
	}
	if info.Size > partBytes {
		return nil, fmt.Errorf("part %d has %d bytes", part, info.Size)
	}
	return bucket.GetBytes(ctx, partName(f.SHA256, part))
}

// pause waits, or returns ctx's error when ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
