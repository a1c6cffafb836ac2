package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFetchFiles downloads a chosen file of a dataset, at a revision with slashes, once; then it is in the cache.
func TestFetchFiles(t *testing.T) {
	const name, content = "plain_text/validation/0000.parquet", "questions"
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.EscapedPath())
		switch r.URL.EscapedPath() {
		case "/api/datasets/tiny/questions/revision/refs%2Fconvert%2Fparquet":
			json.NewEncoder(w).Encode(map[string]any{"id": "tiny/questions", "sha": commit, "siblings": []map[string]any{
				{"rfilename": name, "size": len(content), "blobId": gitHash(content)}, {"rfilename": "other.parquet", "size": 1, "blobId": gitHash("x")},
			}})
		case "/datasets/tiny/questions/resolve/" + commit + "/" + name:
			fmt.Fprint(w, content)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	t.Setenv("HF_ENDPOINT", s.URL)
	home := t.TempDir()
	repo := Repo{Owner: "tiny", Name: "questions", Dataset: true, Revision: "refs/convert/parquet"}
	choose := func(names []string) ([]string, error) {
		if !slices.Contains(names, name) {
			return nil, errors.New("no questions")
		}
		return []string{name}, nil
	}
	got, err := client(home).FetchFiles(t.Context(), repo, choose, nil)
	if err != nil || !slices.Equal(got.Files, []string{name}) || !strings.Contains(got.Dir, "datasets--tiny--questions") {
		t.Fatalf("%+v, %v", got, err)
	}
	if text, err := os.ReadFile(filepath.Join(got.Dir, filepath.FromSlash(name))); err != nil || string(text) != content {
		t.Errorf("content %q, %v", text, err)
	}
	asked = nil
	again, err := client(home, "HF_HUB_OFFLINE", "1").FetchFiles(t.Context(), repo, choose, nil)
	if err != nil || again.Dir != got.Dir || !slices.Equal(again.Files, got.Files) || asked != nil {
		t.Errorf("offline: %+v, %v; asked for %q", again, err, asked)
	}
	if _, err := client(t.TempDir(), "HF_HUB_OFFLINE", "1").FetchFiles(t.Context(), repo, choose, nil); !errors.Is(err, ErrOffline) {
		t.Errorf("offline and not in the cache: %v", err)
	}
	repo.Revision = "main"
	if _, err := client(t.TempDir()).FetchFiles(t.Context(), repo, choose, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("a revision that is not there: %v", err)
	}
}
