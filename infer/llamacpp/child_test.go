package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/logtail"
)

// TestBrokenChildren starts programs that are not engines: each gives one line of error, without waiting.
func TestBrokenChildren(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the children are shell scripts")
	}
	frame := func(text string) string { return fmt.Sprintf(`printf '\%03o\000\000\000%s'`, len(text), text) }
	hello := fmt.Sprintf(`{"id":0,"kind":"hello","body":{"Version":%d,"Engine":"x"}}`, protocolVersion)
	tests := []struct {
		name, script string
		want         error
		text         string
	}{
		{"ends", "echo it hurts >&2; exit 3", infer.ErrEngineCrashed, "it hurts"},
		{"ends without a word", "exit 0", infer.ErrEngineCrashed, "it exited"},
		{"garbage", "echo hello there everybody", infer.ErrEngineCrashed, "protocol"},
		{"huge message", `printf '\377\377\377\377'`, infer.ErrEngineCrashed, "protocol"},
		{"another version", frame(`{"id":0,"kind":"hello","body":{"Version":99}}`) + "; cat >/dev/null", nil, "another protocol"},
		{"no greeting", frame(`{"id":0,"kind":"event"}`) + "; cat >/dev/null", nil, "another protocol"},
		{"no engine", frame(fmt.Sprintf(`{"id":0,"kind":"hello","body":{"Version":%d}}`, protocolVersion)) + "; cat >/dev/null", infer.ErrUnavailable, "cgo"},
		{"ends after the greeting", frame(hello), infer.ErrEngineCrashed, ""},
		{"answers another question", frame(hello) + "; " + frame(`{"id":77,"kind":"result"}`) + "; cat >/dev/null", infer.ErrEngineCrashed, ""},
		{"silent", "cat >/dev/null", context.DeadlineExceeded, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "engine")
			if err := os.WriteFile(program, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			e, err := New(Options{LogDir: t.TempDir(), Executable: program})
			if err != nil {
				t.Fatal(err)
			}
			wait := 2 * time.Minute
			if errors.Is(tt.want, context.DeadlineExceeded) {
				wait = 50 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			_, err = e.Devices(ctx)
			if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v; want %v with %q", err, tt.want, tt.text)
			}
		})
	}
	e, err := New(Options{LogDir: t.TempDir(), Executable: filepath.Join(t.TempDir(), "nothing")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Devices(t.Context()); err == nil || !strings.Contains(err.Error(), "starting the engine") {
		t.Errorf("no such program: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.gguf")
	if err := os.WriteFile(foreign, []byte(strings.Repeat("no model ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEngine(t)
	tests := []struct {
		name string
		o    infer.LoadOptions
		want error
		text string
	}{
		{"missing", infer.Defaults(filepath.Join(dir, "none.gguf")), os.ErrNotExist, "none.gguf"},
		{"foreign", infer.Defaults(foreign), infer.ErrBadModel, "foreign.gguf"},
		{"cache type", infer.LoadOptions{Path: foreign, KVType: "q5_1"}, nil, "q5_1"},
		{"quantised cache without flash attention", infer.LoadOptions{Path: foreign, KVType: infer.KVQ80}, nil, "flash attention"},
		{"negative context", infer.LoadOptions{Path: foreign, Context: -1}, nil, "context"},
		{"too many threads", infer.LoadOptions{Path: foreign, Threads: 100000}, nil, "threads"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := e.Load(t.Context(), tt.o, nil)
			if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v; want %v with %q", err, tt.want, tt.text)
			}
		})
	}
	e.Close()
	if _, err := e.Load(t.Context(), infer.Defaults(foreign), nil); !errors.Is(err, infer.ErrClosed) {
		t.Errorf("a closed engine: %v", err)
	}
}

func TestLastLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	text := strings.Repeat("old\n", 10000) + "one\n\n  two\x1b[31m \r\n" + strings.Repeat("ä", 300) + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := logtail.Lines(path, 3)
	if len(got) != 3 || got[0] != "one" || got[1] != "two [31m" || len(got[2]) > 210 {
		t.Errorf("got %q", got)
	}
	if got := logtail.Lines(path+"x", 3); got != nil {
		t.Errorf("a missing log has lines %q", got)
	}
}

func TestMeasuredMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log := `load_tensors:   CPU_Mapped model buffer size =    92.10 MiB
llama_context:        CPU  output buffer size =     0.19 MiB
llama_kv_cache:        CPU KV buffer size =    90.00 MiB
llama_kv_cache: size =   90.00 MiB (  4096 cells,  30 layers,  1/1 seqs), K (f16):   45.00 MiB, V (f16):   45.00 MiB
llama_context:        CPU compute buffer size =    97.12 MiB
`
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	read, ok := readMeasured(path)
	m := read.memory
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	if !ok || mib(m.KVCache) != 90 || mib(m.Weights) < 92 || mib(m.Compute) < 97.3 || mib(m.Compute) > 97.4 || m.GPU != 0 {
		t.Errorf("read %+v, %v", m, ok)
	}
	onGPU := strings.NewReplacer("CPU KV", "CUDA0 KV", "CPU compute", "CUDA1 compute", "CPU  output", "CUDA_Host  output").Replace(log)
	if err := os.WriteFile(path, []byte(onGPU), 0o600); err != nil {
		t.Fatal(err)
	}
	if read, ok := readMeasured(path); !ok || mib(read.memory.GPU) < 187.1 || mib(read.memory.GPU) > 187.2 {
		t.Errorf("with GPUs read %+v, %v", m, ok)
	}
}
