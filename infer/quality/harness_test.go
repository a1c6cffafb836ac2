//go:build cgo && !nocgo

package quality_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/llamacpp"
	"github.com/lathe-llm/lathe/infer/quality"
)

func TestMain(m *testing.M) {
	llamacpp.RunIfChild()
	os.Exit(m.Run())
}

// TestHarness evaluates questions written for it in the formats of the datasets, and compares with the results of
// lm-evaluation-harness 0.4.13 on them, with its own task definitions and the default model served by package openai (model
// local-completions). The results were equal; another processor may round one question the other way.
func TestHarness(t *testing.T) {
	path := filepath.Join(os.Getenv("LATHE_CACHE"), "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no default model (make setup fetches it): %v", err)
	}
	e, err := llamacpp.New(llamacpp.Options{LogDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	m, err := e.Load(t.Context(), infer.Defaults(path), nil)
	if err != nil {
		t.Fatal(err)
	}
	none := math.NaN()
	for _, want := range []struct {
		task      string
		acc, norm float64
	}{
		{"arc_easy", 1, 1},
		{"boolq", 0.375, none},
		{"hellaswag", 0.625, 0.875},
		{"openbookqa", 0.4, 0.6},
		{"piqa", 5.0 / 12, 0.5},
		{"winogrande", 0.5, none},
	} {
		file, err := os.Open(filepath.Join("testdata", want.task+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		task, err := quality.ParseTask(want.task, file, nil)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		got, err := quality.Evaluate(t.Context(), m, task, quality.EvalOptions{})
		if err != nil {
			t.Fatal(err)
		}
		one := 1.0/float64(got.Questions) + 1e-9
		if math.Abs(got.Acc-want.acc) > one {
			t.Errorf("%s: acc %.4f, the harness has %.4f", want.task, got.Acc, want.acc)
		}
		if (got.AccNorm == nil) != math.IsNaN(want.norm) {
			t.Errorf("%s: acc_norm %v, the harness has %v", want.task, got.AccNorm, want.norm)
		} else if got.AccNorm != nil && math.Abs(*got.AccNorm-want.norm) > one {
			t.Errorf("%s: acc_norm %.4f, the harness has %.4f", want.task, *got.AccNorm, want.norm)
		}
	}
}
