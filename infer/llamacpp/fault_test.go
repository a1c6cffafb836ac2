package llamacpp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// faultyEnv makes children of the test binary engines with a GPU that fails as its value describes.
const faultyEnv = "LATHE_TEST_FAULTY"

// Faults of children.
const (
	faultOpen   = "open"   // crashes while a library is loaded
	faultRefuse = "refuse" // the library does not load
	faultLoad   = "load"   // the model's buffers cannot be allocated
	faultScore  = "score"  // runs out of memory after half of a window
	faultPrompt = "prompt" // runs out of memory before the first token of a reply
	faultReply  = "reply"  // runs out of memory after two tokens of a reply
	faultNone   = "none"
)

// faultyChild answers requests as a child with one GPU. All log-likelihoods are -1 on the GPU and -2 on the processor.
func faultyChild(fault string) int {
	in, out := bufio.NewReader(os.Stdin), os.Stdout
	gpu, onGPU := false, 0
	_ = writeFrame(out, 0, kindHello, helloReply{Version: protocolVersion, Engine: "faulty"})
	for {
		f, err := readFrame(in)
		if err != nil {
			return 0
		}
		reply := any(struct{}{})
		switch f.Kind {
		case kindOpen:
			switch gpu = true; fault {
			case faultOpen:
				fmt.Fprintln(os.Stderr, "the driver crashes")
				return 139
			case faultRefuse:
				gpu = false
				reply = openReply{Failed: []string{"libggml-fake.so: libfake.so.1: cannot open shared object file"}}
			default:
				reply = openReply{}
			}
		case kindDevices:
			list := []infer.Device{{Name: "CPU", Free: 1 << 40}}
			if gpu {
				list = append(list, infer.Device{Name: "Fake0", Description: "Fake card", GPU: true, Free: 1 << 40, ID: "0000:01:00.0"})
			}
			reply = devicesReply{list}
		case kindLoad:
			r, err := decode[loadRequest](f)
			if err != nil {
				return 1
			}
			onGPU = r.GPULayers
			if fault == faultLoad && onGPU > 0 {
				fmt.Fprintln(os.Stderr, "llama_model_load: error loading model: unable to allocate Fake0 buffer")
				_ = writeFrame(out, f.ID, kindFailure, failureOf(infer.ErrBadModel))
				continue
			}
			device := "CPU"
			if onGPU > 0 {
				device = "Fake0"
			}
			fmt.Fprintf(os.Stderr, "load_tensors: layer   0 assigned to device %[1]s, is_swa = 0\nload_tensors: %[1]s model buffer size = 8.00 MiB\nllama_kv_cache: %[1]s KV buffer size = 2.00 MiB\n", device)
			reply = loadReply{Vocab: 9, Context: 512, WeightBytes: 8 << 20}
		case kindScore:
			r, err := decode[scoreRequest](f)
			if err != nil {
				return 1
			}
			n := len(r.Window) - r.From
			e := positionsEvent{NLL: make(floats, n), Greedy: make([]bool, n)}
			for i := range e.NLL {
				e.NLL[i] = 2 - float32(min(onGPU, 1))
			}
			if fault == faultScore && onGPU > 0 {
				e.NLL, e.Greedy = e.NLL[:n/2], e.Greedy[:n/2]
				_ = writeFrame(out, f.ID, kindEvent, e)
				fmt.Fprintln(os.Stderr, "ggml_fake: Device memory allocation of size 4096 failed.\n\n"+strings.Repeat("goroutine of the dump\n", 50))
				return 134
			}
			_ = writeFrame(out, f.ID, kindEvent, e)
		case kindGenerate: // three tokens, of 1 on the GPU and of 2 on the processor
			for i := range 3 {
				if onGPU > 0 && (fault == faultPrompt || fault == faultReply && i == 2) {
					fmt.Fprintln(os.Stderr, "ggml_fake: Device memory allocation of size 4096 failed.")
					return 134
				}
				_ = writeFrame(out, f.ID, kindEvent, tokenEvent{ID: int32(2 - min(onGPU, 1)), Text: "a"})
			}
			reply = generateReply{infer.GenStats{PromptTokens: 2, Tokens: 3, Stop: infer.StopLength}}
		default: // an empty reply
		}
		if err := writeFrame(out, f.ID, kindResult, reply); err != nil {
			return 1
		}
	}
}

// faulty returns an engine whose children have a GPU that fails.
func faulty(t *testing.T, fault string) *Engine {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "libggml-fake.so"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := New(Options{LogDir: t.TempDir(), Libraries: folder, Env: []string{faultyEnv + "=" + fault}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// TestGPUFaults: with as many layers on the GPU as fit, a model whose GPU fails runs on the processor, in the middle of a window
// too, and reports why; with a number of layers the failure is an error.
func TestGPUFaults(t *testing.T) {
	window := []int32{1, 2, 3, 4, 5, 6, 7, 8, 1}
	score := func(t *testing.T, m infer.Model) string {
		nll, err := m.Score(t.Context(), [][]int32{window, window}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(nll[0], nll[1])
	}
	const gpu, cpu = "[1 1 1 1 1 1 1 1]", "[2 2 2 2 2 2 2 2]"
	for _, tt := range []struct {
		fault, want, placement, why string
		exact                       error // with a number of layers
	}{
		{faultNone, gpu + " " + gpu, "1 of 1 layers on Fake0 (Fake card)", "", nil},
		{faultOpen, cpu + " " + cpu, "CPU", "the driver crashes", infer.ErrEngineCrashed},
		{faultRefuse, cpu + " " + cpu, "CPU", "libfake.so.1: cannot open", infer.ErrNoGPU},
		{faultLoad, cpu + " " + cpu, "CPU", "unable to allocate Fake0 buffer", infer.ErrNoMemory},
		{faultScore, "[1 1 1 1 2 2 2 2] " + cpu, "CPU", "Device memory allocation of size 4096 failed", infer.ErrNoMemory},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			o := infer.Defaults(gguftest.Write(t, gguftest.Tiny("llama")))
			m, err := faulty(t, tt.fault).Load(t.Context(), o, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := score(t, m); got != tt.want {
				t.Errorf("scored %s, want %s", got, tt.want)
			}
			if i := m.Info(); i.Placement != tt.placement || !strings.Contains(i.Fallback, tt.why) || (tt.why == "") != (i.Fallback == "") {
				t.Errorf("%q, fallback %q; want %q, %q", i.Placement, i.Fallback, tt.placement, tt.why)
			}
			memory, err := m.Memory(t.Context())
			if onGPU := memory.GPU; err != nil || (onGPU == 10<<20) != (tt.placement != "CPU") {
				t.Errorf("%d bytes on the GPU, %v", onGPU, err)
			}

			o.GPULayers = 1
			exact, err := faulty(t, tt.fault).Load(t.Context(), o, nil)
			if err == nil {
				_, err = exact.Score(t.Context(), [][]int32{window}, nil)
			}
			if !errors.Is(err, tt.exact) || err != nil && (strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "--gpu") || !strings.Contains(err.Error(), tt.why)) {
				t.Errorf("with one layer: %v; want %v", err, tt.exact)
			}

			o.GPULayers = 0
			none, err := faulty(t, tt.fault).Load(t.Context(), o, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := score(t, none); got != cpu+" "+cpu || none.Info().Fallback != "" {
				t.Errorf("without a GPU: scored %s, fallback %q", got, none.Info().Fallback)
			}
		})
	}
}

// TestGPUFaultInAReply: a GPU without memory before the first token is noticed by nobody but for the reason; a reply that has begun
// ends with the reason, and the next one is the processor's. With a number of layers every reply is an error.
func TestGPUFaultInAReply(t *testing.T) {
	const why = "Device memory allocation of size 4096 failed"
	for fault, want := range map[string][]int32{faultPrompt: {2, 2, 2}, faultReply: {1, 1}} {
		o := infer.Defaults(gguftest.Write(t, gguftest.Tiny("llama")))
		m, err := faulty(t, fault).Load(t.Context(), o, nil)
		if err != nil {
			t.Fatal(err)
		}
		generate := func(m infer.Model) (ids []int32, stats infer.GenStats, err error) {
			stats, err = m.Generate(t.Context(), []int32{3, 4}, infer.Sampling{MaxTokens: 3}, func(token infer.Token) error {
				ids = append(ids, token.ID)
				return nil
			})
			return ids, stats, err
		}
		ids, stats, err := generate(m)
		if !slices.Equal(ids, want) || (err != nil) != (fault == faultReply) {
			t.Errorf("%s: %v, %+v, %v", fault, ids, stats, err)
		}
		if err != nil && (!errors.Is(err, infer.ErrNoMemory) || !strings.Contains(err.Error(), why) || stats.Stop != infer.StopAborted || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %+v, %v", fault, stats, err)
		}
		if ids, _, err := generate(m); err != nil || !slices.Equal(ids, []int32{2, 2, 2}) {
			t.Errorf("%s, the next reply: %v, %v", fault, ids, err)
		}
		if i := m.Info(); i.Placement != "CPU" || !strings.Contains(i.Fallback, why) {
			t.Errorf("%s: %q, fallback %q", fault, i.Placement, i.Fallback)
		}
		o.GPULayers = 1
		exact, err := faulty(t, fault).Load(t.Context(), o, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, _, err := generate(exact); !errors.Is(err, infer.ErrNoMemory) || !strings.Contains(err.Error(), "--gpu off, or fewer layers") {
				t.Errorf("%s, with one layer: %v", fault, err)
			}
		}
	}
}

// TestProbe: libraries that do not load are reported, and the processor is still listed.
func TestProbe(t *testing.T) {
	for fault, want := range map[string]string{faultOpen: "the driver crashes", faultRefuse: "libfake.so.1", faultNone: ""} {
		list, failed, err := faulty(t, fault).Probe(t.Context())
		if err != nil || len(list) == 0 || (len(failed) > 0) != (want != "") || want != "" && !strings.Contains(failed[0], want) {
			t.Errorf("%s: %v, %q, %v", fault, list, failed, err)
		}
	}
	// A library that is no library, in a real child.
	e := faulty(t, "")
	e.options.Env = nil
	_, failed, err := e.Probe(context.Background())
	if err != nil || len(failed) != 1 || !strings.Contains(failed[0], "libggml-fake.so: file too short") {
		t.Errorf("an empty file: %q, %v", failed, err)
	}
}

func TestClassify(t *testing.T) {
	list := []infer.Device{
		{Name: "CPU"}, {Name: "Vulkan0", Description: "Intel Arc", GPU: true, Integrated: true, ID: "0000:00:02.0"},
		{Name: "CUDA0", GPU: true, ID: "0000:01:00.0"}, {Name: "Vulkan1", GPU: true, ID: "0000:01:00.0"}, {Name: "Vulkan2", Description: "llvmpipe (LLVM 15.0.6, 256 bits)", GPU: true},
	}
	classify(list)
	unused := ""
	for _, d := range list {
		unused += d.Name + ": " + d.Unused + "; "
	}
	if want := "CPU: ; Vulkan0: integrated, and there is CUDA0; CUDA0: ; Vulkan1: CUDA0 is the same card; Vulkan2: ; "; unused != want {
		t.Errorf("%s; want %s", unused, want)
	}
	if !list[4].Software || list[2].Software || !list[1].HostMemory() || list[2].HostMemory() {
		t.Errorf("%+v", list)
	}
}

func TestFindLibraries(t *testing.T) {
	cache := t.TempDir()
	write := func(text string, path ...string) string {
		name := filepath.Join(append([]string{cache}, path...)...)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Dir(name)
	}
	t.Setenv(LibrariesEnv, "")
	expect := func(what, want, why string) {
		t.Helper()
		got, err := FindLibraries(cache)
		if got != want || (err != nil) != (why != "") || err != nil && !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %q, %v; want %q, %q", what, got, err, want, why)
		}
	}
	expect("nothing built", "", "")
	write("vulkan\n", "gpu", "ollama-v0.1.0", chosenName)
	expect("another version built", "", "another version")
	write("../vulkan", "gpu", "ollama-"+Bindings, chosenName)
	expect("a path", "", "not the name of a folder")
	write("vulkan\n", "gpu", "ollama-"+Bindings, chosenName)
	folder := write(`{"bindings": "v0.1.0"}`, "gpu", "ollama-"+Bindings, "vulkan", "lib", "ollama", manifestName)
	expect("the manifest of another version", folder, `"v0.1.0"`)
	write(`{`, "gpu", "ollama-"+Bindings, "vulkan", "lib", "ollama", manifestName)
	expect("a broken manifest", folder, manifestName)
	write(`{"bindings": "`+Bindings+`"}`, "gpu", "ollama-"+Bindings, "vulkan", "lib", "ollama", manifestName)
	expect("no library", folder, "no GPU library")
	write("", "gpu", "ollama-"+Bindings, "vulkan", "lib", "ollama", "libggml-base.so.0")
	write("", "gpu", "ollama-"+Bindings, "vulkan", "lib", "ollama", "libggml-cpu-haswell.so")
	expect("ggml alone", folder, "no GPU library")
	write("", "gpu", "ollama-"+Bindings, "vulkan", "lib", "ollama", "libggml-vulkan.so")
	expect("all there", folder, "")
	t.Setenv(LibrariesEnv, "none")
	expect("none", "", "")
	t.Setenv(LibrariesEnv, "lib")
	expect("a relative path", "lib", "absolute")
	t.Setenv(LibrariesEnv, filepath.Join(cache, "elsewhere"))
	expect("a folder that is not there", filepath.Join(cache, "elsewhere"), "elsewhere")
}

// TestBindings: the version that GPU libraries must have is that of the module.
func TestBindings(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), "github.com/ollama/ollama "+Bindings+"\n") {
		t.Errorf("go.mod has another version of the bindings than %s", Bindings)
	}
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/ollama/ollama").Output()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "llama", "build-info.cpp"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(info), `LLAMA_COMMIT = "`+Commit+`"`) {
		t.Errorf("the module has another commit of llama.cpp than %s:\n%s", Commit, info)
	}
}

func TestReadMeasured(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log := `load_tensors: layer   0 assigned to device CPU, is_swa = 0
load_tensors: layer   1 assigned to device CUDA0, is_swa = 0
load_tensors: layer   2 assigned to device CUDA1, is_swa = 0
load_tensors: layer   3 assigned to device CUDA1, is_swa = 0
load_tensors:   CPU_Mapped model buffer size =    10.00 MiB
load_tensors:        CUDA0 model buffer size =    20.00 MiB
load_tensors:        CUDA1 model buffer size =    40.00 MiB
llama_context:  CUDA_Host  output buffer size =     1.00 MiB
llama_kv_cache:        CPU KV buffer size =    2.00 MiB
llama_kv_cache:      CUDA1 KV buffer size =    4.00 MiB
llama_context:      CUDA0 compute buffer size =    8.00 MiB
`
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	read, ok := readMeasured(path)
	list := []infer.Device{{Name: "CPU"}, {Name: "CUDA0", Description: "A", GPU: true}, {Name: "CUDA1", Description: "B", GPU: true}}
	read.fill(list)
	got := ""
	for _, d := range list {
		got += fmt.Sprintf("%s: %d layers, %d MiB; ", d.Name, d.Layers, d.Used>>20)
	}
	if want := "CPU: 1 layers, 13 MiB; CUDA0: 1 layers, 28 MiB; CUDA1: 2 layers, 44 MiB; "; !ok || got != want {
		t.Errorf("%s; want %s", got, want)
	}
	if got, want := read.placement(list), "1 of 4 layers on CUDA0 (A), 2 of 4 layers on CUDA1 (B)"; got != want {
		t.Errorf("placement %q, want %q", got, want)
	}
	if on := read.memory.GPU; on != 72<<20 {
		t.Errorf("%d bytes on GPUs", on)
	}
}
