package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/engine"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/convert/converttest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/llamacpp"
)

var update = flag.Bool("update", false, "update the files that tests compare with")

// TestMain lets scripts run two programs: lathe is the real one, fake has the same commands over a fake backend.
func TestMain(m *testing.M) {
	llamacpp.RunIfChild()
	convert.RunIfChild()
	testscript.Main(m, map[string]func(){
		"lathe":        func() { ignoreSizeSignal(); os.Exit(realMain()) },
		"fake":         func() { os.Exit(fake(os.Args[1:])) },
		"llama-server": func() { os.Exit(llamaServer(os.Args[1:])) },
	})
}

// fake runs a command line over the fake backend, for which a model file only has to exist.
func fake(args []string) int {
	return run(context.Background(), fakeApp(os.Stdin, os.Stdout, os.Stderr), args)
}

// fakeApp returns the program over the fake backend.
func fakeApp(stdin io.Reader, stdout, stderr io.Writer) *app {
	b := explorertest.New()
	b.Busy, _ = strconv.ParseFloat(os.Getenv("LATHE_TEST_BUSY"), 64)
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, getenv: os.Getenv}
	a.backend = func(string) (explorer.Backend, error) { return existing{b}, nil }
	a.diagnose = func(context.Context, string, engine.Places) ([]engine.Check, error) {
		return []engine.Check{
			{Name: "machine", State: engine.Works, Found: "two cores"},
			{Name: "GPU", State: engine.Missing, Used: "chat", Get: "buy one"},
		}, nil
	}
	return a
}

// templated writes a tiny model with the chat template in a file, or with none.
func templated(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: templated MODEL [TEMPLATE]")
	}
	recipe := gguftest.Tiny("llama")
	recipe.Edit = func(kv *gguf.KV) {
		kv.Delete("tokenizer.chat_template")
		if len(args) == 2 {
			ts.Check(kv.Set("tokenizer.chat_template", ts.ReadFile(args[1])))
		}
	}
	ts.Check(recipe.Write(ts.MkAbs(args[0])))
}

// atmost fails unless a file has at most some bytes: atmost FILE BYTES.
func atmost(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: atmost FILE BYTES")
	}
	most, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if info.Size() > most {
		ts.Fatalf("%s has %d bytes, more than %d", args[0], info.Size(), most)
	}
}

// special writes a tiny model of a kind: nan has a NaN in a norm; turns generates <|im_start|> and A in turns; ends generates
// <|im_start|> and names it among its end tokens; adds has a tokenizer that adds a start and an end token; none is an ordinary one
// of Qwen2, whose tokenizer adds neither; qwen3 and gemma2 are ordinary ones of these families.
func special(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: special KIND MODEL")
	}
	recipe := gguftest.Tiny("llama")
	switch args[0] {
	case "nan":
		recipe.Values = func(name string, values []float32) {
			if name == "output_norm.weight" {
				values[3] = float32(math.NaN())
			}
		}
	case "turns":
		recipe = recipe.Scripted(map[int]int{3: 5 + 'A'}, 3)
	case "ends":
		recipe = recipe.Scripted(nil, 3)
		recipe.Edit = func(kv *gguf.KV) { ts.Check(kv.Set("tokenizer.ggml.eos_token_ids", []int32{2, 3})) }
	case "adds":
		recipe.Edit = func(kv *gguf.KV) { ts.Check(kv.Set("tokenizer.ggml.add_eos_token", true)) }
	case "none":
		recipe = gguftest.Tiny("qwen2")
	case "qwen3", "gemma2":
		recipe = gguftest.Tiny(args[0])
	}
	ts.Check(recipe.Write(ts.MkAbs(args[1])))
}

// existing is the fake backend over files that exist.
type existing struct{ *explorertest.Backend }

func (b existing) Open(ctx context.Context, path string) (explorer.Model, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	return b.Backend.Open(ctx, path)
}

func TestScripts(t *testing.T) { runScripts(t, "testdata/script", nil) }

// TestVulkan runs scripts on the GPU whose libraries LATHE_TEST_GPU names, as make test-gpu sets it.
func TestVulkan(t *testing.T) {
	folder := os.Getenv("LATHE_TEST_GPU")
	if folder == "" {
		t.Skip("LATHE_TEST_GPU is not set: run make test-gpu")
	}
	env := map[string]string{"LATHE_GPU_LIBRARIES": folder}
	for _, name := range []string{"LD_LIBRARY_PATH", "VK_DRIVER_FILES", "VK_ICD_FILENAMES", "GGML_VK_VISIBLE_DEVICES"} {
		env[name] = os.Getenv(name)
	}
	runScripts(t, "testdata/vulkan", env)
}

// runScripts runs the scripts of a folder with more variables than those of the harness.
func runScripts(t *testing.T, dir string, env map[string]string) {
	cache := os.Getenv("LATHE_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, ".cache", "lathe")
	}
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:           dir,
		UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("LATHE_CACHE", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("LATHE_WORKSPACES", filepath.Join(e.WorkDir, "workspaces"))
			e.Setenv("REAL_CACHE", cache)
			e.Setenv("REPOSITORY", repository)
			e.Setenv("USER", "ada")
			e.Setenv("HF_HOME", filepath.Join(e.WorkDir, "hf"))
			e.Setenv("HF_HUB_OFFLINE", "1")
			e.Setenv("LATHE_BACKEND", os.Getenv("LATHE_BACKEND"))
			for name, value := range env {
				e.Setenv(name, value)
			}
			if err := gguftest.Tiny("llama").Write(filepath.Join(e.WorkDir, "tiny.gguf")); err != nil {
				return err
			}
			if err := gguftest.WriteOutlier(filepath.Join(e.WorkDir, "outlier.gguf"), 1e5); err != nil {
				return err
			}
			opt := gguftest.Tiny("opt")
			opt.Context = 2048
			for name, f := range map[string]converttest.Folder{
				"folder": {Model: gguftest.Tiny("llama"), Class: "LlamaForCausalLM"}, "opt": {Model: opt, Class: "OPTForCausalLM"},
			} {
				folder := filepath.Join(e.WorkDir, name)
				if err := os.Mkdir(folder, 0o755); err != nil {
					return err
				}
				if err := converttest.Write(folder, f); err != nil {
					return err
				}
			}
			words := strings.Repeat("The lathe turns a heavy block of wood until only the shape that was wanted remains. ", 40)
			if err := os.WriteFile(filepath.Join(e.WorkDir, "words.txt"), []byte(words), 0o644); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(e.WorkDir, "model.gguf"), []byte("fake"), 0o644)
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "model": // the default model was downloaded
				_, err := os.Stat(filepath.Join(cache, "models", defaultModel))
				return err == nil, nil
			case "xla": // XLA's plug-in for processors was downloaded
				_, err := os.Stat(filepath.Join(cache, "xla", "pjrt_c_api_cpu_plugin.so"))
				return err == nil, nil
			case "slow": // slow tests are enabled
				return os.Getenv("LATHE_SLOW") != "", nil
			case "root": // permissions do not apply to this user
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"atmost": atmost, "exits": exits, "jsonshape": jsonshape, "templated": templated, "special": special, "nats": startNATS, "lastline": copyLastLine, "streams": countStreams, "leave": leaveStream, "timeless": timeless,
		},
	})
}
