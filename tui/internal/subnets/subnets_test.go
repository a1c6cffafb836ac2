package subnets

import (
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

func TestModelName(t *testing.T) {
	for _, c := range []struct{ path, name, fileType, want string }{
		{"m/SmolLM2-135M-Instruct.Q4_1.gguf", "Smollm2 135M Ep2", "Q4_1", "SmolLM2-135M-Instruct"},
		{"m/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct", "Q4_1", "SmolLM2-135M-Instruct"},
		{"qwen-0.5b-q8_0.gguf", "Qwen", "Q8_0", "qwen-0.5b"},
		{"converted/Tiny-0a1b2c3d4e5f.gguf", "Tiny", "F16", "Tiny"},
		{"model.gguf", "", "", "model"},
		{"Q4_1.gguf", "", "Q4_1", "Q4_1"},
		{"", "llama", "F16", "llama"},
	} {
		if got := ModelName(explorer.ModelInfo{Path: c.path, Name: c.name, FileType: c.fileType}); got != c.want {
			t.Errorf("%q named %q is called %q, want %q", c.path, c.name, got, c.want)
		}
	}
}

// TestWithEnding adds endings to names that have none, with ratios in them too.
func TestWithEnding(t *testing.T) {
	for path, want := range map[string]string{
		"small": "small.gguf", "small.gguf": "small.gguf", "small.bin": "small.bin", "one-shot-0.80-s1": "one-shot-0.80-s1.gguf", "cut-0.8": "cut-0.8.gguf",
		"a.b/small": "a.b/small.gguf", "v1.5": "v1.5.gguf", "small.": "small.gguf",
	} {
		if got := withEnding(path, ".gguf"); got != want {
			t.Errorf("%q becomes %q, not %q", path, got, want)
		}
	}
}

// TestComputeEntries: a form that is left as it is computes as the program was started; settings of an earlier job are offered again.
func TestComputeEntries(t *testing.T) {
	f := &widget.Form{Entries: CalibrationEntries("8", "2048")}
	if c := CalibrationOf(f); c.ComputeType != "" || c.AtOnce != 0 {
		t.Errorf("untouched: %+v", c)
	}
	was := explorer.Calibration{ComputeType: explorer.HalfFloats, AtOnce: 4}
	f = &widget.Form{Entries: append(CalibrationEntries("8", "2048")[:3], ComputeEntries(was)...)}
	if c := CalibrationOf(f); c.ComputeType != explorer.HalfFloats || c.AtOnce != 4 {
		t.Errorf("as before: %+v", c)
	}
}
