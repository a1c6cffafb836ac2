package tui_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/tui/tuitest/terminal"
)

// A program is lathe as it is built, on the default model, with a workspace that the statistics are in.
type program struct {
	t              testing.TB
	bin, workspace string
	folder         string // the current one
	model          string
	pid            chan int // of the process, once it runs
}

// realProgram builds the program and gathers statistics, which take minutes in which there is nothing to see.
func realProgram(t testing.TB) *program {
	t.Helper()
	model := filepath.Join(os.Getenv("LATHE_CACHE"), "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	if _, err := os.Stat(model); err != nil {
		t.Skipf("the default model is not there (make setup fetches it): %v", err)
	}
	p := &program{t: t, bin: filepath.Join(t.TempDir(), "lathe"), workspace: t.TempDir(), folder: t.TempDir(), model: model, pid: make(chan int, 1)}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", p.bin, "../tui/lathe").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), p.bin, "masks", "show", "--estimate", "--workspace", p.workspace, model).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return p
}

// run runs the program in a terminal, in a session of its own.
func (p *program) run(term *terminal.Terminal) error {
	cmd := exec.CommandContext(p.t.Context(), p.bin, "--workspace", p.workspace, p.model)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.TTY, term.TTY, term.TTY
	cmd.Dir = p.folder
	cmd.Env = append(append(os.Environ(), "USER=ada"), term.Environ()...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	select {
	case p.pid <- cmd.Process.Pid:
	default:
	}
	return cmd.Wait()
}

// slow skips what takes minutes unless it is asked for.
func slow(t testing.TB) {
	t.Helper()
	if os.Getenv("LATHE_SLOW") == "" {
		t.Skip("LATHE_SLOW is not set")
	}
}

// screens are what is on each screen only, in the order of their keys from 1.
func screens() []string {
	return []string{" population ", " layers ", " error of each block ", " prompt ", " speed and memory", " size and perplexity "}
}

// BenchmarkKeyToFrame measures how long the program takes from a key to the frame that shows what it did, as a terminal sees
// it, while a search computes on all cores.
//
//	LATHE_SLOW=1 go test ./tui -run xxx -bench KeyToFrame -benchtime 200x
func BenchmarkKeyToFrame(b *testing.B) {
	slow(b)
	s := start(b, 120, 40, realProgram(b).run)
	s.term.Patience = 10 * time.Minute
	s.search("60")
	shows := screens()
	var took []time.Duration
	for i := 1; b.Loop(); i++ {
		to := i % len(shows)
		at := time.Now()
		s.press(strconv.Itoa(to + 1))
		s.see(shows[to])
		took = append(took, time.Since(at))
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	for _, p := range []int{50, 95, 100} {
		at := took[min(len(took)*p/100, len(took)-1)]
		b.ReportMetric(float64(at.Microseconds())/1000, fmt.Sprintf("ms-p%d", p))
	}
	s.quit()
}

// search starts a search of so many minutes on little text and waits until it scores candidates.
func (s *session) search(minutes string) {
	s.t.Helper()
	s.see("space start")
	s.press("space")
	s.fill([]string{"target", "minutes", "strategy", "fitness", "text", "windows", "window tokens"}, map[string]string{"minutes": minutes, "windows": "6", "window tokens": "512"})
	s.press("enter")
	s.matches(`eval +\d+ .*cand/min`)
}

// BenchmarkIdle measures how much of a core the program uses, its engines included, while it is idle: on each
// screen, for ten seconds at a time.
//
//	LATHE_SLOW=1 go test ./tui -run xxx -bench Idle -benchtime 3x
func BenchmarkIdle(b *testing.B) {
	slow(b)
	p := realProgram(b)
	s := start(b, 120, 40, p.run)
	s.term.Patience = 10 * time.Minute
	s.see("space start")
	s.wait("nothing to run", func(screen string) bool {
		return !regexp.MustCompile(`left|%`).MatchString(strings.SplitN(screen, "\n", 2)[0])
	})
	pid := <-p.pid
	for i, shows := range screens() {
		key := strconv.Itoa(i + 1)
		b.Run("screen "+key, func(b *testing.B) {
			s.press(key)
			s.see(shows)
			before, since := processorTime(b, pid), time.Now()
			for b.Loop() {
				<-time.After(10 * time.Second)
			}
			used := processorTime(b, pid) - before
			b.ReportMetric(100*used.Seconds()/time.Since(since).Seconds(), "%-of-a-core")
		})
	}
	s.quit()
}

// processorTime is what the processes of a session have used of processors, from Linux' table of processes.
func processorTime(b *testing.B, session int) time.Duration {
	b.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		b.Skip("there is no table of processes here")
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every machine that Go runs on
	var sum time.Duration
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(data), ") ") // behind the name, which may hold blanks
		f := strings.Fields(rest)
		if len(f) < 13 || f[3] != strconv.Itoa(session) {
			continue
		}
		for _, v := range f[11:13] { // in user and in kernel mode
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			sum += time.Duration(n) * tick
		}
	}
	return sum
}
