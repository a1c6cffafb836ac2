//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestCommandsReachARunningSearch steers a search of another process of the same user: commands that need the workspace run there.
func TestCommandsReachARunningSearch(t *testing.T) {
	m := newTeam(t)
	ws, err := os.MkdirTemp("", "lathe-ws") // sockets need short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(ws) })
	lathe := func(args ...string) (string, string, int) {
		return m.lathe(append(args, "--workspace", ws)...)
	}
	if _, words, status := lathe("cut", m.model, "--ratio", "0.9", "--name", "mine", "--windows", "1", "--seq", "64"); status != 0 {
		t.Fatal(words)
	}
	search := exec.CommandContext(t.Context(), "lathe", "search", m.model, "--target", "0.8", "--budget", "10m", "--windows", "2", "--seq", "64", "--strategy", "random", "--workspace", ws)
	var words bytes.Buffer
	search.Dir, search.Env, search.Stderr = m.dir, m.env, &words
	if err := search.Start(); err != nil {
		t.Fatal(err)
	}
	type live struct {
		Search *searchLine
		Jobs   []jobResult
	}
	state := func() (r live) {
		out, said, status := lathe("status", m.model, "--json")
		if status != 0 {
			t.Fatalf("status %d: %s", status, said)
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	until := func(what string, done func(live) bool) {
		for end := time.Now().Add(patience / 20); ; {
			s := state()
			if done(s) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("waiting for %s: %+v: %s", what, s, words.String())
			}
		}
	}
	until("the search", func(r live) bool { return r.Search != nil && len(r.Jobs) > 0 })
	for _, args := range [][]string{
		{"search", "pause", m.model}, {"search", "resume", m.model}, {"search", "retarget", "0.75", m.model}, {"search", "inject", "mine", m.model},
		{"subnets", "rename", "mine", "yours", m.model}, {"masks", "set", m.model, "--layers", "0", "--drop", "mlp"},
	} {
		if _, said, status := lathe(args...); status != 0 {
			t.Errorf("%v: status %d: %s", args, status, said)
		}
	}
	until("the new target", func(r live) bool { return r.Search != nil && r.Search.Share <= 0.75 })
	if _, said, status := lathe("search", "retarget", "7", m.model); status != exitUsage {
		t.Errorf("an impossible target: status %d: %s", status, said)
	}
	for _, args := range [][]string{{"cut", m.model, "--ratio", "7"}, {"bench", m.model, "--repeats", "-1"}, {"reform", m.model, "--windows", "-1"}} {
		if _, said, status := lathe(args...); status != exitUsage || strings.Contains(said, "held") {
			t.Errorf("%v: status %d: %s", args, status, said)
		}
	}
	m.write("lathe-masks nonsense", 0o644, "masks.txt")
	if _, said, status := lathe("masks", "set", m.model, "--file", "masks.txt"); status != exitInput || !strings.Contains(said, m.path("masks.txt")) {
		t.Errorf("a file of the client: status %d: %s", status, said)
	}
	if _, said, status := lathe("subnets", "import", "masks.txt", m.model); status != exitHeld || !strings.Contains(said, "held by process") {
		t.Errorf("a command that is not run elsewhere: status %d: %s", status, said)
	}
	// What computes is the other process's; a flag that asks for something else is refused by its name, one that agrees is not.
	for _, c := range []struct {
		status int
		args   []string
	}{
		{exitHeld, []string{"--compute", "xla"}}, {exitHeld, []string{"--gpu", "off"}}, {exitHeld, []string{"--engine", "llama-server"}}, {exitHeld, []string{"--spill", "1GB"}},
		{exitHeld, []string{"--weights", "1GB"}}, {exitOK, []string{"--compute", "auto"}}, {exitOK, []string{"--gpu", "auto"}}, {exitOK, []string{"--engine", "llama.cpp"}},
	} {
		_, said, status := lathe(append([]string{"search", "pause", m.model}, c.args...)...)
		if status != c.status || status == exitHeld && (!strings.Contains(said, c.args[0]+" ") || !strings.Contains(said, "leave the flag out")) {
			t.Errorf("%v: status %d: %s", c.args, status, said)
		}
	}
	if out, said, status := lathe("bench", m.model, "--gpu", "7", "--prompt", "8", "--generate", "2", "--repeats", "1"); status == 0 || !strings.Contains(said, "GPU") {
		t.Errorf("a benchmark with layers on a GPU that is not there: status %d: %s%s", status, out, said)
	}
	if out, said, status := lathe("search", "stop", m.model); status != 0 {
		t.Errorf("stop: status %d: %s%s", status, out, said)
	}
	_ = search.Wait() // it was stopped
	if out, _, _ := lathe("subnets", "list", m.model); !strings.Contains(out, "yours") {
		t.Errorf("the library has %s", out)
	}
}

func TestFullPaths(t *testing.T) {
	t.Chdir(t.TempDir())
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("a.txt", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"a.txt": dir + "/a.txt", "web=a.txt,wiki": "web=" + dir + "/a.txt,wiki", "dense": "dense", "": "",
	} {
		if got := fullPaths(text); got != want && text != "" {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestInterruptedSearchConfirms interrupts a search in the terminal: it confirms at once that it stops and what continues it, and the
// status names the search.
func TestInterruptedSearchConfirms(t *testing.T) {
	m := newTeam(t)
	ws := t.TempDir()
	search := exec.CommandContext(t.Context(), "lathe", "search", m.model, "--target", "0.8", "--budget", "10m", "--windows", "2", "--seq", "64", "--strategy", "random", "--workspace", ws)
	var words bytes.Buffer
	out, err := search.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	search.Args = append(search.Args, "--json")
	search.Dir, search.Env, search.Stderr = m.dir, m.env, &words
	if err := search.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	if !lines.Scan() { // of the first generation
		t.Fatal(words.String())
	}
	if err := search.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // to its end
	}
	_ = search.Wait()
	if status := search.ProcessState.ExitCode(); status != exitInterrupted || strings.Count(words.String(), "stopping the search; what it has found stays, and `lathe search --resume` continues it") != 1 {
		t.Errorf("status %d: %s", status, words.String())
	}
	if out, said, _ := m.lathe("status", m.model, "--workspace", ws); !strings.Contains(out, "last search") || !strings.Contains(out, "--resume continues it") {
		t.Errorf("the status has no search: %s%s", out, said)
	}
}
