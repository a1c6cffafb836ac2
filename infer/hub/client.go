package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	hf "github.com/gomlx/go-huggingface/hub"

	"github.com/lathe-llm/lathe/infer/durable"
)

// Client downloads from the hub into a cache.
type Client struct {
	cache   string
	token   string
	offline bool
	http    *http.Client
	disk    durable.Disk
	// pause waits before another attempt; a test replaces it.
	pause func(ctx context.Context, attempt int) error
}

// New returns a client with the settings of an environment, of which getenv is os.Getenv or a fake.
func New(getenv func(string) string) *Client {
	home := func(parts ...string) string {
		base := cmp.Or(getenv("XDG_CACHE_HOME"), filepath.Join(getenv("HOME"), ".cache"))
		return filepath.Join(append([]string{cmp.Or(getenv("HF_HOME"), filepath.Join(base, "huggingface"))}, parts...)...)
	}
	return &Client{
		cache:   cmp.Or(getenv("HF_HUB_CACHE"), getenv("HUGGINGFACE_HUB_CACHE"), home("hub")),
		token:   token(getenv, home("token")),
		offline: isTrue(cmp.Or(getenv("HF_HUB_OFFLINE"), getenv("TRANSFORMERS_OFFLINE"))),
		http:    &http.Client{},
		pause:   pause,
	}
}

func isTrue(value string) bool {
	return slices.Contains([]string{"1", "ON", "YES", "TRUE"}, strings.ToUpper(value))
}

// maxToken bounds a stored token in bytes.
const maxToken = 1 << 16

// token returns the token for the hub, as Hugging Face's programs find it: in the environment, or in the file that their log-in
// stores it in.
func token(getenv func(string) string, file string) string {
	for _, name := range []string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} {
		if t := strings.TrimSpace(getenv(name)); t != "" {
			return t
		}
	}
	if isTrue(getenv("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
		return ""
	}
	file = cmp.Or(getenv("HF_TOKEN_PATH"), file)
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() || info.Size() > maxToken {
		return "" // the hub reports that it needs one
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// pause waits twice as long before each attempt as before the last.
func pause(ctx context.Context, attempt int) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Second << attempt):
		return nil
	}
}

// Progress is the progress of a download: bytes of all files, cached ones included, and the current file.
type Progress struct {
	Done, Total int64
	File        string
}

// Snapshot is a commit of a repository on disk.
type Snapshot struct {
	Repo   Repo
	Commit string
	// Dir is the folder of its files, and File the GGUF file in it, "" where the model is safetensors.
	Dir, File string
	Files     []string // those that were chosen, with slashes
}

// chooser returns the files of a repository to download, given the names of all. read returns the content of a file.
type chooser func(names []string, read func(name string) ([]byte, error)) ([]string, error)

// Fetch returns the files of a model, and downloads what the cache lacks. Where the hub cannot be reached, or HF_HUB_OFFLINE is
// set, it returns a cached commit.
func (c *Client) Fetch(ctx context.Context, r Repo, progress func(Progress)) (Snapshot, error) {
	return c.fetchChosen(ctx, r, func(names []string, read func(string) ([]byte, error)) ([]string, error) {
		return choose(r, names, read)
	}, progress)
}

// FetchFiles is Fetch for files that choose returns, given the names of all.
func (c *Client) FetchFiles(ctx context.Context, r Repo, choose func(names []string) ([]string, error), progress func(Progress)) (Snapshot, error) {
	return c.fetchChosen(ctx, r, func(names []string, _ func(string) ([]byte, error)) ([]string, error) { return choose(names) }, progress)
}

func (c *Client) fetchChosen(ctx context.Context, r Repo, choose chooser, progress func(Progress)) (Snapshot, error) {
	if c.offline {
		return c.cached(r, choose, ErrOffline)
	}
	s, err := c.fetch(ctx, r, choose, progress)
	if unreachable := (*unreachableError)(nil); errors.As(err, &unreachable) {
		return c.cached(r, choose, err)
	}
	if err != nil {
		return Snapshot{}, r.fail(err)
	}
	return s, nil
}

// cached returns the cached commit of a repository, or else reason as its error.
func (c *Client) cached(r Repo, choose chooser, reason error) (Snapshot, error) {
	commit := r.Revision
	if !isCommit(commit) {
		b, err := os.ReadFile(filepath.Join(r.folder(c.cache), "refs", filepath.FromSlash(r.Revision)))
		if commit = strings.TrimSpace(string(b)); err != nil || !isCommit(commit) {
			return Snapshot{}, r.fail(reason)
		}
	}
	s := Snapshot{Repo: r, Commit: commit, Dir: filepath.Join(r.folder(c.cache), "snapshots", commit)}
	names, err := files(s.Dir)
	if err != nil {
		return Snapshot{}, r.fail(reason)
	}
	chosen, err := choose(names, func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(s.Dir, name)) })
	if errors.Is(err, ErrNotFound) {
		err = reason
	}
	if err != nil {
		return Snapshot{}, r.fail(err)
	}
	for _, name := range chosen {
		if _, err := os.Stat(filepath.Join(s.Dir, name)); err != nil {
			return Snapshot{}, r.fail(fmt.Errorf("%s: %w", name, reason))
		}
	}
	s.File, s.Files = ggufOf(chosen), chosen
	return s, nil
}

// Cached returns the names of the models in the cache that have a commit there, sorted.
func (c *Client) Cached() []string {
	entries, err := os.ReadDir(c.cache)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		folder, ok := strings.CutPrefix(e.Name(), modelPrefix)
		owner, name, two := strings.Cut(folder, "--")
		if !ok || !two {
			continue
		}
		r, ok := Parse(owner + "/" + name)
		if !ok {
			continue
		}
		if commits, err := os.ReadDir(filepath.Join(r.folder(c.cache), "snapshots")); err == nil && len(commits) > 0 {
			names = append(names, r.ID())
		}
	}
	return names
}

// files returns the names of a snapshot's files, with slashes.
func files(dir string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if name = filepath.ToSlash(name); err == nil && isName(name) {
			names = append(names, name)
		}
		return err
	})
	return names, err
}

// isName reports whether a file's name is one that can be stored: a path below the repository's folder without hidden parts.
func isName(name string) bool {
	for _, s := range strings.Split(name, "/") {
		if s == "" || s[0] == '.' || strings.ContainsAny(s, "\\:\x00") {
			return false
		}
	}
	return true
}

// fetch looks up the repository and downloads what is missing.
func (c *Client) fetch(ctx context.Context, r Repo, choose chooser, progress func(Progress)) (Snapshot, error) {
	info, repo, err := c.describe(ctx, r)
	if err != nil {
		return Snapshot{}, err
	}
	s := Snapshot{Repo: r, Commit: info.CommitHash, Dir: filepath.Join(r.folder(c.cache), "snapshots", info.CommitHash)}
	t := &transfer{Client: c, repo: r, dir: s.Dir, url: repo.FileURL, byName: make(map[string]remote), progress: progress}
	var names []string
	for _, f := range info.Siblings {
		if f == nil || !isName(f.Name) {
			continue
		}
		names = append(names, f.Name)
		t.byName[f.Name] = newRemote(f)
	}
	chosen, err := choose(names, func(name string) ([]byte, error) {
		path, err := t.file(ctx, name)
		if err != nil {
			return nil, err
		}
		return os.ReadFile(path)
	})
	if err != nil {
		return Snapshot{}, err
	}
	if err := t.files(ctx, chosen); err != nil {
		return Snapshot{}, err
	}
	if !isCommit(r.Revision) {
		ref := filepath.Join(r.folder(c.cache), "refs", filepath.FromSlash(r.Revision))
		if err := c.disk.MkdirAll(filepath.Dir(ref), 0o755); err != nil {
			return Snapshot{}, err
		}
		if err := c.disk.WriteFile(ref, []byte(s.Commit), 0o644); err != nil {
			return Snapshot{}, err
		}
	}
	s.File, s.Files = ggufOf(chosen), chosen
	return s, nil
}

// unreachableError is an error of the network rather than an answer of the hub.
type unreachableError struct{ error }

func (e *unreachableError) Unwrap() error { return e.error }

// describe asks the hub for the files of a repository. The library asks without a context, so describe may return before it has
// an answer.
func (c *Client) describe(ctx context.Context, r Repo) (*hf.RepoInfo, *hf.Repo, error) {
	repo := hf.New(r.ID()).WithRevision(url.PathEscape(r.Revision)).WithAuth(c.token).WithCacheDir(c.cache)
	if r.Dataset {
		repo = repo.WithType(hf.RepoTypeDataset)
	}
	repo.Verbosity = 0
	asked := make(chan error, 1)
	go func() {
		_, err := repo.FileURL("config.json") // asks again, once; Info then has the answer
		asked <- err
	}()
	select {
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	case err := <-asked:
		if err != nil {
			folder := r.folder(c.cache) // keep nothing in the cache of a repository that does not exist
			_, _ = os.Remove(filepath.Join(folder, "info")), os.Remove(folder)
			return nil, nil, translate(err)
		}
	}
	info := repo.Info()
	if !isCommit(info.CommitHash) {
		return nil, nil, fmt.Errorf("%w: the hub's description has commit %.60q", ErrDamaged, info.CommitHash)
	}
	return info, repo, nil
}

// translate returns our error for one of the library.
func translate(err error) error {
	_, answer, answered := strings.Cut(err.Error(), "bad status code ")
	code, _, _ := strings.Cut(answer, ":")
	switch {
	case !answered:
		return &unreachableError{err}
	case code == "404":
		return ErrNotFound
	case code == "401", code == "403":
		return ErrDenied
	case strings.HasPrefix(code, "5"), code == "429":
		return &unreachableError{fmt.Errorf("the hub answered with status %.60s", answer)}
	}
	return fmt.Errorf("the hub answered with status %.200s", answer)
}
