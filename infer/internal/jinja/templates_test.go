package jinja

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTemplates renders the templates of models with eight conversations each and compares with Python (.ci/templates.py). It
// reads those that are there: in the folder LATHE_TEMPLATES, and in a module that the build uses.
func TestTemplates(t *testing.T) {
	var conversations [][]struct{ Role, Content string }
	readJSON(t, filepath.Join("testdata", "conversations.json"), &conversations)
	var rows []struct {
		Source, SHA256 string
		Results        []string
	}
	readJSON(t, filepath.Join("testdata", "templates.json"), &rows)
	if len(rows) < 150 || len(conversations) != 8 {
		t.Fatalf("%d templates, %d conversations", len(rows), len(conversations))
	}
	folder := os.Getenv("LATHE_TEMPLATES")
	texts := moduleTemplates(t)
	var equal, refused, failed, other, read int
	for _, row := range rows {
		source, ok := texts[row.SHA256]
		if folder != "" {
			data, err := os.ReadFile(filepath.Join(folder, row.SHA256+".jinja"))
			if err != nil {
				t.Error(err)
				continue
			}
			source, ok = string(data), true
		}
		if !ok {
			continue
		}
		if digest(source) != row.SHA256 {
			t.Errorf("%s: another text", row.Source)
			continue
		}
		read++
		template, err := Parse(source)
		for i, want := range row.Results {
			got := ""
			if err == nil {
				got = outcome(template, conversations[i])
			} else {
				got = "not parsed: " + err.Error()
			}
			switch {
			case got == want && strings.HasPrefix(got, "raised: "):
				refused++
			case want == "error" && strings.HasPrefix(got, "error: "):
				failed++
			case got == want:
				equal++
			default:
				other++
				t.Errorf("%s (%.8s), conversation %d: %q, Python %q", row.Source, row.SHA256, i, got, want)
			}
		}
	}
	if read == 0 {
		t.Skip("no templates: LATHE_TEMPLATES is not set, and the module cache is empty")
	}
	t.Logf("%d of %d templates: %d texts equal, %d refused with the same reason, %d errors in both, %d other", read, len(rows), equal, refused, failed, other)
}

// outcome renders a conversation: the start of the text's hash, or what failed.
func outcome(template *Template, conversation []struct{ Role, Content string }) string {
	messages := make([]any, len(conversation))
	for i, m := range conversation {
		messages[i] = []Pair{{"role", m.Role}, {"content", m.Content}}
	}
	text, err := template.Render(context.Background(), Input{Now: now, Variables: []Pair{
		{"messages", messages}, {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"add_generation_prompt", true}, {"tools", nil}, {"documents", nil},
	}})
	var raised *RaisedError
	switch {
	case errors.As(err, &raised):
		first, _, _ := strings.Cut(raised.Reason, "\n")
		return "raised: " + first
	case err != nil:
		return "error: " + err.Error()
	}
	return digest(text)[:16]
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// moduleTemplates returns the templates in the module with the bindings of llama.cpp, by their SHA-256; none where the module
// was not downloaded.
func moduleTemplates(t *testing.T) map[string]string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/ollama/ollama").Output()
	texts := map[string]string{}
	if dir := strings.TrimSpace(string(out)); err == nil && dir != "" {
		var rows []struct{ Template string }
		readJSON(t, filepath.Join(dir, "template", "index.json"), &rows)
		for _, row := range rows {
			texts[digest(row.Template)] = row.Template
		}
	}
	return texts
}
