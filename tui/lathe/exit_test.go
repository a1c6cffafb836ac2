//go:build unix

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// TestExitStatuses walks the statuses of the commands page and ends a command with each.
func TestExitStatuses(t *testing.T) {
	dir := t.TempDir()
	model, other := filepath.Join(dir, "tiny.gguf"), filepath.Join(dir, "other.gguf")
	if err := gguftest.Tiny("llama").Write(model); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, []byte("no model"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(dir, "keys")
	if err := os.WriteFile(keys, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[int][]string{
		exitOK:      {"lathe info " + model, "lathe --version", "lathe help cut", "lathe status " + model},
		exitFailure: {"lathe info " + model + " >/dev/full", "lathe cut " + model + " -o " + dir + "/no/such/x.gguf", "lathe serve " + model + " --listen 192.0.2.1:9 --authorized-keys " + keys},
		exitUsage: {
			"lathe infos", "lathe info --bogus", "lathe cut " + model + " --ratio 2 -o x.gguf", "lathe masks set " + model + " --layers 99 --drop mlp",
			"lathe serve " + model + " --bogus", "lathe serve " + model + " --idle soon", "lathe serve " + model + " --max-sessions many",
			"lathe serve " + model + " --listen nowhere --authorized-keys " + keys, "lathe serve " + model + " --listen :0", "lathe serve-api " + model + " --listen :0",
			"lathe serve-api " + model + " --kv-type q9", "lathe serve-api " + model + " --context -1", "lathe serve-api " + model + " --listen nowhere",
		},
		exitInput:       {"lathe info " + dir + "/none.gguf", "lathe info " + other, "lathe serve " + dir + "/none.gguf", "lathe serve-api " + model + " --key-file " + dir + "/none"},
		exitUnsupported: {"HF_HUB_OFFLINE=1 lathe info owner/name"},
		exitHeld:        {"lathe masks set " + model + " --layers 0 --drop mlp --workspace " + other + "/w", "LATHE_WORKSPACES=" + other + " lathe masks set " + model + " --layers 0 --drop mlp"},
		exitInterrupted: {"interrupted"},
		exitPipe:        {"closed"},
	}
	for _, s := range exitStatuses {
		lines := cases[s.status]
		if len(lines) == 0 {
			t.Errorf("no command ends with status %d", s.status)
		}
		for _, line := range lines {
			var words bytes.Buffer
			var got int
			switch line {
			case "interrupted":
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				got = run(ctx, fakeApp(strings.NewReader(""), &words, &words), []string{"search", model, "--budget", "evals=9", "--workspace", filepath.Join(dir, "w")})
			case "closed":
				read, write, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				_ = read.Close()
				cmd := exec.CommandContext(t.Context(), "lathe", "info", model)
				cmd.Stdout = write
				_ = cmd.Run()
				got = cmd.ProcessState.ExitCode()
				_ = write.Close()
			default:
				cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
				cmd.Env = append(os.Environ(), "HOME="+dir, "LATHE_WORKSPACES="+filepath.Join(dir, "workspaces"))
				cmd.Stderr = &words
				_ = cmd.Run()
				got = cmd.ProcessState.ExitCode()
			}
			if got != s.status {
				t.Errorf("%s: status %d, want %d: %s", line, got, s.status, words.String())
			}
		}
	}
}

// TestBiasesThatTheFileCannotHold checks that a cut which could not be written is refused before the work.
func TestBiasesThatTheFileCannotHold(t *testing.T) {
	for arch, fits := range map[string]bool{"llama": true, "opt": true, "gemma2": false, "gemma3": false, "qwen3": false} {
		for method, biased := range map[string]bool{"flap": true, "obs": false, "": false} {
			if err := checkBiases(arch, explorer.Cut{Preset: method}); (err == nil) != (fits || !biased) {
				t.Errorf("%s with %q: %v", arch, method, err)
			}
		}
		yes := true
		if err := checkBiases(arch, explorer.Cut{Reform: explorer.ReformOptions{Bias: &yes}}); (err == nil) != fits {
			t.Errorf("%s with biases: %v", arch, err)
		} else if err != nil && status(err) != exitUnsupported {
			t.Errorf("status %d", status(err))
		}
	}
}
