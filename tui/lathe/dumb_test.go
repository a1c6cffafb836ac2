//go:build unix

package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// inTerminal runs a program on a pseudo terminal and returns what it sends and its exit status.
func inTerminal(t *testing.T, env []string, args ...string) (sent string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = env
	keys, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 120})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = keys.Close() }()
	var all bytes.Buffer
	_, _ = io.Copy(&all, keys) // ends with an error on Linux when the program has ended
	_ = cmd.Wait()
	return all.String(), cmd.ProcessState.ExitCode()
}

func TestDumbTerminals(t *testing.T) {
	dir := t.TempDir()
	model := filepath.Join(dir, "tiny.gguf")
	if err := gguftest.Tiny("llama").Write(model); err != nil {
		t.Fatal(err)
	}
	for _, term := range [][]string{{"TERM=dumb"}, {"TERM="}, {}} {
		env := append(term, "PATH="+os.Getenv("PATH"), "HOME="+dir)
		for _, c := range []struct {
			args   []string
			status int
			needs  string
			lines  int // 0 for any number
		}{
			{[]string{"lathe", model}, exitUsage, "the explorer cannot be shown on this terminal", 1},
			{[]string{"lathe", "info", "nothing.gguf"}, exitInput, "nothing.gguf", 1},
			{[]string{"lathe", "info", "--bogus"}, exitUsage, "unknown flag", 1},
			{[]string{"lathe", "info", model}, exitOK, "llama", 0},
			{[]string{"lathe", "--help"}, exitOK, "lathe makes a trained language model smaller", 0},
			{[]string{"lathe", "cut", "--help"}, exitOK, "--ratio", 0},
			{[]string{"lathe", "--version"}, exitOK, "lathe version " + release, 4},
			{[]string{"lathe", "subnets", "export", "dense", model, "-o", filepath.Join(t.TempDir(), "x.gguf")}, exitOK, "x.gguf", 0},
		} {
			sent, status := inTerminal(t, env, c.args...)
			if status != c.status || !strings.Contains(sent, c.needs) || c.lines > 0 && strings.Count(sent, "\n") != c.lines {
				t.Errorf("%v %v: status %d:\n%q", term, c.args, status, sent)
			}
			if strings.Contains(sent, "\x1b") || strings.Contains(strings.ReplaceAll(sent, "\r\n", ""), "\r") {
				t.Errorf("%v %v: escape sequences: %.300q", term, c.args, sent)
			}
		}
	}
}
