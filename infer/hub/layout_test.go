package hub

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLayouts fetches from repositories whose files lie as people upload them.
func TestLayouts(t *testing.T) {
	for _, test := range []struct {
		name  string
		files []string
		ask   string
		want  string // the GGUF file
		err   error
		words []string
	}{
		{name: "subfolder", files: []string{"Q4/m.gguf", "README.md"}, ask: "tiny/model", want: "Q4/m.gguf"},
		{name: "named in a subfolder", files: []string{"Q4/m.gguf", "Q8/m.gguf"}, ask: "tiny/model/Q8/m.gguf", want: "Q8/m.gguf"},
		{name: "revision and subfolder", files: []string{"a/b/m.gguf", "n.gguf"}, ask: "tiny/model@main/a/b/m.gguf", want: "a/b/m.gguf"},
		{name: "several", files: []string{"Q4/m.gguf", "Q8/m.gguf"}, ask: "tiny/model", err: ErrAmbiguous, words: []string{"tiny/model/Q4/m.gguf", "Q8/m.gguf"}},
		{name: "parts", files: []string{"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}, ask: "tiny/model", err: ErrParts,
			words: []string{"2 parts", "--include 'm-*.gguf'", "llama-gguf-split --merge DIR/m-00001-of-00002.gguf"}},
		{name: "parts in a subfolder", files: []string{"Q8/m-00001-of-00003.gguf", "Q8/m-00002-of-00003.gguf", "Q8/m-00003-of-00003.gguf"},
			ask: "tiny/model/Q8/m-00002-of-00003.gguf", err: ErrParts, words: []string{"3 parts", "'Q8/m-*.gguf'", "DIR/Q8/m-00001-of-00003.gguf"}},
		{name: "one file beside parts", files: []string{"big-00001-of-00002.gguf", "big-00002-of-00002.gguf", "m.gguf"}, ask: "tiny/model", want: "m.gguf"},
		{name: "a single part", files: []string{"m-00001-of-00001.gguf"}, ask: "tiny/model", want: "m-00001-of-00001.gguf"},
		{name: "projector", files: []string{"m.gguf", "mmproj-m-f16.gguf"}, ask: "tiny/model", want: "m.gguf"},
		{name: "projector at the end", files: []string{"m.Q4_K_M.gguf", "m.mmproj-f16.gguf"}, ask: "tiny/model", want: "m.Q4_K_M.gguf"},
		{name: "importance matrix", files: []string{"m.gguf", "imatrix.gguf", "m-imatrix.gguf"}, ask: "tiny/model", want: "m.gguf"},
		{name: "quantised with an importance matrix", files: []string{"m-imatrix-Q4_K_M.gguf"}, ask: "tiny/model", want: "m-imatrix-Q4_K_M.gguf"},
		{name: "only a projector", files: []string{"mmproj.gguf"}, ask: "tiny/model", err: ErrNotFound, words: []string{"mmproj.gguf"}},
		{name: "nested safetensors", files: []string{"fp16/model.safetensors"}, ask: "tiny/model", err: ErrNotFound, words: []string{"fp16/model.safetensors"}},
		{name: "hidden and foreign names", files: []string{".cache/m.gguf", "../m.gguf", "a/.b/m.gguf", `a\m.gguf`, "m.gguf"}, ask: "tiny/model", want: "m.gguf"},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := make(map[string]string)
			for _, name := range test.files {
				files[name] = "content of " + name
			}
			s := serve(t, files)
			home := t.TempDir()
			c := client(home)
			snap, err := c.Fetch(t.Context(), parse(t, test.ask), nil)
			if test.err != nil {
				if !errors.Is(err, test.err) {
					t.Fatalf("error %v, want %v", err, test.err)
				}
				for _, w := range test.words {
					if !strings.Contains(err.Error(), w) {
						t.Errorf("%q is not in: %v", w, err)
					}
				}
				for _, path := range s.asked() {
					if strings.HasSuffix(path, ".gguf") {
						t.Errorf("%s was downloaded", path)
					}
				}
				return
			}
			if err != nil || snap.File != test.want {
				t.Fatalf("file %q, error %v, want %s", snap.File, err, test.want)
			}
			if got, err := os.ReadFile(filepath.Join(snap.Dir, snap.File)); string(got) != files[test.want] {
				t.Errorf("%q: %v", got, err)
			}
			offline := client(home, "HF_HUB_OFFLINE", "1")
			if again, err := offline.Fetch(t.Context(), parse(t, test.ask), nil); err != nil || again.File != test.want {
				t.Errorf("offline: %q, %v", again.File, err)
			}
		})
	}
}

// TestStoredTokens checks where the token of a private repository is taken from, and that it goes to the hub alone.
func TestStoredTokens(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"token": "stored\n", "other": " elsewhere \r\n", "empty": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		env  []string
		want string
	}{
		{[]string{"HF_HOME", dir}, "stored"},
		{[]string{"HF_HOME", dir, "HF_TOKEN_PATH", filepath.Join(dir, "other")}, "elsewhere"},
		{[]string{"HF_HOME", dir, "HUGGING_FACE_HUB_TOKEN", "old"}, "old"},
		{[]string{"HF_HOME", dir, "HUGGING_FACE_HUB_TOKEN", "old", "HF_TOKEN", "new"}, "new"},
		{[]string{"HF_HOME", dir, "HF_TOKEN", " "}, "stored"},
		{[]string{"HF_HOME", dir, "HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"}, ""},
		{[]string{"HF_HOME", dir, "HF_TOKEN_PATH", filepath.Join(dir, "empty")}, ""},
		{[]string{"HF_HOME", dir, "HF_TOKEN_PATH", dir}, ""},
	} {
		s := serve(t, map[string]string{"m.gguf": "content"})
		s.private = "xyz"
		if test.want != "" {
			s.private = test.want
		}
		c := client(t.TempDir(), test.env...)
		c.cache = t.TempDir()
		_, err := c.Fetch(t.Context(), parse(t, "tiny/model"), nil)
		if test.want == "" && !errors.Is(err, ErrDenied) || test.want != "" && err != nil {
			t.Errorf("%q: %v, want the token %q", test.env, err, test.want)
		}
		if s.leaked {
			t.Errorf("%q: the token went to another host", test.env)
		}
	}
}

func TestParseFilesInFolders(t *testing.T) {
	for text, want := range map[string]Repo{
		"o/n/a/b/m.gguf":                {"o", "n", "main", "a/b/m.gguf", false},
		"o/n@main/a/m.gguf":             {"o", "n", "main", "a/m.gguf", false},
		"o/n@refs/pr/1/a/m.gguf":        {"o", "n", "refs/pr/1", "a/m.gguf", false},
		"o/n@" + commit + "/a/b/m.gguf": {"o", "n", commit, "a/b/m.gguf", false},
		"o/n@feature/x/m.gguf":          {"o", "n", "feature/x", "m.gguf", false},
	} {
		if got, ok := Parse(text); !ok || got != want {
			t.Errorf("%s: %+v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"o/n/../m.gguf", "o/n/a//m.gguf", "o/n/.a/m.gguf", "./n/a/m.gguf", "o/n/a/m.bin"} {
		if got, ok := Parse(text); ok {
			t.Errorf("%s: %+v", text, got)
		}
	}
}
