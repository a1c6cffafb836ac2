//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKilledLocalWorkers kills worker processes of a search by SIGKILL, again and again. It ends as one without workers.
func TestKilledLocalWorkers(t *testing.T) {
	m := newTeam(t)
	want := lastLine(m.output(m.command("alone", m.shortSearch("0.7")...)))
	with := m.command("with", m.shortSearch("0.7", "--workers", "2")...)
	var out, words bytes.Buffer
	with.Stdout, with.Stderr = &out, &words
	if err := with.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- with.Wait() }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for kills, running := 0, true; running; {
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the search: %v: %s", err, &words)
			}
			if running = false; kills == 0 {
				t.Error("no worker was killed")
			}
		case <-tick.C:
			for _, pid := range workersOf(with.Process.Pid) {
				if kills < 3 {
					kills++
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}
	}
	if got := lastLine(strings.TrimSpace(out.String())); got != want || !strings.Contains(want, `"event":"end"`) {
		t.Errorf("the search with workers ends with\n%s\nand without\n%s", got, want)
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
