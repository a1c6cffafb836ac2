package tui

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// exporting is a loop on Library whose program runs in an empty folder. pace may be nil.
func exporting(t *testing.T, pace func(context.Context, string) error) (*loop, string) {
	t.Helper()
	folder := t.TempDir()
	t.Chdir(folder)
	b := explorertest.New()
	b.Pace = pace
	l := newLoopOver(t, explorertest.Filled(t, b), b, 120, 40, func(o *Options) { o.Folder = folder })
	l.press("esc", "6")
	return l, folder
}

// read returns the content of a file.
func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// exportTo exports the subnet under the cursor to a path.
func (l *loop) exportTo(path string) {
	l.press("e", "tab", "tab")
	l.write(path)
	l.press("enter")
}

// TestExportAsksBeforeItReplaces exports twice under one name: the first file stays until the question is answered with yes.
func TestExportAsksBeforeItReplaces(t *testing.T) {
	l, folder := exporting(t, nil)
	file := filepath.Join(folder, "mine.gguf")
	if err := os.WriteFile(file, []byte("a day of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.exportTo("mine")
	l.sees("replace it")
	if !strings.Contains(l.screen(), "mine.gguf, 13 B of") {
		t.Errorf("the question does not describe the file:\n%s", l.screen())
	}
	l.press("esc")
	if got := read(t, file); got != "a day of work" {
		t.Fatalf("the file was replaced without consent by %q", got)
	}
	l.press("enter") // the form is still open
	l.sees("replace it")
	l.press("enter")
	if got := read(t, file); got != "a day of work" || !strings.Contains(l.screen(), "replace it") {
		t.Fatalf("enter alone replaced the file by %q", got)
	}
	l.press("y")
	l.sees("wrote mine.gguf (")
	l.sees(" in " + folder)
	if got := read(t, file); got == "a day of work" {
		t.Error("the file was not replaced after consent")
	}
}

// TestExportSuggestsNames checks that files of different types and kinds are offered under different names, until a name is typed.
func TestExportSuggestsNames(t *testing.T) {
	l, _ := exporting(t, nil)
	place := regexp.MustCompile(`│[ ▸]+to +(\S+)`)
	at := func() string {
		m := place.FindStringSubmatch(l.screen())
		if m == nil {
			t.Fatalf("no place in the form:\n%s", l.screen())
		}
		return m[1]
	}
	l.press("e")
	plain := at()
	l.press("tab", "Q")
	typed := at()
	if !strings.HasSuffix(plain, ".gguf") || plain == typed || !strings.Contains(typed, "-Q") || !strings.HasSuffix(typed, ".gguf") {
		t.Errorf("as the source %q, as a Q type %q", plain, typed)
	}
	l.press("up", "right") // a folder
	if got := at(); strings.Contains(got, ".gguf") {
		t.Errorf("a folder is offered as %q", got)
	}
	l.press("left", "down", "down")
	l.write("own")
	l.press("up", "right", "up", "down")
	if got := at(); got != "own" {
		t.Errorf("the typed name became %q", got)
	}
}

// TestExportRefusesPlaces enters a folder that does not exist, and the file of a job that waits: the form stays with the reason.
func TestExportRefusesPlaces(t *testing.T) {
	var held atomic.Bool
	release := make(chan struct{})
	l, folder := exporting(t, func(ctx context.Context, _ string) error {
		if held.Load() {
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return ctx.Err()
	})
	l.exportTo("/no/such/folder/x")
	l.sees("there is no folder /no/such/folder")
	if n := len(l.m.overlays); n != 1 {
		t.Errorf("%d boxes are open, not the form", n)
	}
	l.press("esc")

	held.Store(true)
	if _, err := l.ex.Do(t.Context(), explorertest.Owner, explorer.StartBench{Settings: explorer.BenchSettings{Subnets: []explorer.SubnetID{explorer.DenseID}}}); err != nil {
		t.Fatal(err)
	}
	l.until("the benchmark to run", func() bool { return l.m.busy() })
	l.exportTo("x")
	l.sees("x.gguf waits for benchmark")
	if strings.Contains(l.screen(), "writing") {
		t.Errorf("a job that waits is reported as writing:\n%s", l.screen())
	}
	l.press("esc")
	l.exportTo("x")
	l.sees("is written by another job")
	l.press("esc")
	close(release)
	l.sees("wrote x.gguf (")
	l.sees(" in " + folder)
}

// TestTextExportAsksBeforeItReplaces writes the table of a benchmark over a file.
func TestTextExportAsksBeforeItReplaces(t *testing.T) {
	l, folder := exporting(t, nil)
	file := filepath.Join(folder, "bench.csv")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.press("5", "w")
	l.write("csv")
	l.press("enter", "down", "enter")
	l.send(tea.PasteMsg{Content: file})
	l.press("enter")
	l.sees("replace it")
	l.press("n")
	if got := read(t, file); got != "kept" {
		t.Fatalf("the file was replaced without consent by %q", got)
	}
	l.press("enter")
	l.sees("replace it")
	l.press("y")
	l.sees("wrote bench.csv (")
	l.sees(" in " + folder)
	if got := read(t, file); !strings.Contains(got, "tokens_per_second") {
		t.Errorf("the file holds %q", got)
	}
}
