//go:build cgo && !nocgo

package llamacpp

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/memory"
	"github.com/lathe-llm/lathe/infer/subnet"
)

func TestChatDefaultModel(t *testing.T) {
	m := loadModel(t, newEngine(t), infer.Defaults(defaultModel(t)))
	messages := []infer.Message{{Role: infer.User, Content: "What is the capital of France?"}}
	prompt, err := m.Prompt(t.Context(), messages)
	if err != nil {
		t.Fatal(err)
	}
	want := "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n" +
		"<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
	if prompt.Text != want || prompt.Warning != "" {
		t.Errorf("prompt %q (warning %q), want %q", prompt.Text, prompt.Warning, want)
	}
	var answer strings.Builder
	ids := prompt.Tokens
	stats, err := m.Chat(t.Context(), messages, infer.Sampling{MaxTokens: 24}, func(t infer.Token) error {
		answer.WriteString(t.Text)
		ids = append(ids, t.ID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if answer.Len() == 0 || !utf8.ValidString(answer.String()) || stats.PromptTokens != len(prompt.Tokens) || stats.Warning != "" {
		t.Errorf("answer %q, stats %+v", answer.String(), stats)
	}
	// Greedy tokens are the most likely ones in scoring.
	positions, err := m.Distributions(t.Context(), [][]int32{ids}, infer.DistributionOptions{From: []int{len(prompt.Tokens)}})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range positions[0] {
		if !p.Greedy {
			t.Errorf("token %d of %q is not the most likely one", i, answer.String())
		}
	}
	t.Logf("%q %.1f tokens/s, prompt %.1f tokens/s", answer.String(), stats.TokensPerSecond, stats.PromptPerSecond)
}

// TestReference compares with an independent F32 program on the weights of the same file. llama.cpp computes with quantised
// activations and an f16 cache, so that single tokens differ by some hundredths of a nat.
func TestReference(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "decoder", "testdata", "reference.json"))
	if err != nil {
		t.Fatal(err)
	}
	var ref struct {
		Tokens []int32   `json:"tokens"`
		NLL    []float64 `json:"nll"`
	}
	if err := json.Unmarshal(data, &ref); err != nil {
		t.Fatal(err)
	}
	m := loadModel(t, newEngine(t), infer.Defaults(defaultModel(t)))
	text, err := os.ReadFile(filepath.Join(os.Getenv("LATHE_CACHE"), "text", "wiki.utf8"))
	if err != nil {
		t.Fatal(err)
	}
	ids, err := m.Tokenize(t.Context(), string(text[:16<<10]), false)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(ids[:len(ref.Tokens)], ref.Tokens) {
		t.Error("the text is cut into other tokens than the reference's")
	}
	nll, err := m.Score(t.Context(), [][]int32{ref.Tokens}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(nll[0]) != len(ref.NLL) {
		t.Fatalf("%d values, the reference has %d", len(nll[0]), len(ref.NLL))
	}
	sum, refSum, off := 0.0, 0.0, 0.0
	for i, v := range nll[0] {
		sum += float64(v)
		refSum += ref.NLL[i]
		off += math.Abs(float64(v) - ref.NLL[i])
	}
	n := float64(len(ref.NLL))
	ppl, refPPL := math.Exp(sum/n), math.Exp(refSum/n)
	t.Logf("perplexity %.4f, reference %.4f (%+.2f %%), mean difference of a token %.4f nats", ppl, refPPL, 100*(ppl/refPPL-1), off/n)
	if math.Abs(ppl/refPPL-1) > 0.005 || off/n > 0.05 {
		t.Error("too far from the reference")
	}
}

// halved writes a subnet of the default model whose layers differ: a half of the MLP channels in the first half of the layers,
// one KV group of three in the others.
func halved(t *testing.T) string {
	t.Helper()
	f, m := halvedMasks(t)
	defer f.Close()
	path := filepath.Join(t.TempDir(), "subnet.gguf")
	if _, err := gguf.WriteSubnet(t.Context(), f, path, gguf.Subnet{Masks: m}, gguf.WriteOptions{Type: "F16"}); err != nil {
		t.Fatal(err)
	}
	return path
}

// halvedMasks returns the masks of that subnet, and the file of the default model.
func halvedMasks(t *testing.T) (*gguf.File, subnet.Masks) {
	t.Helper()
	f, err := gguf.Open(defaultModel(t))
	if err != nil {
		t.Fatal(err)
	}
	config, err := f.Config()
	if err != nil {
		t.Fatal(err)
	}
	geo := config.Geometry()
	m := subnet.Dense(&geo)
	for i, g := range geo.Layers {
		l := m.Layer(i)
		if i < len(geo.Layers)/2 {
			l.Channels = subnet.Range(g.FFN, 0, g.FFN/2)
		} else {
			l.Heads = subnet.Range(g.Heads, 0, g.HeadsPerGroup())
		}
		m = m.With(i, l)
	}
	return f, m
}

// TestMemoryNeeded compares the estimate made before loading with what llama.cpp reports and with what the process grew by
// once a whole context was scored: 15 %.
func TestMemoryNeeded(t *testing.T) {
	const tolerance = 0.15
	sub := halved(t)
	for _, tt := range []struct {
		name  string
		edit  func(*infer.LoadOptions)
		whole bool // scoring touches the buffers whole, so that the process must have grown by them
	}{
		{"flash attention", func(*infer.LoadOptions) {}, true},
		{"none, long context", func(o *infer.LoadOptions) { o.FlashAttention, o.Context = false, 8192 }, false},
		{"quantised cache, small batch", func(o *infer.LoadOptions) { o.KVType, o.Batch = infer.KVQ80, 128 }, true},
		{"subnet", func(o *infer.LoadOptions) { o.Path = sub }, true},
		{"subnet, quantised cache", func(o *infer.LoadOptions) { o.Path, o.KVType = sub, infer.KVQ80 }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := infer.Defaults(defaultModel(t))
			o.Context = 4096
			tt.edit(&o)
			m := loadModel(t, newEngine(t), o)
			idle, err := startProcess(t.Context(), m.engine.options)
			if err != nil {
				t.Fatal(err)
			}
			base, _ := memory.Resident(idle.cmd.Process.Pid)
			idle.kill()
			// A full batch, and all its logits.
			if _, err := m.Score(t.Context(), [][]int32{make([]int32, 600)}, nil); err != nil {
				t.Fatal(err)
			}
			got, err := m.Memory(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			need := m.Info().Needed
			mib := func(n int64) float64 { return float64(n) / (1 << 20) }
			off := func(what string, got, want int64) {
				t.Logf("%s: estimated %.1f MiB, measured %.1f MiB", what, mib(want), mib(got))
				if r := float64(got)/float64(want) - 1; math.Abs(r) > tolerance {
					t.Errorf("%s: %+.0f %%", what, 100*r)
				}
			}
			off("cache", got.KVCache, need.KVCache)
			off("reported by llama.cpp", got.Total(), need.Total()-m.plan.need.output)
			if got.Resident > 0 && tt.whole {
				off("resident", got.Resident-base, need.Total())
			}
		})
	}
}

func TestBenchDefaultModel(t *testing.T) {
	m := loadModel(t, newEngine(t), infer.Defaults(defaultModel(t)))
	var runs []string
	r, err := m.Bench(t.Context(), infer.BenchOptions{Prompt: []int{64}, Gen: []int{8}, Depth: 32, Repeats: 3, Progress: func(test string, p infer.Progress) {
		runs = append(runs, test)
		if p.Total != 6 {
			t.Errorf("%d runs", p.Total)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 2 || r.Rows[0].Test != "pp64@d32" || r.Rows[1].Test != "tg8@d32" || len(runs) != 6 || r.Load <= 0 || r.Memory.Weights == 0 {
		t.Errorf("result %+v after %v", r, runs)
	}
	for _, row := range r.Rows {
		if len(row.Samples) != 3 || !(row.Mean() > 0) || row.StdDev() < 0 {
			t.Errorf("row %+v", row)
		}
		t.Logf("%s %.1f ± %.1f tokens/s, %d threads", row.Test, row.Mean(), row.StdDev(), row.Threads)
	}
}

// TestMemoryOfTargets: what a target of memory promises, the tensors and a key-value cache for a context, is what llama.cpp
// allocates for them, within 2 %.
func TestMemoryOfTargets(t *testing.T) {
	const tolerance = 0.02
	f, masks := halvedMasks(t)
	defer f.Close()
	for _, tt := range []struct {
		name    string
		masks   subnet.Masks
		typ     string
		context int
	}{
		{"dense", subnet.Dense(masks.Geometry()), "", 4096},
		{"subnet", masks, "", 4096},
		{"subnet in another type", masks, "Q8_0", 2048},
		{"a context that is padded", masks, "F16", 1000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "subnet.gguf")
			if _, err := gguf.WriteSubnet(t.Context(), f, path, gguf.Subnet{Masks: tt.masks}, gguf.WriteOptions{Type: tt.typ}); err != nil {
				t.Fatal(err)
			}
			sizes, err := gguf.NewSizes(f)
			if err != nil {
				t.Fatal(err)
			}
			size, err := sizes.Of(tt.masks, gguf.Refitted{}, tt.typ)
			if err != nil {
				t.Fatal(err)
			}
			o := infer.Defaults(path)
			o.Context = tt.context
			m := loadModel(t, newEngine(t), o)
			log, err := os.ReadFile(m.process.logPath)
			if err != nil {
				t.Fatal(err)
			}
			mib := func(expression string) float64 {
				var sum float64
				for _, found := range regexp.MustCompile(expression+` += +([0-9.]+) MiB`).FindAllSubmatch(log, -1) {
					n, err := strconv.ParseFloat(string(found[1]), 64)
					if err != nil {
						t.Fatal(err)
					}
					sum += n
				}
				return sum
			}
			got, want := mib("model buffer size")+mib("KV buffer size"), float64(size.Tensors+tt.masks.Size().KVBytes(tt.context))/(1<<20)
			t.Logf("promised %.2f MiB, allocated %.2f MiB", want, got)
			if math.Abs(got/want-1) > tolerance {
				t.Errorf("promised %.2f MiB, allocated %.2f MiB", want, got)
			}
		})
	}
}
