package convert_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/convert"
)

// crashEnv makes a child of the test binary end as one does whose library aborts.
const crashEnv = "LATHE_TEST_CRASH"

// TestMain makes the test binary a conversion when it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "__") && os.Getenv(crashEnv) != "" {
		fmt.Fprintln(os.Stderr, "GGML_ASSERT(nonsense) failed\nand more")
		os.Exit(134)
	}
	convert.RunIfChild()
	os.Exit(m.Run())
}

func TestProcess(t *testing.T) {
	dir, _ := write(t, tiny("llama", nil), "LlamaForCausalLM", nil)
	to := t.TempDir()
	dst := filepath.Join(to, "out.gguf")
	var last, total int64
	o := convert.Options{Type: "Q8_0", Progress: func(done, all int64) { last, total = done, all }}
	r, err := convert.Process(t.Context(), dir, dst, o)
	if err != nil {
		t.Fatal(err)
	}
	if last == 0 || last != total {
		t.Errorf("ended at %d of %d", last, total)
	}
	same := filepath.Join(t.TempDir(), "out.gguf")
	want, err := convert.Folder(t.Context(), dir, same, o)
	if err != nil {
		t.Fatal(err)
	}
	a, errA := os.ReadFile(dst)
	b, errB := os.ReadFile(same)
	if errA != nil || errB != nil || string(a) != string(b) {
		t.Errorf("the child wrote another file: %v, %v", errA, errB)
	}
	if want.Path = dst; !reflect.DeepEqual(r, want) {
		t.Errorf("%+v, want %+v", r, want)
	}
	alone(t, to, "out.gguf")
}

// alone checks that a folder holds these files and nothing else.
func alone(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(want) {
		t.Errorf("%v, want %q, error %v", entries, want, err)
	}
}

func TestProcessFails(t *testing.T) {
	good, _ := write(t, tiny("llama", nil), "LlamaForCausalLM", nil)
	bad, _ := write(t, tiny("llama", nil), "LlamaForCausalLM", func(c map[string]any) { c["num_hidden_layers"] = 0 })
	to := t.TempDir()
	dst := filepath.Join(to, "out.gguf")
	for _, test := range []struct {
		name, dir, typ string
		want           error
		reason         string
	}{
		{"bad folder", bad, "", convert.ErrFormat, "config.json: not a valid model folder: num_hidden_layers is 0"},
		{"no folder", filepath.Join(bad, "none"), "", convert.ErrFormat, "config.json"},
	} {
		_, err := convert.Process(t.Context(), test.dir, dst, convert.Options{Type: test.typ})
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.reason) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", test.name, err)
		}
		alone(t, to)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := convert.Process(ctx, good, dst, convert.Options{Progress: func(int64, int64) { cancel() }})
	if err != nil && !errors.Is(err, context.Canceled) { // a small model may be done before it is stopped
		t.Errorf("cancelled: %v", err)
	}
	if err != nil {
		alone(t, to)
	}
	t.Setenv(crashEnv, "1")
	_, err = convert.Process(t.Context(), good, filepath.Join(t.TempDir(), "out.gguf"), convert.Options{})
	if !errors.Is(err, convert.ErrCrashed) || !strings.Contains(err.Error(), "GGML_ASSERT(nonsense) failed") || strings.Contains(err.Error(), "\n") {
		t.Errorf("crashed: %v", err)
	}
}
