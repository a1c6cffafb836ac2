//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/explorer"
)

// TestSearchOutlivesTheServer ends `lathe serve` in the middle of a search, by SIGTERM and by SIGKILL, starts it again on the
// same workspace, and compares what comes out with a search that nothing happened to.
func TestSearchOutlivesTheServer(t *testing.T) {
	m := newTeam(t)
	// begin starts a server and, when it has ended what it does by itself, a search on it.
	begin := func(m *team, workspace string) *served {
		m.t.Helper()
		s := m.serve(workspace)
		s.until("statistics", func(r statusResult) bool { return len(r.Jobs) == 0 })
		out, words, status := s.ssh("ed", "search", "start", "--target", "0.7", "--budget", "evals=600", "--seq", "32", "--windows", "4", "--json")
		if status != exitOK || !strings.Contains(out, `"kind":"search"`) {
			m.t.Fatalf("search start: status %d\n%s%s", status, out, words)
		}
		return s
	}
	under := func(generation int) func(statusResult) bool {
		return func(r statusResult) bool { return r.Search != nil && r.Search.Generation >= generation }
	}
	// found is what a search that is over has left in the library, without what is different every time.
	found := func(s *served) string {
		s.t.Helper()
		s.until("end of the search", func(r statusResult) bool { return r.Unfinished == nil && len(r.Jobs) == 0 })
		out, words, status := s.ssh("vera", "subnets", "list", "--json")
		var list struct{ Subnets []subnetResult }
		if err := json.Unmarshal([]byte(out), &list); status != exitOK || err != nil || len(list.Subnets) != 1 {
			s.t.Fatalf("subnets: status %d, %v\n%s%s%s", status, err, out, words, s.log)
		}
		n := list.Subnets[0]
		masks, words, status := s.ssh("vera", "masks", "show", "--subnet", n.ID, "--json")
		if status != exitOK {
			s.t.Fatalf("masks: status %d\n%s", status, words)
		}
		return fmt.Sprintf("by %s, %d tokens searched\n%s", n.Author, n.Method.Tokens, masks)
	}
	whole := begin(m, "whole")
	want := found(whole)
	if status := whole.end(syscall.SIGTERM); status != exitOK {
		t.Errorf("exit status %d\n%s", status, whole.log)
	}

	t.Run("SIGTERM", func(t *testing.T) {
		m := m.in(t)
		s := begin(m, "terminated")
		sent := s.watch("vera", "Search")
		before := s.until("generation", under(2))
		if status := s.end(syscall.SIGTERM); status != exitOK { // it is exitFailure after stopTime
			t.Errorf("exit status %d\n%s", status, s.log)
		}
		all := <-sent.sent
		for _, text := range []string{"running work is saved and resumes later", "\x1b[?1049l"} {
			if !strings.Contains(all, text) {
				t.Errorf("the terminal does not show %q", text)
			}
		}
		if _, err := os.Stat(m.path("terminated", "search", "checkpoint")); err != nil {
			t.Error(err)
		}
		out, _, _ := m.lathe("status", m.model, "--workspace", m.path("terminated"))
		if !strings.Contains(out, "a search at 0.70, started by ed") {
			t.Errorf("between the servers the status is\n%s", out)
		}
		again := m.serve("terminated")
		after := again.until("search", func(r statusResult) bool { return r.Search != nil })
		if after.Search.Generation < before.Search.Generation || after.Search.Evaluated < before.Search.Evaluated {
			t.Errorf("gone on at %+v after %+v", after.Search, before.Search)
		}
		if got := found(again); got != want {
			t.Errorf("ended and gone on, the search found\n%.400s\nnot\n%.400s", got, want)
		}
	})
	t.Run("SIGKILL", func(t *testing.T) {
		m := m.in(t)
		s := begin(m, "killed")
		s.until("generation", under(2))
		s.end(syscall.SIGKILL)
		s = m.serve("killed") // killed again, at the same work
		s.until("generation", under(3))
		s.end(syscall.SIGKILL)
		if got := found(m.serve("killed")); got != want {
			t.Errorf("killed and gone on, the search found\n%.400s\nnot\n%.400s", got, want)
		}
	})
}

// TestDefaultModelOutlivesTheServer ends servers of the default model while levels are made and while candidates are scored:
// each ends by itself within stopTime, and the next one resumes.
func TestDefaultModelOutlivesTheServer(t *testing.T) {
	if os.Getenv("LATHE_SLOW") == "" {
		t.Skip("takes minutes; set LATHE_SLOW=1 to run it")
	}
	m := newTeam(t)
	cache, err := (&app{getenv: os.Getenv}).inCache()
	if err != nil {
		t.Skip(err)
	}
	m.model = filepath.Join(cache, "models", defaultModel)
	if _, err := os.Stat(m.model); err != nil {
		t.Skipf("needs the default model: %v", err)
	}
	m.env = append(m.env, "LATHE_CACHE="+cache)
	s := m.serve("workspace")
	if _, words, status := s.ssh("ed", "search", "start", "--target", "0.8", "--budget", "evals=5000", "--windows", "4", "--seq", "512"); status != exitOK {
		t.Fatal(words)
	}
	var before statusResult
	for _, stage := range []struct {
		name   string
		signal syscall.Signal
		status int
		done   func(statusResult) bool
	}{
		{"levels", syscall.SIGTERM, exitOK, func(r statusResult) bool {
			return r.Search == nil && slices.ContainsFunc(r.Jobs, func(j jobResult) bool { return j.Kind == explorer.JobSearch && j.Fraction > 0.1 })
		}},
		{"first generation", syscall.SIGTERM, exitOK, func(r statusResult) bool { return r.Search != nil && r.Search.Generation >= 1 }},
		{"second generation", syscall.SIGKILL, -1, func(r statusResult) bool { return r.Search != nil && r.Search.Generation >= 2 }},
	} {
		r := s.until(stage.name, stage.done)
		if before.Search != nil && r.Search.Evaluated < before.Search.Evaluated {
			t.Errorf("%s: gone on at %+v after %+v", stage.name, r.Search, before.Search)
		}
		began := time.Now()
		if status := s.end(stage.signal); status != stage.status {
			t.Errorf("%s: exit status %d\n%s", stage.name, status, s.log)
		}
		t.Logf("%s: gone after %v", stage.name, time.Since(began).Round(time.Millisecond))
		before = r
		s = m.serve("workspace")
	}
	// A generation is shown a moment before its checkpoint is on the disk.
	r := s.until("search", func(r statusResult) bool { return r.Search != nil })
	if r.Search.Generation < before.Search.Generation-1 || r.Unfinished == nil || r.Unfinished.Author != "ed" {
		t.Errorf("killed in %+v, gone on at %+v, %+v", before.Search, r.Search, r.Unfinished)
	}
}

// TestSteeringNeedsAnEditor steers a running search over SSH: a viewer is refused each command, an editor is not.
func TestSteeringNeedsAnEditor(t *testing.T) {
	m := newTeam(t)
	s := m.serve("steered")
	if _, words, status := s.ssh("ed", "cut", "--ratio", "0.9", "--name", "mine", "--seq", "32", "--windows", "4"); status != exitOK {
		t.Fatalf("cut: status %d\n%s", status, words)
	}
	if _, words, status := s.ssh("ed", "search", "start", "--target", "0.7", "--budget", "10m", "--seq", "32", "--windows", "4", "--strategy", "random"); status != exitOK {
		t.Fatalf("search start: status %d\n%s", status, words)
	}
	s.until("the search", func(r statusResult) bool { return r.Search != nil && r.Search.Evaluated > 0 })
	args := map[string][]string{"search retarget": {"0.75"}, "search inject": {"mine"}, "search drain": {"local-1"}, "search prompt": {"Hello"}}
	left := runningSearch()
	for _, command := range []string{"search pause", "search resume", "search retarget", "search inject", "search drain", "search prompt", "search stop"} {
		left = slices.DeleteFunc(left, func(c string) bool { return c == command })
		line := append(strings.Fields(command), args[command]...)
		if _, words, status := s.ssh("vera", line...); status != exitUsage || !strings.Contains(words, "this needs the role editor") {
			t.Errorf("%s as a viewer: status %d\n%s", command, status, words)
		}
		_, words, status := s.ssh("ed", line...)
		if drain := command == "search drain"; drain && !strings.Contains(words, "not found") || !drain && status != exitOK { // this search has no workers
			t.Errorf("%s as an editor: status %d\n%s", command, status, words)
		}
	}
	if len(left) > 0 {
		t.Errorf("not tested: %q", left)
	}
}

// TestExportOverSSH brings a subnet home as a file and checks it there.
func TestExportOverSSH(t *testing.T) {
	m := newTeam(t)
	s := m.serve("workspace")
	s.until("statistics", func(r statusResult) bool { return len(r.Jobs) == 0 })
	if out, words, status := s.ssh("ed", "cut", "--ratio", "0.7", "--windows", "4", "--seq", "128", "--name", "thin"); status != exitOK {
		t.Fatalf("cut: status %d\n%s%s", status, out, words)
	}
	got, words, status := s.ssh("ed", "subnets", "export", "s1", "-o", "-", "--type", "F32")
	if status != exitOK || words != "" {
		t.Fatalf("export: status %d, %q", status, words)
	}
	m.write(got, 0o600, "home.gguf")
	out, words, status := m.lathe("verify", m.path("home.gguf"), m.model)
	if status != exitOK || strings.Contains(out, "failed") || !strings.Contains(out, "passed") {
		t.Errorf("verify: status %d\n%s%s", status, out, words)
	}

	for _, c := range []struct {
		who    string
		line   string
		status int
		words  string
	}{
		{"ed", "subnets export s9 -o -", exitUsage, "not found"},
		{"ed", "subnets export s1 -o - --type F17", exitUsage, "--type"},
		{"ed", "subnets export s1 -o - --json", exitUsage, "neither JSON nor a terminal"},
		{"ed", "subnets export s1 -o home.gguf", exitUsage, "cannot use"},
		{"ed", "subnets export s1", exitUsage, "-o FILE is missing"},
		{"vera", "subnets export s1 -o -", exitUsage, "this needs the role editor"},
		{"ed", "cut --ratio 0.7 --text wiki --windows 9999 --seq 2048 -o -", exitInput, "tokens"},
	} {
		out, words, status := s.ssh(c.who, strings.Fields(c.line)...)
		if status != c.status || out != "" || !strings.Contains(words, c.words) || strings.Count(words, "\n") != 1 {
			t.Errorf("%s: %s: status %d, %d bytes, %q", c.who, c.line, status, len(out), words)
		}
	}
	// A client that does not want all of it fails, and the next one gets it.
	session, err := s.connect("ed").NewSession()
	if err != nil {
		t.Fatal(err)
	}
	half, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start("subnets export s1 -o - --type F32"); err != nil {
		t.Fatal(err)
	}
	if _, err := half.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = session.Close()
	again, _, status := s.ssh("ed", "subnets", "export", "thin", "-o", "-", "--type", "F32")
	if status != exitOK || again != got {
		t.Errorf("again: status %d, %d bytes, %d the first time", status, len(again), len(got))
	}
	if status := s.end(syscall.SIGTERM); status != exitOK {
		t.Errorf("exit status %d\n%s", status, s.log)
	}
	// What the server sent is what is written on its machine.
	if out, words, status := m.lathe("subnets", "export", "s1", m.model, "--workspace", m.path("workspace"), "-o", m.path("here.gguf"), "--type", "F32"); status != exitOK {
		t.Fatalf("export here: status %d\n%s%s", status, out, words)
	}
	here, err := os.ReadFile(m.path("here.gguf"))
	if err != nil || !bytes.Equal(here, []byte(got)) {
		t.Errorf("%d bytes came through, %d were written, %v", len(got), len(here), err)
	}
	left, err := os.ReadDir(m.path("workspace", "scratch"))
	if err == nil && len(left) > 0 {
		t.Errorf("left in the scratch folder: %v", left)
	}
}
