package llamacpp

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/infer"
)

// TestMain makes the test binary the engine's child when it is started as one.
func TestMain(m *testing.M) {
	if fault := os.Getenv(faultyEnv); fault != "" && len(os.Args) > 1 && os.Args[1] == childArgument {
		os.Exit(faultyChild(fault))
	}
	RunIfChild()
	if path := os.Getenv(programEnv); path != "" {
		os.Exit(program(path))
	}
	os.Exit(m.Run())
}

// programEnv makes the test binary a program that uses the model at the path it holds.
const programEnv = "LATHE_TEST_PROGRAM"

// program loads a model, uses it, prints the id of its process and waits for the end of its input.
func program(path string) int {
	ctx := context.Background()
	e, err := New(Options{Libraries: os.Getenv(gpuEnv)})
	if err != nil {
		return 2
	}
	m, err := e.Load(ctx, infer.Defaults(path), nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	_, err = m.Chat(ctx, []infer.Message{{Role: infer.User, Content: "x"}}, infer.Sampling{MaxTokens: 4}, nil)
	if err != nil {
		return 4
	}
	if _, err = m.Score(ctx, [][]int32{{1, 2, 3}}, nil); err != nil {
		return 5
	}
	fmt.Println(m.(*Model).process.cmd.Process.Pid)
	io.Copy(io.Discard, os.Stdin)
	e.Close()
	return 0
}

// defaultModel returns the path of the default model, and skips the test if it is not in the cache.
func defaultModel(t testing.TB) string {
	t.Helper()
	cache := os.Getenv("LATHE_CACHE")
	if cache == "" {
		t.Skip("LATHE_CACHE is not set: run through make")
	}
	path := filepath.Join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no default model (make setup fetches it): %v", err)
	}
	return path
}

// gpuEnv names a folder of GPU libraries. With it the tests run on a GPU: make test-gpu sets it.
const gpuEnv = "LATHE_TEST_GPU"

func newEngine(t testing.TB, env ...string) *Engine {
	t.Helper()
	e, err := New(Options{LogDir: t.TempDir(), Env: env, Libraries: os.Getenv(gpuEnv)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func loadModel(t testing.TB, e *Engine, o infer.LoadOptions) *Model {
	t.Helper()
	m, err := e.Load(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m.(*Model)
}

// eventually waits for a condition that nothing reports.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("still waiting for %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}
