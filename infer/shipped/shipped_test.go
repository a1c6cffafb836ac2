package shipped

import (
	"os"
	"path/filepath"
	"testing"
)

// TestDirOf checks that the folder is found from the executable and from a link to it, and only where it exists.
func TestDirOf(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(root, "lathe", "bin", "lathe")
	want := filepath.Join(root, "lathe", "share", "lathe")
	if err := os.MkdirAll(filepath.Dir(exe), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := dirOf(exe); got != "" {
		t.Errorf("without the folder: %q", got)
	}
	if err := os.MkdirAll(want, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(root, "lathe-link")
	if err := os.Symlink(exe, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{exe, link} {
		if got := dirOf(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if got := dirOf(filepath.Join(root, "none")); got != "" {
		t.Errorf("of no file: %q", got)
	}
}
