//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKilledLocalWorkers kills worker processes of commands by SIGKILL, again and again: of a search while it makes levels, measures sensitivities and
// scores candidates, of statistics, and of measurements. They end as those without workers.
func TestKilledLocalWorkers(t *testing.T) {
	m := newTeam(t)
	text := []string{"--seq", "32", "--windows", "4", "--text", m.path("cache", "text", "wiki.utf8")}
	for _, of := range []struct {
		name, workspace string
		args            []string
		want            string // part of the last line
	}{
		{"search", "", m.shortSearch("0.7"), `"event":"end"`},
		{"statistics", "", append([]string{"statistics", m.model}, text...), `"layers":[{`},
		{"eval", "alone-search", []string{"eval", m.model, "--seq", "32", "--text", m.path("cache", "text", "wiki.utf8"), "--subnet", "dense", "--subnet", "s1"}, `"subnets":[{`},
	} {
		alone, with := "alone-"+of.name, "with-"+of.name
		if of.workspace != "" {
			alone, with = of.workspace, of.workspace
		}
		want := untimed(lastLine(m.output(m.command(alone, of.args...))))
		got, kills := m.killing(m.command(with, append(of.args, "--workers", "2")...))
		if untimed(lastLine(got)) != want || !strings.Contains(want, of.want) {
			t.Errorf("%s with workers, %d of which were killed, ends with\n%s\nand without\n%s", of.name, kills, got, want)
		}
		if kills == 0 {
			t.Errorf("%s: no worker was killed", of.name)
		}
	}
}

// untimed removes durations from a line of JSON.
func untimed(line string) string {
	return regexp.MustCompile(`,"[Ss]econds":[0-9.e+-]+`).ReplaceAllString(line, "")
}

// killing runs a command, kills three of its worker processes one after another, and returns its output.
func (m *team) killing(cmd *exec.Cmd) (string, int) {
	m.t.Helper()
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for kills := 0; ; {
		select {
		case err := <-ended:
			if err != nil {
				m.t.Errorf("%v: %v: %s", cmd.Args, err, &words)
			}
			return strings.TrimSpace(out.String()), kills
		case <-tick.C:
			for _, pid := range workersOf(cmd.Process.Pid) {
				if kills < 3 {
					kills++
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}
	}
}

// TestKilledCommandsWithWorkers kills a search and the gathering of statistics, with their workers, once something that was made is on the disk,
// and runs them again. They continue with that, and end as those that were not killed and had no workers. No worker outlives its command.
func TestKilledCommandsWithWorkers(t *testing.T) {
	m := newTeam(t)
	for _, of := range []struct {
		name, made    string // a file that is made in turn
		args, resumed []string
	}{
		{"search", "search/levels/*.levels", m.shortSearch("0.7"), []string{"search", m.model, "--resume"}},
		{"statistics", "statistics/*/layer-*.json", []string{"statistics", m.model, "--seq", "32", "--windows", "4", "--text", m.path("cache", "text", "wiki.utf8")}, nil},
	} {
		want := lastLine(m.output(m.command("whole-"+of.name, of.args...)))
		killed := m.command("killed-"+of.name, append(of.args, "--workers", "2")...)
		if err := killed.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- killed.Wait() }()
		tick := time.NewTicker(10 * time.Millisecond)
		var workers []int
		for there := false; !there; {
			select {
			case err := <-ended:
				t.Fatalf("%s ended before it could be killed: %v", of.name, err)
			case <-tick.C:
				files, err := filepath.Glob(m.path("killed-"+of.name, of.made))
				if err != nil {
					t.Fatal(err)
				}
				workers = workersOf(killed.Process.Pid)
				there = len(files) > 0 && len(workers) == 2
			}
		}
		if err := killed.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-ended
		for alive := true; alive; { // they end with their standard input
			<-tick.C
			alive = false
			for _, pid := range workers {
				if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(stat), ") Z ") {
					alive = true
				}
			}
		}
		tick.Stop()
		again := of.resumed
		if again == nil {
			again = of.args
		}
		if got := lastLine(m.output(m.command("killed-"+of.name, append(again, "--workers", "2")...))); got != want {
			t.Errorf("%s, killed and run again, ends with\n%s\nand at once without workers\n%s", of.name, got, want)
		}
	}
}

// TestEightWorkers runs one search with one worker process and with eight: the last lines are equal, masks and all, and equal to that without workers.
func TestEightWorkers(t *testing.T) {
	m := newTeam(t)
	args := append(m.shortSearch("0.7"), "--seed", "3")
	want := lastLine(m.output(m.command("alone", args...)))
	for _, n := range []int{1, 8} {
		cmd := m.command(fmt.Sprint("with-", n), append(args, "--workers", fmt.Sprint(n))...)
		var out, words bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &words
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		tick := time.NewTicker(100 * time.Millisecond)
		seen := map[int]bool{}
		var err error
		for running := true; running; {
			select {
			case err = <-ended:
				running = false
			case <-tick.C:
				for _, pid := range workersOf(cmd.Process.Pid) {
					seen[pid] = true
				}
			}
		}
		tick.Stop()
		if got := lastLine(strings.TrimSpace(out.String())); err != nil || got != want || !strings.Contains(want, `"event":"end"`) {
			t.Errorf("%d workers: %v: %s: the search ends with\n%s\nand without workers with\n%s", n, err, &words, got, want)
		}
		if len(seen) != n || strings.Contains(words.String(), "ended:") {
			t.Errorf("%d worker processes, not %d: %s", len(seen), n, &words)
		}
	}
}

// workersOf returns the child processes of a process that are workers.
func workersOf(parent int) []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var out []int
	for _, dir := range dirs {
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue
		}
		command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[1] != strconv.Itoa(parent) || !strings.Contains(string(command), "\x00worker\x00") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			out = append(out, pid)
		}
	}
	return out
}
