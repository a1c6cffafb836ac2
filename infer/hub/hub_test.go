package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lathe-llm/lathe/infer/internal/parts"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

// server is a hub of one repository, tiny/model, whose large files are on another host as the real one's are.
type server struct {
	*httptest.Server
	files map[string]string

	mu      sync.Mutex
	got     []string // what was asked for
	status  int      // in place of every answer, 0 for none
	cut     int      // large files end after so many bytes of an answer, 0 for not
	ranges  bool     // large files can be read from the middle
	private string   // token that the hub wants
	damaged bool     // large files differ from their description
	leaked  bool     // the token came where it has no business
}

func isLarge(name string) bool {
	return strings.HasSuffix(name, "s") || strings.HasSuffix(name, ".gguf")
}

func serve(t *testing.T, files map[string]string) *server {
	t.Helper()
	s := &server{files: files, ranges: true}
	store := httptest.NewServer(http.HandlerFunc(s.store))
	t.Cleanup(store.Close)
	mux := http.NewServeMux()
	mux.HandleFunc("/api/models/tiny/model/revision/main", s.guard(s.describe))
	mux.HandleFunc("/tiny/model/resolve/"+commit+"/", s.guard(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/tiny/model/resolve/"+commit+"/")
		if strings.Contains(r.URL.EscapedPath(), "%2F") { // folders are parts of the path, as huggingface_hub sends them
			http.NotFound(w, r)
			return
		}
		if isLarge(name) { // localhost is another host than 127.0.0.1
			http.Redirect(w, r, strings.Replace(store.URL, "127.0.0.1", "localhost", 1)+"/"+name, http.StatusFound)
			return
		}
		fmt.Fprint(w, s.files[name])
	}))
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	t.Setenv("HF_ENDPOINT", s.URL)
	return s
}

// guard answers as the hub does where it does not want to.
func (s *server) guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.got = append(s.got, r.URL.Path)
		status, private := s.status, s.private
		s.mu.Unlock()
		switch {
		case status != 0:
			http.Error(w, `{"error":"no"}`, status)
		case private != "" && r.Header.Get("Authorization") != "Bearer "+private:
			http.Error(w, `{"error":"gated"}`, http.StatusUnauthorized)
		default:
			next(w, r)
		}
	}
}

func (s *server) describe(w http.ResponseWriter, _ *http.Request) {
	var siblings []map[string]any
	for name, content := range s.files {
		f := map[string]any{"rfilename": name, "size": len(content), "blobId": gitHash(content)}
		if isLarge(name) {
			sum := sha256.Sum256([]byte(content))
			f["lfs"] = map[string]any{"sha256": hex.EncodeToString(sum[:]), "size": len(content), "pointerSize": 130}
		}
		siblings = append(siblings, f)
	}
	json.NewEncoder(w).Encode(map[string]any{"id": "tiny/model", "sha": commit, "siblings": siblings})
}

// store serves the large files.
func (s *server) store(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaked = s.leaked || r.Header.Get("Authorization") != ""
	content := s.files[strings.TrimPrefix(r.URL.Path, "/")]
	if s.damaged {
		content = strings.ToUpper(content)
	}
	from := 0
	if s.ranges && r.Header.Get("Range") != "" {
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		s.got = append(s.got, r.Header.Get("Range"))
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(content)-from))
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
		w.WriteHeader(http.StatusPartialContent)
	}
	to := len(content)
	if s.cut > 0 {
		to = min(to, from+s.cut)
	}
	fmt.Fprint(w, content[from:to]) // less than promised ends the connection
}

func (s *server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// asked returns what was asked for since the last time.
func (s *server) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	return got
}

func gitHash(content string) string {
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(content), content))
	return hex.EncodeToString(sum[:])
}

// client is one with a cache in a temporary folder and no patience.
func client(cache string, env ...string) *Client {
	c := New(func(key string) string {
		for i := 0; i+1 < len(env); i += 2 {
			if env[i] == key {
				return env[i+1]
			}
		}
		return map[string]string{"HF_HOME": cache}[key]
	})
	c.pause = func(ctx context.Context, _ int) error { return ctx.Err() }
	return c
}

func model() map[string]string {
	return map[string]string{
		"config.json": `{"a": 1}`, "tokenizer.json": "{}", "README.md": "words", "consolidated.safetensors": "another form of the same",
		"model.safetensors.index.json":     `{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors", "c": "model-00001-of-00002.safetensors"}}`,
		"model-00001-of-00002.safetensors": strings.Repeat("first ", 1000), "model-00002-of-00002.safetensors": "second",
		"onnx/model.safetensors": "not this",
	}
}

func parse(t *testing.T, text string) Repo {
	t.Helper()
	r, ok := Parse(text)
	if !ok {
		t.Fatalf("%q is no repository", text)
	}
	return r
}

func TestFetch(t *testing.T) {
	s := serve(t, model())
	s.private = "hf_secret"
	home := t.TempDir()
	c := client(home, "HF_TOKEN", "hf_secret")
	var last Progress
	snap, err := c.Fetch(t.Context(), parse(t, "tiny/model"), func(p Progress) {
		if p.Done < last.Done || p.Done > p.Total {
			t.Errorf("%+v after %+v", p, last)
		}
		last = p
	})
	if err != nil {
		t.Fatal(err)
	}
	if last.Total == 0 || last.Done != last.Total {
		t.Errorf("ended at %+v", last)
	}
	if want := filepath.Join(home, "hub", "models--tiny--model", "snapshots", commit); snap.Dir != want || snap.File != "" || snap.Commit != commit {
		t.Errorf("%+v, want %s", snap, want)
	}
	var names []string
	entries, err := os.ReadDir(snap.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
		content, err := os.ReadFile(filepath.Join(snap.Dir, e.Name()))
		if err != nil || string(content) != s.files[e.Name()] {
			t.Errorf("%s: %.40q, error %v", e.Name(), content, err)
		}
		if to, err := os.Readlink(filepath.Join(snap.Dir, e.Name())); err != nil || !strings.HasPrefix(to, "../../blobs/") {
			t.Errorf("%s is linked to %q, error %v", e.Name(), to, err)
		}
	}
	if want := []string{"config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json"}; !slices.Equal(names, want) {
		t.Errorf("fetched %q", names)
	}
	if s.leaked {
		t.Error("the token went to another host")
	}
	s.asked()

	// The second time only the description is asked for; offline and without the hub nothing is.
	if _, err := c.Fetch(t.Context(), parse(t, "tiny/model"), nil); err != nil || len(s.asked()) != 1 {
		t.Errorf("again: error %v", err)
	}
	offline := client(home, "HF_HUB_OFFLINE", "1")
	for _, name := range []string{"tiny/model", "tiny/model@" + commit} {
		got, err := offline.Fetch(t.Context(), parse(t, name), nil)
		if err != nil || got.Dir != snap.Dir || got.Commit != commit || len(s.asked()) != 0 {
			t.Errorf("offline: %s: %+v, error %v", name, got, err)
		}
	}
	s.Close()
	if got, err := c.Fetch(t.Context(), parse(t, "tiny/model"), nil); err != nil || got.Dir != snap.Dir {
		t.Errorf("without the hub: %+v, error %v", got, err)
	}
	if err := os.Remove(filepath.Join(snap.Dir, "model-00002-of-00002.safetensors")); err != nil {
		t.Fatal(err)
	}
	if _, err := offline.Fetch(t.Context(), parse(t, "tiny/model"), nil); !errors.Is(err, ErrOffline) || !strings.Contains(err.Error(), "model-00002-of-00002") {
		t.Errorf("a shard is missing: %v", err)
	}
}

func TestFetchGoesOn(t *testing.T) {
	for _, ranges := range []bool{true, false} {
		s := serve(t, model())
		c := client(t.TempDir())
		s.set(func() { s.cut, s.ranges = 1000, true })
		ctx, cancel := context.WithCancel(t.Context())
		_, err := c.Fetch(ctx, parse(t, "tiny/model"), func(p Progress) {
			if p.Done > 3000 {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("interrupted: %v", err)
		}
		s.asked()
		s.set(func() { s.cut, s.ranges = 0, ranges })
		snap, err := c.Fetch(t.Context(), parse(t, "tiny/model"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if content, _ := os.ReadFile(filepath.Join(snap.Dir, "model-00001-of-00002.safetensors")); string(content) != s.files["model-00001-of-00002.safetensors"] {
			t.Errorf("%d bytes, %.20q…", len(content), content)
		}
		went := slices.ContainsFunc(s.asked(), func(asked string) bool { return strings.HasPrefix(asked, "bytes=") && asked != "bytes=0-" })
		if went != ranges {
			t.Errorf("went on in the middle: %t", went)
		}
		if left, _ := filepath.Glob(filepath.Join(c.cache, "*", "blobs", "*.incomplete")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}

// A partial file that is not the beginning of this one, of an earlier commit or another program, is downloaded again.
func TestFetchForgetsForeignParts(t *testing.T) {
	serve(t, map[string]string{"config.json": "{}", "model.safetensors": "the content"})
	c := client(t.TempDir())
	sum := sha256.Sum256([]byte("the content"))
	part := filepath.Join(c.cache, "models--tiny--model", "blobs", hex.EncodeToString(sum[:])+".incomplete")
	if err := os.MkdirAll(filepath.Dir(part), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"other", "longer than the content is"} {
		if err := os.WriteFile(part, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Fetch(t.Context(), parse(t, "tiny/model"), nil); err != nil {
			t.Errorf("after %q: %v", content, err)
		}
		if err := os.RemoveAll(filepath.Join(c.cache, "models--tiny--model", "snapshots")); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(strings.TrimSuffix(part, ".incomplete")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFetchRefuses(t *testing.T) {
	file := func(name, content string) func(*server) { return func(s *server) { s.files[name] = content } }
	for _, test := range []struct {
		name, repo string
		change     func(*server)
		want       error
		reason     string
	}{
		{"no such repository", "tiny/none", func(*server) {}, ErrNotFound, "hub: tiny/none: not on the hub"},
		{"gated", "tiny/model", func(s *server) { s.private = "x" }, ErrDenied, "HF_TOKEN"},
		{"hub is down", "tiny/model", func(s *server) { s.status = 503 }, nil, "status 503"},
		{"odd answer", "tiny/model", func(s *server) { s.status = 418 }, nil, "status 418"},
		{"always cut off", "tiny/model", func(s *server) { s.cut, s.ranges = 5, false }, nil, "model-00001-of-00002.safetensors"},
		{"not what it should be", "tiny/model", func(s *server) { s.damaged = true }, ErrDamaged, "its hash is"},
		{"a shard is missing", "tiny/model", func(s *server) { delete(s.files, "model-00002-of-00002.safetensors") }, ErrNotFound, "model-00002-of-00002"},
		{"index is none", "tiny/model", file(parts.Index, "[]"), ErrDamaged, parts.Index},
		{"index leads outside", "tiny/model", file(parts.Index, `{"weight_map":{"a":"../x.safetensors"}}`), ErrDamaged, "../x"},
		{"no model", "tiny/model", func(s *server) { s.files = map[string]string{"README.md": "x"} }, ErrNotFound, "neither safetensors nor GGUF"},
		{"no such file", "tiny/model/x.gguf", func(*server) {}, ErrNotFound, "x.gguf"},
		{"which file", "tiny/model", func(s *server) { s.files = map[string]string{"a.gguf": "x", "b.gguf": "y"} }, nil, "tiny/model/a.gguf: a.gguf, b.gguf"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, model())
			s.set(func() { test.change(s) })
			_, err := client(t.TempDir()).Fetch(t.Context(), parse(t, test.repo), nil)
			if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.reason) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestFetchGGUF(t *testing.T) {
	serve(t, map[string]string{"a.Q4_0.gguf": "GGUF a", "README.md": "x"})
	c := client(t.TempDir())
	for _, name := range []string{"tiny/model", "tiny/model/a.Q4_0.gguf"} {
		snap, err := c.Fetch(t.Context(), parse(t, name), nil)
		if err != nil || snap.File != "a.Q4_0.gguf" {
			t.Errorf("%s: %+v, error %v", name, snap, err)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]Repo{
		"HuggingFaceTB/SmolLM2-135M": {"HuggingFaceTB", "SmolLM2-135M", "main", "", false},
		"a/b@v1.0":                   {"a", "b", "v1.0", "", false},
		"a/b@refs/pr/1":              {"a", "b", "refs/pr/1", "", false},
		"a/b/x.gguf":                 {"a", "b", "main", "x.gguf", false},
		"a/b@v1/x.gguf":              {"a", "b", "v1", "x.gguf", false},
		"a/b@refs/pr/1/x.gguf":       {"a", "b", "refs/pr/1", "x.gguf", false},
	} {
		got, ok := Parse(text)
		if !ok || got != want || got.String() != text {
			t.Errorf("%s: %+v %t, written %s", text, got, ok, got)
		}
	}
	for _, text := range []string{"", "a", "a/", "/a", "a/b/c", "a/b/", "./a", "../a", "a/..", "models/x.gguf", "a b/c", "a/b@", "a/b@../x", "a/b@v1/", "a/b/../x.gguf", "https://x/y"} {
		if r, ok := Parse(text); ok {
			t.Errorf("%q is %+v", text, r)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"a/b", "a/b@refs/pr/1", "a/b@v/x.gguf", "a/b/x.gguf"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, ok := Parse(text)
		if !ok {
			return
		}
		if again, ok := Parse(r.String()); !ok || again != r {
			t.Errorf("%q is %+v, written %s", text, r, r)
		}
		if dir := r.folder("/cache"); filepath.Dir(dir) != "/cache" {
			t.Errorf("%q would be kept in %s", text, dir)
		}
		if ref := filepath.Join("/cache/refs", r.Revision); !strings.HasPrefix(ref, "/cache/refs/") {
			t.Errorf("%q has its reference at %s", text, ref)
		}
	})
}
