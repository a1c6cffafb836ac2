//go:build unix

package scratch_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/scratch"
)

// TestMain lets the test's binary be another process, which creates in a folder what it does not remove, and waits.
func TestMain(m *testing.M) {
	dir := os.Getenv("SCRATCH_TEST")
	if dir == "" {
		os.Exit(m.Run())
	}
	for _, create := range []func() (*scratch.Folder, error){
		func() (*scratch.Folder, error) { return scratch.New(dir, "test") },
		func() (*scratch.Folder, error) { return scratch.Beside(filepath.Join(dir, "out")) },
	} {
		f, err := create()
		if err != nil {
			panic(err)
		}
		if err := os.WriteFile(f.Join("data"), make([]byte, 100), 0o600); err != nil {
			panic(err)
		}
	}
	if _, err := durable.Create(filepath.Join(dir, "file"), 0o600); err != nil {
		panic(err)
	}
	fmt.Println("created")
	select {}
}

// names lists a folder.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return strings.Join(list, " ")
}

// other starts the other process and waits until it has created its files.
func other(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SCRATCH_TEST="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return cmd
}

// sweeps are all that remove what killed processes left.
var sweeps = map[string]func(dir string) error{
	"New": func(dir string) error {
		f, err := scratch.New(dir, "again")
		if err != nil {
			return err
		}
		return f.Remove()
	},
	"Beside": func(dir string) error {
		f, err := scratch.Beside(filepath.Join(dir, "out"))
		if err != nil {
			return err
		}
		return f.Remove()
	},
	"Create": func(dir string) error {
		f, err := durable.Create(filepath.Join(dir, "other"), 0o600)
		if err != nil {
			return err
		}
		return f.Close()
	},
}

func TestLeftoversOfKilledProcessesAreRemoved(t *testing.T) {
	for name, sweep := range sweeps {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			killed := other(t, dir)
			if n := strings.Count(names(t, dir), " "); n != 2 {
				t.Fatalf("the process has created %s", names(t, dir))
			}
			_, _ = killed.Process.Kill(), killed.Wait()
			keep := []string{"lathe-notes", "lathe-test-0123456789abcdeg", ".new-notes"} // names that others may give
			for _, k := range keep {
				if err := os.Mkdir(filepath.Join(dir, k), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := sweep(dir); err != nil {
				t.Fatal(err)
			}
			if got, want := names(t, dir), ".new-notes lathe-notes lathe-test-0123456789abcdeg"; got != want {
				t.Errorf("the folder has %s, want %s", got, want)
			}
		})
	}
}

func TestFilesOfRunningProcessesStay(t *testing.T) {
	for name, sweep := range sweeps {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			other(t, dir)
			before := names(t, dir)
			if err := sweep(dir); err != nil {
				t.Fatal(err)
			}
			if after := names(t, dir); after != before {
				t.Errorf("of %s only %s are left", before, after)
			}
		})
	}
}
