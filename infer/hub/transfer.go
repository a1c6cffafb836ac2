package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	hf "github.com/gomlx/go-huggingface/hub"
)

// Bounds of a transfer.
const (
	mostAttempts = 6 // without a byte in between
	bufferSize   = 1 << 20
	lockRetry    = 200 * time.Millisecond // another process may be fetching the same file
	// mostMemory bounds the files that are not kept as large files, which a conversion reads as a whole.
	mostMemory = 256 << 20
)

// remote is what the hub says of a file. Its hash is its name among the blobs of the cache.
type remote struct {
	size  int64
	hash  string
	large bool // the hash is SHA-256 of the content, otherwise git's of a blob
}

func newRemote(f *hf.FileInfo) remote {
	if f.LFS != nil {
		return remote{size: f.LFS.Size, hash: f.LFS.SHA256, large: true}
	}
	return remote{size: f.Size, hash: f.BlobID}
}

func (f remote) check() error {
	want := 2 * sha1.Size
	if f.large {
		want = 2 * sha256.Size
	}
	if len(f.hash) != want || !isHex(f.hash) || f.size < 0 || !f.large && f.size > mostMemory {
		return fmt.Errorf("%w: the hub's description has %d bytes of hash %.80q", ErrDamaged, f.size, f.hash)
	}
	return nil
}

func (f remote) hasher() hash.Hash {
	if f.large {
		return sha256.New()
	}
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", f.size)
	return h
}

// transfer brings files of one state of a repository.
type transfer struct {
	*Client
	repo     Repo
	dir      string // of the snapshot
	url      func(name string) (string, error)
	byName   map[string]remote
	progress func(Progress)

	done, total int64
}

// files brings what is missing of the files.
func (t *transfer) files(ctx context.Context, names []string) error {
	for _, name := range names {
		f, ok := t.byName[name]
		if !ok {
			return fmt.Errorf("%s: %w", name, ErrNotFound)
		}
		t.total += f.size
	}
	for _, name := range names {
		before := t.done
		if _, err := t.file(ctx, name); err != nil {
			return err
		}
		t.done = before + t.byName[name].size
		t.report(name, 0)
	}
	return nil
}

// report tells the progress, with some bytes of the file in work.
func (t *transfer) report(name string, bytes int64) {
	if t.progress != nil && t.total > 0 {
		t.progress(Progress{Done: t.done + bytes, Total: t.total, File: name})
	}
}

// file returns the path of a file, which is fetched where it is missing.
func (t *transfer) file(ctx context.Context, name string) (string, error) {
	f, ok := t.byName[name]
	if !ok {
		return "", fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	if err := f.check(); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	path := filepath.Join(t.dir, name)
	if info, err := os.Stat(path); err == nil && info.Size() == f.size {
		return path, nil
	}
	blob, err := t.blob(ctx, name, f)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return path, t.link(blob, path)
}

// link makes path a symbolic link to a blob.
func (t *transfer) link(blob, path string) error {
	if err := t.disk.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	to, err := filepath.Rel(filepath.Dir(path), blob)
	if err != nil {
		return err
	}
	return t.disk.Symlink(to, path)
}

// blob returns the path of a file's content in the cache, which is fetched where it is missing. One process at a time
// fetches a blob; the lock is where other programs on the same cache have theirs.
func (t *transfer) blob(ctx context.Context, name string, f remote) (string, error) {
	blob := filepath.Join(t.repo.folder(t.cache), "blobs", f.hash)
	locks := filepath.Join(t.cache, ".locks", filepath.Base(t.repo.folder(t.cache)))
	for _, dir := range []string{filepath.Dir(blob), locks} {
		if err := t.disk.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	}
	lock := flock.New(filepath.Join(locks, f.hash+".lock"))
	if _, err := lock.TryLockContext(ctx, lockRetry); err != nil {
		return "", err
	}
	defer func() { _ = lock.Unlock() }() // released with the process at the latest
	if info, err := os.Stat(blob); err == nil && info.Size() == f.size {
		return blob, nil
	}
	part := blob + ".incomplete"
	if err := t.download(ctx, name, f, part); err != nil {
		return "", err
	}
	return blob, t.disk.Rename(part, blob)
}

// download completes a file that was begun, tries again where the network fails, and checks what it has at the end.
func (t *transfer) download(ctx context.Context, name string, f remote, part string) error {
	address, err := t.url(url.PathEscape(name))
	if err != nil {
		return err
	}
	out, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }() // closed with its error below where that counts
	sum := f.hasher()
	have, err := io.Copy(sum, io.LimitReader(out, f.size))
	if err != nil {
		return err
	}
	begun := have > 0
	for attempt, restarts := 0, 0; have < f.size; attempt++ {
		n, err := t.get(ctx, address, have, f.size, io.MultiWriter(out, sum), func(n int64) { t.report(name, n) })
		have += n
		if n > 0 {
			attempt = 0
		}
		if errors.Is(err, errRestart) && restarts < mostAttempts {
			if _, err := out.Seek(0, io.SeekStart); err != nil {
				return err
			}
			sum, have, restarts, begun = f.hasher(), 0, restarts+1, false
			continue
		}
		if temporary := (*unreachableError)(nil); err != nil && (!errors.As(err, &temporary) || attempt+1 >= mostAttempts) {
			return err
		}
		if err != nil {
			if err := t.pause(ctx, attempt); err != nil {
				return err
			}
		}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != f.hash {
		if err := os.Remove(part); err != nil {
			return err
		}
		if begun { // what was there before was not the beginning of this file
			return t.download(ctx, name, f, part)
		}
		return fmt.Errorf("%w: its hash is %.12s… and not %.12s…", ErrDamaged, got, f.hash)
	}
	if err := out.Truncate(f.size); err != nil {
		return err
	}
	return errors.Join(t.disk.Sync(out), out.Close())
}

// errRestart: the server sends a file from its start only.
var errRestart = errors.New("the server does not go on where a file ended")

// get writes the bytes of a file from have on to w and returns how many came. What may go better another time is an
// unreachableError.
func (t *transfer) get(ctx context.Context, address string, have, size int64, w io.Writer, progress func(done int64)) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", "lathe")
	req.Header.Set("Accept-Encoding", "identity")
	if t.token != "" {
		req.Header.Set("Authorization", "Bearer "+t.token)
	}
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	resp, err := t.http.Do(req)
	if err != nil {
		return 0, t.network(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end or given up
	switch code := resp.StatusCode; {
	case have > 0 && (code == http.StatusOK || code == http.StatusRequestedRangeNotSatisfiable):
		return 0, errRestart
	case code == http.StatusOK, code == http.StatusPartialContent && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", have)):
	case code == http.StatusNotFound:
		return 0, ErrNotFound
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return 0, ErrDenied
	case code >= 500, slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooManyRequests}, code):
		return 0, &unreachableError{fmt.Errorf("the hub answers with status %s", resp.Status)}
	default:
		return 0, fmt.Errorf("the hub answers with status %s", resp.Status)
	}
	var n int64
	buf := make([]byte, bufferSize)
	for have+n < size {
		read, err := resp.Body.Read(buf)
		read = int(min(int64(read), size-have-n))
		if _, err := w.Write(buf[:read]); err != nil {
			return n, err
		}
		n += int64(read)
		progress(have + n)
		if err != nil && have+n < size {
			return n, t.network(ctx, err)
		}
	}
	return n, nil
}

// network wraps an error of the network, unless it is that somebody has given up.
func (t *transfer) network(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &unreachableError{err}
}
