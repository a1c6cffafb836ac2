//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// exporting is `lathe subnets export -o -` with a pipe as standard output.
func exporting(t *testing.T) (cmd *exec.Cmd, scratch string, read, write *os.File, words *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	model := filepath.Join(dir, "tiny.gguf")
	if err := gguftest.Tiny("llama").Write(model); err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = read.Close(), write.Close() })
	scratch, words = filepath.Join(dir, "scratch"), new(bytes.Buffer)
	if err := os.Mkdir(scratch, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), "lathe", "subnets", "export", "dense", model, "-o", "-")
	cmd.Stdout, cmd.Stderr = write, words
	cmd.Env = append(os.Environ(), "LATHE_SCRATCH="+scratch, "LATHE_WORKSPACES="+filepath.Join(dir, "workspaces"))
	return cmd, scratch, read, write, words
}

// empty checks that a scratch folder has nothing left in it.
func empty(t *testing.T, scratch string) {
	t.Helper()
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestBrokenPipeLeavesNoScratch(t *testing.T) {
	cmd, scratch, read, _, words := exporting(t)
	if err := read.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Run()
	if status := cmd.ProcessState.ExitCode(); status != exitPipe || words.Len() > 0 {
		t.Errorf("status %d, %s", status, words)
	}
	empty(t, scratch)
}

// TestSignalsLeaveNoScratch sends signals while the program writes to a pipe that nobody reads.
func TestSignalsLeaveNoScratch(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			cmd, scratch, _, write, words := exporting(t)
			if err := write.SetWriteDeadline(time.Now().Add(time.Second / 2)); err != nil {
				t.Fatal(err)
			}
			for err := error(nil); err == nil; { // until the pipe is full
				_, err = write.Write(make([]byte, 1<<12))
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			late := time.After(patience)
			for look := time.NewTicker(5 * time.Millisecond); ; {
				if found, _ := filepath.Glob(filepath.Join(scratch, "*", "subnet.gguf")); len(found) > 0 {
					break
				}
				select {
				case <-look.C:
				case <-late:
					t.Fatalf("no file in the scratch folder: %s", words)
				}
			}
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if status := cmd.ProcessState.ExitCode(); status != exitInterrupted {
				t.Errorf("status %d, %s", status, words)
			}
			empty(t, scratch)
		})
	}
}

func TestFullStandardOutput(t *testing.T) {
	dir := t.TempDir()
	model := filepath.Join(dir, "tiny.gguf")
	if err := gguftest.Tiny("llama").Write(model); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"info", model}, {"info", model, "--json"}, {"--help"}, {"--version"}, {"cut", "--help"}, {"subnets", "list", model}, {"subnets", "export", "dense", model, "-o", "-"},
		{"masks", "show", model}, {"status", model}, {"completion", "bash"},
	} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip(err)
		}
		var words bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "lathe", args...)
		cmd.Stdout, cmd.Stderr = full, &words
		cmd.Env = append(os.Environ(), "LATHE_SCRATCH="+dir, "LATHE_WORKSPACES="+filepath.Join(dir, "workspaces"))
		_ = cmd.Run()
		if status := cmd.ProcessState.ExitCode(); status != exitFailure || !strings.Contains(words.String(), "standard output: no space left on") {
			t.Errorf("%v: status %d, %q", args, status, words.String())
		}
		_ = full.Close()
	}
}
