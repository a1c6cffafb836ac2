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

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// killPoints is how many searches are killed, slowKillPoints where LATHE_SLOW is set.
const (
	killPoints     = 2
	slowKillPoints = 20
)

// TestKilledSearchEndsAsOneThatWasNot runs the real program with a tiny model, kills it at random moments, resumes the search, and
// compares the last line with that of an uninterrupted search.
func TestKilledSearchEndsAsOneThatWasNot(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "lathe") // by this name the test's binary is the program
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, program); err != nil {
		t.Skip(err)
	}
	model, text := filepath.Join(dir, "tiny.gguf"), filepath.Join(dir, "words.txt")
	if err := gguftest.Tiny("llama").Write(model); err != nil {
		t.Fatal(err)
	}
	words := strings.Repeat("The lathe turns a heavy block of wood until only the shape that was wanted remains. ", 40)
	if err := os.WriteFile(text, []byte(words), 0o600); err != nil {
		t.Fatal(err)
	}
	search := func(workspace string, more ...string) *exec.Cmd {
		args := append([]string{"search", model, "--target", "0.7", "--budget", "evals=300", "--seq", "32", "--windows", "4",
			"--text", text, "--workspace", filepath.Join(dir, workspace), "--json"}, more...)
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Env = append(os.Environ(), "LATHE_WORKSPACES="+filepath.Join(dir, "workspaces"))
		return cmd
	}
	id := regexp.MustCompile(`"subnet":"s\d+"`) // of the library, where what a killed search had found is kept too
	lastLine := func(cmd *exec.Cmd) string {
		t.Helper()
		var words bytes.Buffer
		cmd.Stderr = &words
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, &words)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return id.ReplaceAllString(lines[len(lines)-1], "")
	}
	started := time.Now()
	want := lastLine(search("whole"))
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
			cmd := search(workspace, resume...)
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
		if got := lastLine(search(workspace, "--resume")); got != want {
			t.Errorf("killed and gone on, the search ends with\n%s\nnot with\n%s", got, want)
		}
	}
}

// TestKilledSearchResumesWithItsOwnSettings kills the real program in the middle of a search, looks at what is left, and resumes the
// search without settings and then with another target.
func TestKilledSearchResumesWithItsOwnSettings(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "lathe")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, program); err != nil {
		t.Skip(err)
	}
	model, text := filepath.Join(dir, "tiny.gguf"), filepath.Join(dir, "words.txt")
	if err := gguftest.Tiny("llama").Write(model); err != nil {
		t.Fatal(err)
	}
	words := strings.Repeat("The lathe turns a heavy block of wood until only the shape that was wanted remains. ", 40)
	if err := os.WriteFile(text, []byte(words), 0o600); err != nil {
		t.Fatal(err)
	}
	command := func(workspace string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), program, append(args, "--workspace", filepath.Join(dir, workspace), "--json")...)
		cmd.Env = append(os.Environ(), "LATHE_WORKSPACES="+filepath.Join(dir, "workspaces"))
		return cmd
	}
	asked := []string{"search", model, "--target", "0.9", "--seed", "5", "--budget", "evals=300", "--seq", "32", "--windows", "4", "--text", text}
	output := func(cmd *exec.Cmd) string {
		t.Helper()
		var words bytes.Buffer
		cmd.Stderr = &words
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, &words)
		}
		return strings.TrimSpace(string(out))
	}
	last := func(out string) string {
		lines := strings.Split(out, "\n")
		return regexp.MustCompile(`"subnet":"s\d+"`).ReplaceAllString(lines[len(lines)-1], "")
	}
	want := last(output(command("whole", asked...)))

	killed := command("killed", asked...)
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

	if got := output(command("killed", "search", "status", model)); !strings.Contains(got, `"target":0.9`) || !strings.Contains(got, `"unfinished_search":{"target":0.9`) ||
		!strings.Contains(got, `"seed":5`) || strings.Contains(got, `"evaluated":0`) {
		t.Errorf("its status is %s", got)
	}
	if got := output(command("killed", "search", "front", model)); !strings.Contains(got, `"candidates":[{"id":`) {
		t.Errorf("its front is %s", got)
	}
	if got := output(command("killed", "search", "adopt", "best", model, "--name", "found")); !strings.Contains(got, `"name":"found"`) || !strings.Contains(got, `"refitted":true`) {
		t.Errorf("its best was adopted as %s", got)
	}
	levels := func() map[string]time.Time {
		found := map[string]time.Time{}
		files, _ := filepath.Glob(filepath.Join(dir, "killed", "search", "levels", "*.levels"))
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
	if got := last(output(command("killed", "search", model, "--resume"))); got != want {
		t.Errorf("resumed without settings, it ends with\n%s\nnot with\n%s", got, want)
	}
	got := last(output(command("killed", "search", model, "--resume", "--target", "0.7", "--budget", "evals=400")))
	if !regexp.MustCompile(`"best_share":0\.(6|7,)`).MatchString(got) || !strings.Contains(got, `"target":0.7`) || !strings.Contains(got, `"seed":5`) {
		t.Errorf("resumed with another target, it ends with %s", got)
	}
	refused := command("killed", "search", model, "--resume", "--seed", "9")
	if out, err := refused.CombinedOutput(); err == nil || refused.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), `the seed "5", not "9"`) {
		t.Errorf("resumed with another seed: %v, %s", err, out)
	}
	if after := levels(); len(before) == 0 || !maps.Equal(before, after) {
		t.Errorf("the levels were %v, and are %v", before, after)
	}
}
