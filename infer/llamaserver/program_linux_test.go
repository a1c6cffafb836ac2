package llamaserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// programEnv makes the test binary a program that loads the model at the path it holds.
const programEnv = "LATHE_TEST_PROGRAM"

func init() { programs = append(programs, program) }

func program() {
	path := os.Getenv(programEnv)
	if path == "" || len(os.Args) > 1 { // a server of the program has arguments
		return
	}
	m, err := New(Options{Path: os.Args[0], LogDir: os.Getenv("TMPDIR")}).Load(context.Background(), infer.Defaults(path), nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	fmt.Println(m.(*Model).server.cmd.Process.Pid)
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// TestServerDiesWithParent kills the parent, which cannot clean up, and waits for the end of its server.
func TestServerDiesWithParent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), programEnv+"="+gguftest.Write(t, gguftest.Tiny("llama")), "TMPDIR="+t.TempDir())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	stat := fmt.Sprintf("/proc/%s/stat", strings.TrimSpace(line))
	for deadline := time.After(2 * time.Minute); ; {
		data, err := os.ReadFile(stat)
		if err != nil || strings.Contains(string(data), ") Z ") { // gone, or waiting for init to notice
			return
		}
		select {
		case <-deadline:
			t.Fatal("the server outlives its parent")
		case <-time.After(2 * time.Millisecond):
		}
	}
}
