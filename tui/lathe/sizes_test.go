//go:build unix

package main

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// The size of a subnet that commands report is that of the file that exporting it writes, to the byte: with embeddings of another type than the
// blocks, with biases, and in families whose layers have equal widths.
func TestSizeIsThatOfTheFile(t *testing.T) {
	for _, arch := range []string{"llama", "opt", "gemma3", "qwen3"} {
		t.Run(arch, func(t *testing.T) {
			team := newTeam(t)
			m := gguftest.Tiny(arch)
			m.Type, m.Context = gguf.Q8_0, 2048
			if err := m.Write(team.model); err != nil {
				t.Fatal(err)
			}
			lathe := func(args ...string) []byte {
				t.Helper()
				out, words, status := team.lathe(args...)
				if status != 0 {
					t.Fatalf("lathe %v: status %d: %s", args, status, words)
				}
				return []byte(out)
			}
			method := "obs"
			if arch == "opt" {
				method = "flap"
			}
			lathe("cut", "tiny.gguf", "--ratio", "0.7", "--method", method, "--windows", "2", "--seq", "64", "--name", "small")
			var shown struct {
				Size struct {
					Bytes int64 `json:"bytes"`
				} `json:"size"`
			}
			if err := json.Unmarshal(lathe("masks", "show", "--subnet", "small", "tiny.gguf", "--json"), &shown); err != nil {
				t.Fatal(err)
			}
			lathe("subnets", "export", "small", "tiny.gguf", "-o", "small.gguf")
			info, err := os.Stat(team.path("small.gguf"))
			if err != nil {
				t.Fatal(err)
			}
			if shown.Size.Bytes != info.Size() {
				t.Errorf("the commands report %d bytes, the file has %d", shown.Size.Bytes, info.Size())
			}
			var dense struct {
				Types []typeSize `json:"types"`
			}
			if err := json.Unmarshal(lathe("info", "tiny.gguf", "--json"), &dense); err != nil {
				t.Fatal(err)
			}
			for _, typ := range []string{"F16", "Q4_0"} {
				lathe("cut", "tiny.gguf", "--ratio", "1", "--reform", "none", "--windows", "1", "--seq", "64", "-o", typ+".gguf", "--type", typ)
				if info, err = os.Stat(team.path(typ + ".gguf")); err != nil {
					t.Fatal(err)
				}
				i := slices.IndexFunc(dense.Types, func(s typeSize) bool { return s.Type == typ })
				if i < 0 {
					t.Fatalf("info has no size as %s: %+v", typ, dense.Types)
				}
				if d := float64(dense.Types[i].Bytes)/float64(info.Size()) - 1; d < -0.01 || d > 0.01 {
					t.Errorf("info has %d bytes as %s, the file %d", dense.Types[i].Bytes, typ, info.Size())
				}
			}
		})
	}
}
