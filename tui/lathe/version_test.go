package main

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestVersions checks what --version and `version` show, and that the release is the newest section of the changelog.
func TestVersions(t *testing.T) {
	for _, args := range [][]string{{"--version"}, {"version"}, {"-v"}} {
		var out, words bytes.Buffer
		if status := run(t.Context(), fakeApp(strings.NewReader(""), &out, &words), args); status != exitOK {
			t.Fatalf("%v: status %d: %s", args, status, words.String())
		}
		for _, part := range []string{"lathe version " + release, "llama.cpp ", "ollama v", "XLA plug-in", "go-xla v", "GoMLX v", "go1."} {
			if !strings.Contains(out.String(), part) {
				t.Errorf("%v lacks %q: %s", args, part, out.String())
			}
		}
	}
	var out, words bytes.Buffer
	run(t.Context(), fakeApp(strings.NewReader(""), &out, &words), []string{"version", "--json"})
	var v versions
	if err := json.Unmarshal(out.Bytes(), &v); err != nil || v.Version != release || v.LlamaCPP == "" || v.GoMLX == "" {
		t.Errorf("%v: %+v", err, v)
	}
	changes, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	newest := regexp.MustCompile(`(?m)^## (v[0-9.]+) `).FindSubmatch(changes)
	if newest == nil || string(newest[1]) != release {
		t.Errorf("the newest release of the changelog is %s, the program's version %s", newest, release)
	}
}
