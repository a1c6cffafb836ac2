package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// TestZeroShotFromTheHub evaluates a task whose questions are fetched by its name, and again offline.
func TestZeroShotFromTheHub(t *testing.T) {
	type question struct {
		Goal  string `parquet:"goal"`
		Sol1  string `parquet:"sol1"`
		Sol2  string `parquet:"sol2"`
		Label int64  `parquet:"label"`
	}
	var file bytes.Buffer
	w := parquet.NewGenericWriter[question](&file)
	if _, err := w.Write([]question{{"Boil an egg", "in water", "in sand", 0}, {"Cut wood", "with soup", "with a saw", 1}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	const name, commit = "plain_text/validation/0000.parquet", "0123456789abcdef0123456789abcdef01234567"
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", file.Len(), file.Bytes()))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.EscapedPath() {
		case "/api/datasets/ybisk/piqa/revision/refs%2Fconvert%2Fparquet":
			_ = json.NewEncoder(w).Encode(map[string]any{"id": "ybisk/piqa", "sha": commit, "siblings": []map[string]any{
				{"rfilename": name, "size": file.Len(), "blobId": hex.EncodeToString(sum[:])},
			}})
		case "/datasets/ybisk/piqa/resolve/" + commit + "/" + name:
			_, _ = w.Write(file.Bytes())
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	t.Setenv("HF_ENDPOINT", s.URL)
	model := t.TempDir() + "/model.gguf"
	if err := os.WriteFile(model, []byte("fake"), 0o644); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	zeroshot := func(task string, environ ...string) (status int, out, complaint string) {
		var stdout, stderr bytes.Buffer
		a := &app{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: variable(append(environ, "HF_HOME="+home, "HOME="+home))}
		b := explorertest.New()
		a.backend = func(string) (explorer.Backend, error) { return existing{b}, nil }
		status = run(t.Context(), a, []string{"zeroshot", model, "--task", task})
		return status, stdout.String(), stderr.String()
	}
	if status, out, complaint := zeroshot("piqa"); status != exitOK || !strings.Contains(out, "piqa  2 ") {
		t.Fatalf("status %d, %q, %q", status, out, complaint)
	}
	if status, out, complaint := zeroshot("piqa", "HF_HUB_OFFLINE=1"); status != exitOK || !strings.Contains(out, "piqa  2 ") {
		t.Errorf("from the cache: status %d, %q, %q", status, out, complaint)
	}
	status, _, complaint := zeroshot("winogrande", "HF_HUB_OFFLINE=1")
	if status != exitUnsupported || !strings.Contains(complaint, "allenai/winogrande") || !strings.Contains(complaint, "HF_HUB_OFFLINE") || !strings.Contains(complaint, "--task winogrande=FILE") {
		t.Errorf("offline and not in the cache: status %d, %q", status, complaint)
	}
	if status, _, complaint := zeroshot("winogrande"); status != exitInput || !strings.Contains(complaint, "not on the hub") {
		t.Errorf("not on the hub: status %d, %q", status, complaint)
	}
}
