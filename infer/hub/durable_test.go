package hub

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/durable"
)

// TestFetchSurvivesFaults lets each step fail that puts a model on the disk: the error names a path in the cache, nothing
// hidden stays, and another attempt fetches the rest.
func TestFetchSurvivesFaults(t *testing.T) {
	files := map[string]string{"config.json": "{}", "model.safetensors": strings.Repeat("weights", 1000)}
	s := serve(t, files)
	var steps []string
	step := func(op durable.Op, path string) string { return string(op) + " " + filepath.Base(filepath.Dir(path)) }
	c := client(t.TempDir())
	c.disk = durable.Disk{Before: func(op durable.Op, path string) error {
		steps = append(steps, step(op, path))
		return nil
	}}
	if _, err := c.Fetch(t.Context(), parse(t, "tiny/model"), nil); err != nil {
		t.Fatal(err)
	}
	order := []string{"sync blobs", "rename blobs", "sync directory of blobs", "symlink " + commit, "sync refs", "rename refs", "sync directory of refs"}
	at := -1
	for _, want := range order { // each for the last time after the last one before it
		next := lastIndex(steps, want)
		if next <= at {
			t.Errorf("%q is not after what comes before it in %q", want, steps)
		}
		at = next
	}
	slices.Sort(steps)
	for _, fails := range slices.Compact(steps) {
		t.Run(fails, func(t *testing.T) {
			c := client(t.TempDir())
			fault := errors.New("the disk is broken")
			c.disk.Before = func(op durable.Op, path string) error {
				if step(op, path) == fails {
					return fault
				}
				return nil
			}
			_, err := c.Fetch(t.Context(), parse(t, "tiny/model"), nil)
			if !errors.Is(err, fault) || !strings.Contains(err.Error(), c.cache) {
				t.Errorf("error %v", err)
			}
			for _, depth := range []string{"*/*", "*/*/*"} {
				if hidden, _ := filepath.Glob(filepath.Join(c.cache, depth, ".new-*")); len(hidden) > 0 {
					t.Errorf("left behind: %v", hidden)
				}
			}
			c.disk.Before = nil
			snap, err := c.Fetch(t.Context(), parse(t, "tiny/model"), nil)
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range s.files {
				if got, err := os.ReadFile(filepath.Join(snap.Dir, name)); string(got) != want {
					t.Errorf("%s: %d bytes: %v", name, len(got), err)
				}
			}
		})
	}
}

func lastIndex(list []string, s string) int {
	last := -1
	for i, v := range list {
		if v == s {
			last = i
		}
	}
	return last
}
