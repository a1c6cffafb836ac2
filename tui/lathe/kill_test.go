//go:build unix

package main

import (
	"bufio"
	"bytes"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// killPoints is how many searches are killed, slowKillPoints where LATHE_SLOW is set.
const (
	killPoints     = 2
	slowKillPoints = 20
)

// command returns the real program's command in a workspace, which writes JSON.
func (m *team) command(workspace string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(m.t.Context(), "lathe", append(args, "--workspace", m.path(workspace), "--json")...)
	cmd.Dir, cmd.Env = m.dir, m.env
	return cmd
}

// output runs a command that must succeed.
func (m *team) output(cmd *exec.Cmd) string {
	m.t.Helper()
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatalf("%v: %v\n%s", cmd.Args, err, &words)
	}
	return strings.TrimSpace(string(out))
}

// lastLine returns the last line of a search without the id of its subnet: the library keeps what a killed search had found too.
func lastLine(out string) string {
	lines := strings.Split(out, "\n")
	return regexp.MustCompile(`"subnet":"s\d+"`).ReplaceAllString(lines[len(lines)-1], "")
}

// shortSearch are the arguments of a search that takes a moment.
func (m *team) shortSearch(target string, more ...string) []string {
	return append([]string{"search", m.model, "--target", target, "--budget", "evals=300", "--seq", "32", "--windows", "4", "--text", m.path("cache", "text", "wiki.utf8")}, more...)
}

// TestKilledSearchEndsAsOneThatWasNot runs the real program with a tiny model, kills it at random moments, resumes the search, and
// compares the last line with that of an uninterrupted search.
func TestKilledSearchEndsAsOneThatWasNot(t *testing.T) {
	m := newTeam(t)
	started := time.Now()
	want := lastLine(m.output(m.command("whole", m.shortSearch("0.7")...)))
	took := time.Since(started)
	points := killPoints
	if os.Getenv("LATHE_SLOW") != "" {
		points = slowKillPoints
	}
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range points {
		workspace := "killed" + string(rune('a'+i))
		var resume []string
		for range 1 + rng.IntN(3) { // some are killed more than once
			cmd := m.command(workspace, m.shortSearch("0.7", resume...)...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			after := time.AfterFunc(time.Duration(rng.Float64()*float64(took)), func() { _ = cmd.Process.Kill() })
			err := cmd.Wait()
			after.Stop()
			if err == nil { // it was faster
				break
			}
			resume = []string{"--resume"}
		}
		if got := lastLine(m.output(m.command(workspace, m.shortSearch("0.7", "--resume")...))); got != want {
			t.Errorf("killed and gone on, the search ends with\n%s\nnot with\n%s", got, want)
		}
	}
}

// TestKilledSearchResumesWithItsOwnSettings kills the real program in the middle of a search, looks at what is left, and resumes the
// search without settings and then with another target.
func TestKilledSearchResumesWithItsOwnSettings(t *testing.T) {
	m := newTeam(t)
	asked := m.shortSearch("0.9", "--seed", "5")
	want := lastLine(m.output(m.command("whole", asked...)))

	killed := m.command("killed", asked...)
	stdout, err := killed.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || !strings.Contains(line, `"event":"generation"`) {
		t.Errorf("its first line is %q, %v", line, err)
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // it was killed

	if got := m.output(m.command("killed", "search", "status", m.model)); !strings.Contains(got, `"target":0.9`) || !strings.Contains(got, `"unfinished_search":{"target":0.9`) ||
		!strings.Contains(got, `"seed":5`) || strings.Contains(got, `"evaluated":0`) {
		t.Errorf("its status is %s", got)
	}
	if got := m.output(m.command("killed", "search", "front", m.model)); !strings.Contains(got, `"candidates":[{"id":`) {
		t.Errorf("its front is %s", got)
	}
	if got := m.output(m.command("killed", "search", "adopt", "best", m.model, "--name", "found")); !strings.Contains(got, `"name":"found"`) || !strings.Contains(got, `"refitted":true`) {
		t.Errorf("its best was adopted as %s", got)
	}
	levels := func() map[string]time.Time {
		found := map[string]time.Time{}
		files, _ := filepath.Glob(m.path("killed", "search", "levels", "*.levels"))
		for _, path := range files {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			found[path] = info.ModTime()
		}
		return found
	}
	before := levels()
	if got := lastLine(m.output(m.command("killed", "search", m.model, "--resume"))); got != want {
		t.Errorf("resumed without settings, it ends with\n%s\nnot with\n%s", got, want)
	}
	got := lastLine(m.output(m.command("killed", "search", m.model, "--resume", "--target", "0.7", "--budget", "evals=400")))
	if !regexp.MustCompile(`"best_share":0\.(6|7,)`).MatchString(got) || !strings.Contains(got, `"target":0.7`) || !strings.Contains(got, `"seed":5`) {
		t.Errorf("resumed with another target, it ends with %s", got)
	}
	refused := m.command("killed", "search", m.model, "--resume", "--seed", "9")
	if out, err := refused.CombinedOutput(); err == nil || refused.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), `the seed "5", not "9"`) {
		t.Errorf("resumed with another seed: %v, %s", err, out)
	}
	if after := levels(); len(before) == 0 || !maps.Equal(before, after) {
		t.Errorf("the levels were %v, and are %v", before, after)
	}
}
