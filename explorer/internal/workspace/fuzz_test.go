package workspace

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// small is a model of two layers for fuzzing.
func small() *subnet.Geometry {
	l := subnet.LayerGeometry{Heads: 2, KVHeads: 1, FFN: 32}
	return &subnet.Geometry{Arch: "llama", Hidden: 8, Vocab: 16, HeadDim: 4, Layers: []subnet.LayerGeometry{l, l}}
}

// FuzzWeights reads weight files with any content under the name they would have.
func FuzzWeights(f *testing.F) {
	g := small()
	folder := Weights{Path: f.TempDir()}
	refit := []gguf.Refit{{WO: make([]float32, 64), BD: make([]float32, 8)}, {WD: make([]float32, 256)}}
	name, _, err := folder.Save(gguf.Subnet{Masks: subnet.Dense(g), Refit: refit})
	if err != nil {
		f.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(folder.Path, name))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	typed, _, err := folder.Save(gguf.Subnet{
		Masks: subnet.Dense(g), Refit: refit, Types: map[string]subnet.Type{"blk.0.attn_q.weight": subnet.Q4_0}, Importance: map[string][]float32{"blk.0.attn_q.weight": make([]float32, 8)},
	})
	if err != nil {
		f.Fatal(err)
	}
	if content, err = os.ReadFile(filepath.Join(folder.Path, typed)); err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Add([]byte(`{"format":"lathe-weights 1"}` + "\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := Weights{Path: dir}.Load(t.Context(), name, g)
		if err == nil && len(s.Refit) != 2 {
			t.Errorf("%d layers", len(s.Refit))
		}
	})
}
