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
	maxAttempts = 6 // in a row without a byte received
	bufferSize  = 1 << 20
	lockRetry   = 200 * time.Millisecond // another process may be fetching the same file
	// maxSmall bounds the size of files that the hub does not store as large files; a conversion reads them as a whole.
	maxSmall = 256 << 20
)

// remote is the hub's description of a file. Its hash is the name of its blob in the cache.
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
	if len(f.hash) != want || !isHex(f.hash) || f.size < 0 || !f.large && f.size > maxSmall {
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

// transfer downloads files of one commit of a repository.
type transfer struct {
	*Client
	repo     Repo
	dir      string // of the snapshot
	url      func(name string) (string, error)
	byName   map[string]remote
	progress func(Progress)

	done, total int64
}

// files downloads those of the files that the cache lacks.
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

// report reports the progress, with the bytes of the current file.
func (t *transfer) report(name string, bytes int64) {
	if t.progress != nil && t.total > 0 {
		t.progress(Progress{Done: t.done + bytes, Total: t.total, File: name})
	}
}

// file returns the path of a file, after downloading it where it is missing.
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

// blob returns the path of a file's content in the cache, after downloading it where it is missing. One process at a time
// downloads a blob; the lock is the one that other programs on the same cache use.
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
	defer func() { _ = lock.Unlock() }() // released when the process ends at the latest
	if info, err := os.Stat(blob); err == nil && info.Size() == f.size {
		return blob, nil
	}
	part := blob + ".incomplete"
	if err := t.download(ctx, name, f, part); err != nil {
		return "", err
	}
	return blob, t.disk.Rename(part, blob)
}

// download completes a partial file, tries again after errors of the network, and compares the hash of the whole.
func (t *transfer) download(ctx context.Context, name string, f remote, part string) error {
	address, err := t.url((&url.URL{Path: name}).EscapedPath())
	if err != nil {
		return err
	}
	out, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }() // closed below, with its error, where it matters
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
		if errors.Is(err, errRestart) && restarts < maxAttempts {
			if _, err := out.Seek(0, io.SeekStart); err != nil {
				return err
			}
			sum, have, restarts, begun = f.hasher(), 0, restarts+1, false
			continue
		}
		if temporary := (*unreachableError)(nil); err != nil && (!errors.As(err, &temporary) || attempt+1 >= maxAttempts) {
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
		if begun { // the partial file was not the beginning of this one
			return t.download(ctx, name, f, part)
		}
		return fmt.Errorf("%w: its hash is %.12s…, want %.12s…", ErrDamaged, got, f.hash)
	}
	if err := out.Truncate(f.size); err != nil {
		return err
	}
	return errors.Join(t.disk.Sync(out), out.Close())
}

// errRestart is returned where the server sends a file from its start only.
var errRestart = errors.New("the server cannot resume a download")

// get writes the bytes of a file from have on to w and returns their number. Errors that another attempt may not meet are
// unreachableErrors.
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
	defer func() { _ = resp.Body.Close() }() // read to its end or abandoned
	switch code := resp.StatusCode; {
	case have > 0 && (code == http.StatusOK || code == http.StatusRequestedRangeNotSatisfiable):
		return 0, errRestart
	case code == http.StatusOK, code == http.StatusPartialContent && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", have)):
	case code == http.StatusNotFound:
		return 0, ErrNotFound
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return 0, ErrDenied
	case code >= 500, slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooManyRequests}, code):
		return 0, &unreachableError{fmt.Errorf("the hub answered with status %s", resp.Status)}
	default:
		return 0, fmt.Errorf("the hub answered with status %s", resp.Status)
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

// network wraps an error of the network in an unreachableError, unless the context has ended.
func (t *transfer) network(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &unreachableError{err}
}
