package tui_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/tui"
	"github.com/lathe-llm/lathe/tui/tuitest/record"
	"github.com/lathe-llm/lathe/tui/tuitest/terminal"
)

// A session is the real program in an emulated terminal, driven by what is on the screen.
type session struct {
	t    testing.TB
	term *terminal.Terminal
	cast *record.Cast
	mu   sync.Mutex
	done chan error
}

// start runs a program in a terminal of w × h cells.
func start(t testing.TB, w, h int, run func(term *terminal.Terminal) error) *session {
	t.Helper()
	s := &session{t: t, cast: record.NewCast(w, h, "lathe"), done: make(chan error, 1)}
	term, err := terminal.New(w, h, func(at time.Time, output []byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cast.Output(at, output)
	})
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	s.term = term
	t.Cleanup(func() { _ = term.Close() })
	go func() { s.done <- run(term) }()
	return s
}

func (s *session) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// mark records how the movie shows the session from here on.
func (s *session) mark(mark string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cast.Mark(time.Now(), mark)
}

// lapse has so many frames of the movie show what follows, however long it takes.
func (s *session) lapse(frames int) { s.mark(fmt.Sprint(record.MarkLapse, frames)) }

func (s *session) press(keys ...string) { s.t.Helper(); s.must(s.term.Press(keys...)) }
func (s *session) see(text string)      { s.t.Helper(); s.must(s.term.See(text)) }

// write types text letter by letter, as a recording shows it.
func (s *session) write(text string) {
	s.t.Helper()
	s.must(s.term.Type(text))
}

func (s *session) wait(what string, done func(screen string) bool) {
	s.t.Helper()
	s.must(s.term.Wait(what, done))
}

// ended waits for the program to end well.
func (s *session) ended() {
	s.t.Helper()
	select {
	case err := <-s.done:
		s.must(err)
	case <-time.After(s.term.Patience):
		s.t.Fatalf("the program does not end; on the screen:\n%s", s.term.Screen())
	}
}

// fill goes through the entries of a form, named by their labels in order, and writes values into some.
func (s *session) fill(labels []string, values map[string]string) {
	s.t.Helper()
	for i, label := range labels {
		if i > 0 {
			s.press("tab")
		}
		s.see("▸ " + label)
		if v, ok := values[label]; ok {
			s.press("ctrl+u")
			s.write(v)
		}
	}
}

// matches waits until the screen matches a pattern.
func (s *session) matches(pattern string) {
	s.t.Helper()
	s.wait(pattern, regexp.MustCompile(pattern).MatchString)
}

// A scene is a moment of the walk that a still is taken of.
type scene func(name string)

// A plan is what a walk is to do.
type plan struct {
	search, reform map[string]string // values of the forms, by label
	folder         string            // the program's current one, which it exports to
	still          scene
}

// walk goes through everything once: search, pause, edit a mask, reform, chat, benchmark, export and quit. It works from
// the screen alone, so it is the same for the fake engine and for the real one.
func (s *session) walk(p plan) {
	s.see("space start")
	s.wait("the whole frame", func(screen string) bool {
		return strings.Contains(screen, ": commands") || strings.Contains(screen, "eval")
	})
	s.mark(record.MarkHold)
	s.press("space") // search
	s.see("ratio of block parameters to keep")
	s.mark(record.MarkHold)
	s.fill([]string{"target", "minutes", "strategy", "fitness", "text", "windows", "window tokens", "seed"}, p.search)
	s.press("enter")
	s.lapse(12)
	s.see("of block parameters")
	s.matches(`eval +\d+ .*cand/min`)
	s.lapse(20)
	s.matches(`eval +\d{3,} .*cand/min`)
	s.read()
	p.still("search")
	s.press("+") // the population alone
	s.see("of block parameters")
	s.mark(record.MarkHold)
	s.press("+", "space")
	s.see("space resume")

	s.press("m") // masks
	s.see("mlp channels")
	s.mark(record.MarkHold)
	for range 4 {
		s.press("down")
	}
	s.lapse(6)
	s.press("left")
	s.see("1 change")
	s.matches(`true \d+\.\d`)
	s.see("% off (n=")
	p.still("masks")
	s.press("z")
	s.wait("the change taken back", func(screen string) bool { return !strings.Contains(screen, "1 change") })
	s.press("Z")
	s.see("1 change")
	s.press("enter", "enter")
	s.see("by importance")
	s.mark(record.MarkHold)
	s.press("esc", "esc")
	s.press("w")
	s.see("save to the library")
	s.press("ctrl+u")
	s.write("by hand")
	s.press("enter")
	s.see("saved as by hand")

	s.press("6") // reform
	s.see("by hand")
	s.press("r")
	s.see("re-fit by hand")
	s.fill([]string{"re-fit", "reproduce", "lambda", "pull", "bias", "bridge", "tokens count by", "steps of W_U", "gradient steps", "name", "text", "windows", "window tokens"}, p.reform)
	s.press("enter")
	s.lapse(14)
	s.see("takes it back")
	s.read()
	p.still("reform")

	s.press("c") // chat
	s.see("write here")
	s.write("What is a lathe?")
	s.mark(record.MarkHold)
	s.press("enter")
	s.lapse(12)
	s.wait("two replies", func(screen string) bool {
		return strings.Contains(screen, "agreement") && strings.Contains(screen, " tok/s")
	})
	s.see("esc other keys") // both have ended
	p.still("chat")
	s.press("esc")
	s.mark(record.MarkSkip)

	s.press("6", "home", "b") // bench
	s.see("prompt tokens")
	s.fill([]string{"prompt tokens", "generate", "depth", "repeats"}, map[string]string{"prompt tokens": "64, 256", "generate": "16", "repeats": "3"})
	s.press("enter")
	s.see("the benchmark is done")
	s.wait("a line in words", func(screen string) bool {
		return strings.Contains(screen, "× faster") || strings.Contains(screen, "× slower") || strings.Contains(screen, "no difference")
	})
	s.read()
	p.still("bench")

	s.press("6", "home", "p") // a measurement, then export
	s.see("the perplexity of by hand re-fitted is")
	s.read()
	s.press("e")
	s.see("as Q4_1")
	s.press("tab", "tab", "ctrl+u")
	s.write("small.gguf")
	s.press("enter")
	s.wait("the file", func(string) bool {
		info, err := os.Stat(filepath.Join(p.folder, "small.gguf"))
		return err == nil && info.Size() > 0
	})
	s.see("wrote small.gguf")
	p.still("library")
	s.mark(record.MarkSkip)
	s.quit()
}

// read dismisses the messages on the screen.
func (s *session) read() {
	s.t.Helper()
	s.wait("the messages to go", func(screen string) bool {
		if !strings.Contains(screen, "esc dismiss") {
			return true
		}
		_ = s.term.Press("esc")
		return false
	})
}

// quit leaves, whatever runs.
func (s *session) quit() {
	s.t.Helper()
	s.press("q")
	s.wait("the end", func(screen string) bool {
		if strings.Contains(screen, "This stops: ") || strings.Contains(screen, "No job runs any more") {
			_ = s.term.Press("y")
		}
		select {
		case err := <-s.done:
			s.done <- err
			return true
		default:
			return false
		}
	})
	s.ended()
}

// revisit opens the same workspace again and looks for what was made.
func (s *session) revisit() {
	s.see("1 Search")
	s.press("6")
	s.see("by hand")
	s.press("2")
	s.see("saved as by hand")
	s.press("4")
	s.see("agreement") // a long reply leaves no room for what was asked
	s.press("5")
	s.see("dense")
	s.quit()
}

// stills writes drawings of screens into a folder, "" for none, and has the movie show them.
func (s *session) stills(dir string) scene {
	return func(name string) {
		s.mark(record.MarkHold)
		if dir == "" {
			return
		}
		f, err := os.Create(filepath.Join(dir, name+".svg"))
		s.must(err)
		s.must(errors.Join(record.SVG(f, s.term, "lathe, "+name, record.Dark()), f.Close()))
	}
}

// fakeProgram runs the interface over the fake engine.
func fakeProgram(t *testing.T, workspace string) func(term *terminal.Terminal) error {
	b := explorertest.New()
	b.Pace = func(ctx context.Context, unit string) error { // slow enough to be seen and stopped
		if unit != "candidates" {
			return ctx.Err()
		}
		select {
		case <-time.After(20 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return func(term *terminal.Terminal) error {
		e, err := explorer.Open(t.Context(), explorer.Options{Model: "models/SmolLM2-135M-Instruct.Q4_1.gguf", Workspace: workspace, Backend: b, Now: b.Clock.Now, Scratch: t.TempDir(),
			MeasureDraft: &explorer.Measure{Seq: 1024, Windows: 2}})
		if err != nil {
			return err
		}
		o := tui.Options{Actor: explorertest.Owner, Input: term.TTY, Output: term.TTY, Environ: term.Environ(), Files: true, Tour: true}
		return errors.Join(tui.Run(t.Context(), e, o), e.Close())
	}
}

// TestSession does the walk with the fake engine.
func TestSession(t *testing.T) {
	workspace, folder := t.TempDir(), t.TempDir()
	t.Chdir(folder)
	s := start(t, 120, 40, fakeProgram(t, workspace))
	s.see("welcome")
	s.press("esc")
	s.see("space start")
	s.press("S") // the program gathers statistics by itself; here it is asked to
	s.see("Runs the calibration text")
	s.press("enter")
	s.see("statistics are gathered")
	s.press("esc")
	s.walk(plan{folder: folder, still: func(string) {}})
	start(t, 80, 24, fakeProgram(t, workspace)).revisit()
}

func TestResizing(t *testing.T) {
	s := start(t, 80, 24, fakeProgram(t, t.TempDir()))
	s.see("1 Search")
	for _, size := range [][2]int{{120, 40}, {60, 18}, {20, 4}, {200, 60}} {
		s.must(s.term.Resize(size[0], size[1]))
		want := "6 Library"
		if size[0] < 40 {
			want = "too small"
		}
		s.wait(fmt.Sprintf("a frame of %d×%d", size[0], size[1]), func(screen string) bool {
			rows := strings.Split(screen, "\n")
			return strings.Contains(screen, want) && len(rows) == size[1] && (want != "6 Library" || rows[size[1]-1] != "")
		})
	}
	s.press("esc", "q")
	s.ended()
}

// TestRealSession does the walk on the default model, with the program as it is built. With LATHE_RECORD it also renews
// docs/session.cast, the movie of it, and a still of each screen beside them, which the README shows:
//
//	LATHE_SLOW=1 LATHE_RECORD=1 go test ./tui -run TestRealSession -timeout 60m
func TestRealSession(t *testing.T) {
	slow(t)
	program := realProgram(t)
	docs := ""
	if os.Getenv("LATHE_RECORD") != "" {
		docs = "docs"
	}
	const patience = 10 * time.Minute
	s := start(t, 120, 40, program.run)
	s.term.Patience = patience
	short := map[string]string{"windows": "6", "window tokens": "512"} // little text: minutes, and all there is to see
	s.walk(plan{search: short, reform: short, folder: program.folder, still: s.stills(docs)})
	if docs != "" {
		var whole bytes.Buffer
		s.mu.Lock()
		_, err := s.cast.WriteTo(&whole)
		s.mu.Unlock()
		s.must(err)
		f, err := os.Create(filepath.Join(docs, "session.cast"))
		s.must(err)
		s.must(errors.Join(record.Condense(f, &whole), f.Close()))
		for name, drawing := range movies() {
			s.must(os.WriteFile(filepath.Join(docs, name), drawn(t, drawing), 0o644))
		}
	}
	s = start(t, 80, 24, program.run)
	s.term.Patience = patience
	s.revisit()
}

// movies are the drawings of docs/session.cast, by the names of their files.
func movies() map[string]func(io.Writer, io.Reader, record.Look) error {
	return map[string]func(io.Writer, io.Reader, record.Look) error{"session.svg": record.Movie, "session.gif": record.GIF}
}

// drawn draws docs/session.cast.
func drawn(t *testing.T, draw func(io.Writer, io.Reader, record.Look) error) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("docs", "session.cast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b bytes.Buffer
	if err := draw(&b, f, record.Dark()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestMovie compares docs/session.svg and docs/session.gif with the recorded session.
func TestMovie(t *testing.T) {
	for name, draw := range movies() {
		path := filepath.Join("docs", name)
		want := drawn(t, draw)
		if f := flag.Lookup("update"); f.Value.String() == "true" {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not drawn from the recorded session; run go test ./tui -run TestMovie -update", path)
		}
		if len(got) > 3<<19 {
			t.Errorf("%s has %d bytes, too many for a page", path, len(got))
		}
	}
}
