package tui_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lathe-llm/lathe/tui/tuitest/terminal"
)

// BenchmarkFirstStart measures how long somebody waits who starts the program for the first time on the default model: in a terminal,
// with a workspace and a cache in which there is nothing but the model, the texts and the plug-in that cuts compute with. Each figure is of a start of its own, from the
// start of the process: the first frame, the ranking of units by their weights that ←→ on Masks works with, the first word of a reply,
// and a subnet cut and re-fitted by o on Search as the form is filled in. "warm" has the files in the page cache; before "cold" they are
// dropped from it.
//
//	LATHE_SLOW=1 go test ./tui -run xxx -bench FirstStart -benchtime 1x -timeout 60m
func BenchmarkFirstStart(b *testing.B) {
	slow(b)
	cache := os.Getenv("LATHE_CACHE")
	model := filepath.Join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	if _, err := os.Stat(model); err != nil {
		b.Skipf("the default model is not there (make setup fetches it): %v", err)
	}
	bin := filepath.Join(b.TempDir(), "lathe")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", bin, "../tui/lathe").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for _, way := range []string{"cold", "warm"} {
		for _, until := range firsts() {
			b.Run(way+"/"+until.name, func(b *testing.B) {
				var took time.Duration
				for b.Loop() {
					if way == "cold" {
						drop(b, bin, cache)
					} else {
						read(b, bin, cache)
					}
					took += until.measure(b, bin, cache)
				}
				b.ReportMetric(took.Seconds()/float64(b.N), "s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// A first is something that a person waits for after the first start.
type first struct {
	name string
	do   func(s *session)
}

func firsts() []first {
	return []first{
		{"frame", func(s *session) { s.see("1 Search") }},
		{"ranking", func(s *session) {
			s.see("1 Search")
			s.press("esc", "2")
			s.see("mlp channels")
			s.wait("a step of the draft", func(screen string) bool { // refused until units are ranked
				if strings.Contains(screen, "1 change") {
					return true
				}
				_ = s.term.Press("left")
				return false
			})
		}},
		{"chat", func(s *session) {
			s.see("1 Search")
			s.press("esc", "4", "enter")
			s.see("write here")
			s.write("What is the moon?")
			s.press("enter")
			s.matches(`\d tok/s`)
		}},
		{"cut", func(s *session) {
			s.see("1 Search")
			s.press("esc", "o")
			s.see("window tokens") // of the form
			s.press("enter")
			s.matches(`is made: ratio 0\.\d+`)
		}},
	}
}

// measure starts the program as for the first time.
func (f first) measure(b *testing.B, bin, cache string) time.Duration {
	b.Helper()
	fresh := b.TempDir()
	for _, part := range []string{"models", "text", "xla"} {
		if err := os.Symlink(filepath.Join(cache, part), filepath.Join(fresh, part)); err != nil {
			b.Fatal(err)
		}
	}
	ctx, end := context.WithCancel(b.Context())
	defer end()
	s := start(b, 120, 40, func(term *terminal.Terminal) error {
		cmd := exec.CommandContext(ctx, bin)
		cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
		cmd.Stdin, cmd.Stdout, cmd.Stderr = term.TTY, term.TTY, term.TTY
		cmd.Dir = fresh
		cmd.Env = append(append(os.Environ(), "USER=ada", "LATHE_CACHE="+fresh, "LATHE_WORKSPACES="+filepath.Join(fresh, "workspaces")), term.Environ()...)
		cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
		return cmd.Run()
	})
	s.term.Patience = 20 * time.Minute
	began := time.Now()
	f.do(s)
	took := time.Since(began)
	end()
	<-s.done // however it ends
	return took
}

// files are what the program reads at its start.
func files(b *testing.B, bin, cache string) []string {
	b.Helper()
	all := []string{bin}
	for _, pattern := range []string{"models/*.gguf", "text/*"} {
		found, err := filepath.Glob(filepath.Join(cache, pattern))
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

// drop drops files from the page cache.
func drop(b *testing.B, bin, cache string) {
	b.Helper()
	for _, path := range files(b, bin, cache) {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		err = unix.Fdatasync(int(f.Fd())) // pages that are not written stay
		if failed := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err == nil {
			err = failed
		}
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			b.Fatal(fmt.Errorf("%s: %w", path, err))
		}
	}
}

// read reads files into the page cache.
func read(b *testing.B, bin, cache string) {
	b.Helper()
	for _, path := range files(b, bin, cache) {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, f); err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
