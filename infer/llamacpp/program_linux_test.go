//go:build cgo && !nocgo

package llamacpp

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// startProgram runs the test binary as a program that uses a model.
func startProgram(t *testing.T) (cmd *exec.Cmd, in io.WriteCloser, out *bufio.Reader, errOut *bytes.Buffer) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), programEnv+"="+gguftest.Write(t, gguftest.Tiny("llama")), "TMPDIR="+t.TempDir())
	errOut = &bytes.Buffer{}
	cmd.Stderr = errOut
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, in, bufio.NewReader(pipe), errOut
}

// TestSilence: loading and using a model writes nothing to the standard output and error of the program.
func TestSilence(t *testing.T) {
	cmd, in, out, errOut := startProgram(t)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatalf("%v; standard error: %s", err, errOut)
	}
	in.Close()
	rest, _ := io.ReadAll(out)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if len(rest) > 0 || errOut.Len() > 0 {
		t.Errorf("after %q: %q, standard error %q", line, rest, errOut)
	}
}

// TestChildDiesWithParent kills the parent, which cannot clean up, and waits for the end of its child.
func TestChildDiesWithParent(t *testing.T) {
	cmd, _, out, errOut := startProgram(t)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatalf("%v; standard error: %s", err, errOut)
	}
	cmd.Process.Kill()
	cmd.Wait()
	stat := fmt.Sprintf("/proc/%s/stat", strings.TrimSpace(line))
	eventually(t, "the end of the child", func() bool {
		data, err := os.ReadFile(stat)
		return err != nil || strings.Contains(string(data), ") Z ") // gone, or waiting for init to notice
	})
}
