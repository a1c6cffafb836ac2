package jinja

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTemplates renders the templates of models with eight conversations each, those that name tools or documents also with six
// conversations that have some, and compares with Python (.ci/templates.py). It reads those that are there: in the folder
// LATHE_TEMPLATES, and in a module that the build uses.
func TestTemplates(t *testing.T) {
	var conversations, withTools []any
	readOrdered(t, filepath.Join("testdata", "conversations.json"), &conversations)
	readOrdered(t, filepath.Join("testdata", "tools.json"), &withTools)
	var rows []struct {
		Source, SHA256 string
		Results, Tools []string
	}
	readJSON(t, filepath.Join("testdata", "templates.json"), &rows)
	if len(rows) < 150 || len(conversations) != 8 || len(withTools) != 6 {
		t.Fatalf("%d templates, %d conversations, %d with tools", len(rows), len(conversations), len(withTools))
	}
	folder := os.Getenv("LATHE_TEMPLATES")
	texts := moduleTemplates(t)
	var plain, tools tally
	var read int
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
		result := func(variables []Pair) string {
			if err != nil {
				return "not parsed: " + err.Error()
			}
			return outcome(template, variables)
		}
		for i, want := range row.Results {
			got := result([]Pair{{"messages", conversations[i]}, {"tools", nil}, {"documents", nil}})
			if !plain.count(got, want) {
				t.Errorf("%s (%.8s), conversation %d: %q, Python %q", row.Source, row.SHA256, i, got, want)
			}
		}
		for i, want := range row.Tools {
			if got := result(withTools[i].([]Pair)); !tools.count(got, want) {
				t.Errorf("%s (%.8s), conversation %d with tools: %q, Python %q", row.Source, row.SHA256, i, got, want)
			}
		}
	}
	if read == 0 {
		t.Skip("no templates: LATHE_TEMPLATES is not set, and the module cache is empty")
	}
	t.Logf("%d of %d templates: %v; with tools or documents: %v", read, len(rows), plain, tools)
}

// tally counts results that agree with Python's.
type tally struct{ equal, refused, failed, other int }

func (n *tally) count(got, want string) bool {
	switch {
	case got == want && strings.HasPrefix(got, "raised: "):
		n.refused++
	case want == "error" && strings.HasPrefix(got, "error: "):
		n.failed++
	case got == want:
		n.equal++
	default:
		n.other++
		return false
	}
	return true
}

func (n tally) String() string {
	return fmt.Sprintf("%d texts equal, %d refused with the same reason, %d errors in both, %d other", n.equal, n.refused, n.failed, n.other)
}

// outcome renders a conversation: the start of the text's hash, or what failed.
func outcome(template *Template, variables []Pair) string {
	text, err := template.Render(context.Background(), Input{Now: now, Variables: append([]Pair{
		{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"add_generation_prompt", true},
	}, variables...)})
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

// readOrdered reads a list of values of templates: objects have their keys in the order of the file.
func readOrdered(t *testing.T, path string, to *[]any) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tokens := json.NewDecoder(f)
	tokens.UseNumber()
	var value func() any
	value = func() any {
		token, err := tokens.Token()
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case json.Number:
			if n, err := token.Int64(); err == nil {
				return n
			}
			x, err := token.Float64()
			if err != nil {
				t.Fatal(err)
			}
			return x
		case json.Delim:
			list, pairs := []any{}, []Pair{}
			for tokens.More() {
				v := value()
				if token == '{' {
					pairs = append(pairs, Pair{v.(string), value()})
				} else {
					list = append(list, v)
				}
			}
			if _, err := tokens.Token(); err != nil {
				t.Fatal(err)
			}
			if token == '{' {
				return pairs
			}
			return list
		default:
			return token
		}
	}
	*to = value().([]any)
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
