package durable_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/lathe-llm/lathe/infer/durable"
)

// content returns the content of a file, or what is wrong with it.
func content(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// names lists a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// TestOrder checks at each step of a write what is on the disk: the whole content before the rename, and the rename before the
// sync of the directory.
func TestOrder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := durable.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	var steps []durable.Op
	disk := durable.Disk{Before: func(op durable.Op, of string) error {
		if of != path {
			t.Errorf("%s of %s", op, of)
		}
		steps = append(steps, op)
		temp := "none"
		for _, name := range names(t, dir) {
			if name != "file" {
				temp = content(filepath.Join(dir, name))
			}
		}
		want := map[durable.Op][2]string{
			durable.OpCreate: {"old", "none"}, durable.OpSync: {"old", "new content"}, durable.OpClose: {"old", "new content"},
			durable.OpRename: {"old", "new content"}, durable.OpSyncDir: {"new content", "none"},
		}
		if got := [2]string{content(path), temp}; op != durable.OpWrite && got != want[op] {
			t.Errorf("before %s: the file and the temporary file are %q, want %q", op, got, want[op])
		}
		return nil
	}}
	err := disk.Write(path, 0o600, func(w io.Writer) error {
		_, err := fmt.Fprint(w, "new")
		if err == nil {
			_, err = fmt.Fprint(w, " content")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []durable.Op{durable.OpCreate, durable.OpWrite, durable.OpWrite, durable.OpSync, durable.OpClose, durable.OpRename, durable.OpSyncDir}
	if !slices.Equal(steps, want) {
		t.Errorf("steps %v, want %v", steps, want)
	}
}

// TestFaults lets each step of each kind of write fail.
func TestFaults(t *testing.T) {
	fault := errors.New("the disk is broken")
	ofFile := []durable.Op{durable.OpCreate, durable.OpWrite, durable.OpSync, durable.OpClose, durable.OpRename, durable.OpSyncDir}
	writes := map[string]struct {
		steps []durable.Op
		write func(d durable.Disk, path string) error
	}{
		"WriteFile": {ofFile, func(d durable.Disk, path string) error { return d.WriteFile(path, []byte("new"), 0o600) }},
		"Write through a wrapped error": {ofFile, func(d durable.Disk, path string) error {
			return d.Write(path, 0o600, func(w io.Writer) error {
				if _, err := w.Write([]byte("new")); err != nil {
					return fmt.Errorf("part 1: %w", err)
				}
				return nil
			})
		}},
		"Rename": {[]durable.Op{durable.OpRename, durable.OpSyncDir}, func(d durable.Disk, path string) error {
			from := filepath.Join(filepath.Dir(path), "from")
			if err := os.WriteFile(from, []byte("new"), 0o600); err != nil {
				return err
			}
			err := d.Rename(from, path)
			return errors.Join(err, os.RemoveAll(from))
		}},
	}
	for name, w := range writes {
		for _, op := range w.steps {
			t.Run(name+"/"+string(op), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "file")
				if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
					t.Fatal(err)
				}
				err := w.write(durable.Disk{Before: func(at durable.Op, _ string) error {
					if at != op {
						return nil
					}
					return &fs.PathError{Op: "test", Path: "/hidden", Err: fault}
				}}, path)
				if !errors.Is(err, fault) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hidden") {
					t.Errorf("error %v", err)
				}
				want := "old"
				if op == durable.OpSyncDir {
					want = "new"
				}
				if got := content(path); got != want {
					t.Errorf("the file holds %q, want %q", got, want)
				}
				if left := names(t, filepath.Dir(path)); len(left) != 1 {
					t.Errorf("left behind: %v", left)
				}
			})
		}
	}
}

// TestFullDisk checks the error of a real device that is full.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full")
	}
	defer func() { _ = full.Close() }()
	path := filepath.Join(t.TempDir(), "file")
	err = durable.Write(path, 0o600, func(io.Writer) error {
		_, err := full.WriteString("x")
		return err
	})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "/dev/full") {
		t.Errorf("error %v", err)
	}
}

// TestWriteFails checks that what write returns is the error, and that a panic in it leaves nothing behind either.
func TestWriteFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	cause := errors.New("nothing to write")
	if err := durable.Write(path, 0o600, func(io.Writer) error { return cause }); !errors.Is(err, cause) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = durable.Write(path, 0o600, func(io.Writer) error { panic("in the middle") })
	}()
	if left := names(t, filepath.Dir(path)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := durable.WriteFile(filepath.Join(filepath.Dir(path), "no", "directory"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("n", 255)) // as long as a name may be
	create := func(s string) *durable.File {
		t.Helper()
		f, err := durable.Create(path, 0o640)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
		return f
	}
	if err := create("discarded").Close(); err != nil || len(names(t, filepath.Dir(path))) != 0 {
		t.Errorf("Close: %v, left %v", err, names(t, filepath.Dir(path)))
	}
	first, second := create("first"), create("second")
	if err := first.CommitNew(); err != nil {
		t.Fatal(err)
	}
	if err := second.CommitNew(); !errors.Is(err, fs.ErrExist) || content(path) != "first" {
		t.Errorf("CommitNew over a file: %v; it holds %q", err, content(path))
	}
	if err := durable.WriteNew(path, []byte("new"), 0o640); !errors.Is(err, fs.ErrExist) || content(path) != "first" {
		t.Errorf("WriteNew over a file: %v; it holds %q", err, content(path))
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteNew(path, []byte("new"), 0o640); err != nil || content(path) != "new" {
		t.Errorf("WriteNew: %v; it holds %q", err, content(path))
	}
	third := create("third")
	if err := third.Commit(); err != nil || content(path) != "third" {
		t.Errorf("Commit over a file: %v; it holds %q", err, content(path))
	}
	if err := third.Close(); err != nil || content(path) != "third" {
		t.Errorf("Close after Commit: %v; the file holds %q", err, content(path))
	}
	if err := third.Commit(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Commit after Commit: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&^0o640 != 0 {
		t.Errorf("mode %v: %v", info.Mode(), err)
	}
	if left := names(t, filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// TestMkdirAll checks that the name of each new directory is forced to the disk, and no other.
func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	var synced []string
	disk := durable.Disk{Before: func(op durable.Op, path string) error {
		if op == durable.OpSyncDir {
			synced = append(synced, path)
		}
		return nil
	}}
	for range 2 {
		if err := disk.MkdirAll(filepath.Join(dir, "a", "b", "c"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{filepath.Join(dir, "a", "b", "c"), filepath.Join(dir, "a", "b"), filepath.Join(dir, "a")}
	if !slices.Equal(synced, want) {
		t.Errorf("synced %v, want %v", synced, want)
	}
	if err := durable.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := disk.MkdirAll(filepath.Join(dir, "file"), 0o755); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("MkdirAll at a file: %v", err)
	}
}

func TestSymlink(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "link")
	for _, target := range []string{"one", "two"} {
		if err := (durable.Disk{}).Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(path); got != target {
			t.Errorf("a link to %q, want %q: %v", got, target, err)
		}
	}
	fault := errors.New("fault")
	err := durable.Disk{Before: func(op durable.Op, _ string) error {
		if op == durable.OpRename {
			return fault
		}
		return nil
	}}.Symlink("three", path)
	if got, _ := os.Readlink(path); !errors.Is(err, fault) || got != "two" || len(names(t, dir)) != 1 {
		t.Errorf("after a fault: %v; a link to %q among %v", err, got, names(t, dir))
	}
}
