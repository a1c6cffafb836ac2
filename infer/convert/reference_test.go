package convert_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/convert/converttest"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// reference is a folder of transformers computed as transformers does, in plain loops over 64-bit floats: with its names,
// its order of rotary pairs and its norms. It shares no code with the package.
type reference struct {
	class  string
	config map[string]any
	tensor map[string][]float64
}

func newReference(t *testing.T, dir string) *reference {
	t.Helper()
	r := &reference{tensor: make(map[string][]float64)}
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r.config); err != nil {
		t.Fatal(err)
	}
	r.class = r.config["architectures"].([]any)[0].(string)
	files, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%q, error %v", files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		size := binary.LittleEndian.Uint64(b)
		var header map[string]struct {
			Type    string `json:"dtype"`
			Offsets [2]int `json:"data_offsets"`
		}
		if err := json.Unmarshal(b[8:8+size], &header); err != nil {
			t.Fatal(err)
		}
		for name, e := range header {
			if name != "__metadata__" {
				r.tensor[name] = floats(e.Type, b[8+int(size):][e.Offsets[0]:e.Offsets[1]])
			}
		}
	}
	return r
}

// floats reads numbers of 32 or 16 bits.
func floats(kind string, b []byte) []float64 {
	var out []float64
	switch kind {
	case "F32":
		for i := 0; i < len(b); i += 4 {
			out = append(out, float64(math.Float32frombits(binary.LittleEndian.Uint32(b[i:]))))
		}
	case "BF16":
		for i := 0; i < len(b); i += 2 {
			out = append(out, float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[i:]))<<16)))
		}
	case "F16":
		for i := 0; i < len(b); i += 2 {
			h := binary.LittleEndian.Uint16(b[i:])
			v := math.Ldexp(float64(h&0x3ff|0x400), int(h>>10&0x1f)-25)
			if h>>10&0x1f == 0 {
				v = math.Ldexp(float64(h&0x3ff), -24)
			}
			if h>>15 == 1 {
				v = -v
			}
			out = append(out, v)
		}
	}
	return out
}

func (r *reference) number(key string, otherwise float64) float64 {
	if v, ok := r.config[key].(float64); ok {
		return v
	}
	return otherwise
}

func (r *reference) gemma() bool {
	return r.class == "Gemma2ForCausalLM" || r.class == "Gemma3ForCausalLM"
}

// local reports whether a layer has a sliding window.
func (r *reference) local(layer int) bool {
	switch r.class {
	case "Gemma2ForCausalLM":
		return layer%2 == 0
	case "Gemma3ForCausalLM":
		return (layer+1)%6 != 0
	}
	return false
}

// project is x·Wᵀ + b for a module of one layer or of the model.
func (r *reference) project(x [][]float64, module string) [][]float64 {
	w, b := r.tensor[module+".weight"], r.tensor[module+".bias"]
	out := make([][]float64, len(x))
	for t, row := range x {
		for i := 0; i < len(w); i += len(row) {
			var sum float64
			for j, v := range row {
				sum += v * w[i+j]
			}
			if b != nil {
				sum += b[i/len(row)]
			}
			out[t] = append(out[t], sum)
		}
	}
	return out
}

func (r *reference) norm(row []float64, module string) []float64 {
	var square float64
	for _, v := range row {
		square += v * v
	}
	scale := 1 / math.Sqrt(square/float64(len(row))+r.number("rms_norm_eps", 1e-6))
	out := make([]float64, len(row))
	for i, v := range row {
		gain := r.tensor[module+".weight"][i]
		if r.gemma() {
			gain++
		}
		out[i] = v * scale * gain
	}
	return out
}

func (r *reference) normAll(x [][]float64, module string) [][]float64 {
	out := make([][]float64, len(x))
	for t, row := range x {
		out[t] = r.norm(row, module)
	}
	return out
}

// frequency is the angle per position of a rotary pair.
func (r *reference) frequency(layer, pair, dim int) float64 {
	base := r.number("rope_theta", 10000)
	if r.class == "Gemma3ForCausalLM" && r.local(layer) {
		base = r.number("rope_local_base_freq", 10000)
	}
	f := math.Pow(base, -2*float64(pair)/float64(dim))
	if _, scaled := r.config["rope_scaling"].(map[string]any); scaled {
		f /= float64(llama3(base, dim)[pair])
	}
	return f
}

// heads splits a row into heads, norms them where the class has norms, and turns them.
func (r *reference) heads(row []float64, layer, position, dim int, norm string) [][]float64 {
	var out [][]float64
	for at := 0; at < len(row); at += dim {
		head := append([]float64(nil), row[at:at+dim]...)
		if norm != "" && r.tensor[norm+".weight"] != nil {
			head = r.norm(head, norm)
		}
		for i := range dim / 2 {
			sin, cos := math.Sincos(float64(position) * r.frequency(layer, i, dim))
			a, b := head[i], head[i+dim/2]
			head[i], head[i+dim/2] = a*cos-b*sin, b*cos+a*sin
		}
		out = append(out, head)
	}
	return out
}

func (r *reference) attention(x [][]float64, layer int) [][]float64 {
	prefix := fmt.Sprintf("model.layers.%d.self_attn.", layer)
	dim := int(r.number("head_dim", 0))
	scale := math.Sqrt(r.number("query_pre_attn_scalar", float64(dim)))
	q, k, v := r.project(x, prefix+"q_proj"), r.project(x, prefix+"k_proj"), r.project(x, prefix+"v_proj")
	mixed := make([][]float64, len(x))
	var keys [][][]float64
	for t := range x {
		keys = append(keys, r.heads(k[t], layer, t, dim, prefix+"k_norm"))
		for h, query := range r.heads(q[t], layer, t, dim, prefix+"q_norm") {
			group := h * len(keys[t]) / (len(q[t]) / dim)
			sum, out := 0.0, make([]float64, dim)
			for s := range t + 1 {
				if r.local(layer) && t-s >= int(r.number("sliding_window", 0)) {
					continue
				}
				var dot float64
				for i := range dim {
					dot += query[i] * keys[s][group][i]
				}
				w := math.Exp(capped(dot/scale, r.number("attn_logit_softcapping", 0)))
				sum += w
				for i := range dim {
					out[i] += w * v[s][group*dim+i]
				}
			}
			for _, o := range out {
				mixed[t] = append(mixed[t], o/sum)
			}
		}
	}
	return r.project(mixed, prefix+"o_proj")
}

func capped(x, limit float64) float64 {
	if limit == 0 {
		return x
	}
	return limit * math.Tanh(x/limit)
}

func (r *reference) mlp(x [][]float64, layer int) [][]float64 {
	prefix := fmt.Sprintf("model.layers.%d.mlp.", layer)
	gate, up := r.project(x, prefix+"gate_proj"), r.project(x, prefix+"up_proj")
	for t := range gate {
		for i, g := range gate[t] {
			act := g / (1 + math.Exp(-g))
			if r.gemma() {
				act = 0.5 * g * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(g+0.044715*g*g*g)))
			}
			gate[t][i] = act * up[t][i]
		}
	}
	return r.project(gate, prefix+"down_proj")
}

func add(a, b [][]float64) {
	for t := range a {
		for i := range a[t] {
			a[t][i] += b[t][i]
		}
	}
}

// noOp reports whether a block of a layer is without effect by block_configs.
func (r *reference) noOp(layer int, block string) bool {
	blocks, ok := r.config["block_configs"].([]any)
	return ok && blocks[layer].(map[string]any)[block].(map[string]any)["no_op"] == true
}

// afterAttention returns what attention adds to the residual stream.
func (r *reference) afterAttention(x [][]float64, layer int) [][]float64 {
	prefix := fmt.Sprintf("model.layers.%d.", layer)
	out := r.attention(r.normAll(x, prefix+"input_layernorm"), layer)
	if r.gemma() {
		out = r.normAll(out, prefix+"post_attention_layernorm")
	}
	return out
}

// logits returns the logits after every token.
func (r *reference) logits(tokens []int) [][]float64 {
	if r.class == "OPTForCausalLM" {
		return r.optLogits(tokens)
	}
	hidden := int(r.number("hidden_size", 0))
	var x [][]float64
	for _, token := range tokens {
		row := append([]float64(nil), r.tensor["model.embed_tokens.weight"][token*hidden:(token+1)*hidden]...)
		for i := range row {
			if r.gemma() {
				row[i] *= math.Sqrt(float64(hidden))
			}
		}
		x = append(x, row)
	}
	for layer := range int(r.number("num_hidden_layers", 0)) {
		prefix := fmt.Sprintf("model.layers.%d.", layer)
		if !r.noOp(layer, "attention") {
			add(x, r.afterAttention(x, layer))
		}
		if r.noOp(layer, "ffn") {
			continue
		}
		before := "post_attention_layernorm"
		if r.gemma() {
			before = "pre_feedforward_layernorm"
		}
		out := r.mlp(r.normAll(x, prefix+before), layer)
		if r.gemma() {
			out = r.normAll(out, prefix+"post_feedforward_layernorm")
		}
		add(x, out)
	}
	head := "lm_head"
	if r.config["tie_word_embeddings"] == true {
		head = "model.embed_tokens"
	}
	out := r.project(r.normAll(x, "model.norm"), head)
	for t := range out {
		for i := range out[t] {
			out[t][i] = capped(out[t][i], r.number("final_logit_softcapping", 0))
		}
	}
	return out
}

// TestEveryClassHasAFolder fails for a class of the table of families that no test converts.
func TestEveryClassHasAFolder(t *testing.T) {
	tested := map[string]bool{"DeciLMForCausalLM": true} // TestNemotronConfig
	for _, f := range folders() {
		tested[f.Class] = true
	}
	for _, f := range subnet.Families() {
		for _, class := range f.Classes {
			if !tested[class] {
				t.Errorf("no folder of a %s is converted", class)
			}
		}
	}
}

// folders are folders of every family, of every type of numbers, in one file and in two.
func folders() map[string]converttest.Folder {
	scaled := func(c map[string]any) {
		c["rope_scaling"] = map[string]any{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
	}
	make1 := func(arch, class string, kind gguf.Type, tied, single bool, edit func(map[string]any)) converttest.Folder {
		m := gguftest.Tiny(arch)
		m.Type, m.Tied = kind, tied
		return converttest.Folder{Model: m, Class: class, Single: single, Edit: edit}
	}
	return map[string]converttest.Folder{
		"llama":       make1("llama", "LlamaForCausalLM", gguf.F32, false, true, nil),
		"llama3":      make1("llama", "LlamaForCausalLM", gguf.BF16, true, false, scaled),
		"mistral":     make1("llama", "MistralForCausalLM", gguf.F16, false, false, nil),
		"qwen2":       make1("qwen2", "Qwen2ForCausalLM", gguf.BF16, true, false, nil),
		"qwen3":       make1("qwen3", "Qwen3ForCausalLM", gguf.F16, false, true, nil),
		"qwen3, tied": make1("qwen3", "Qwen3ForCausalLM", gguf.F32, true, false, nil),
		"gemma2":      make1("gemma2", "Gemma2ForCausalLM", gguf.BF16, true, false, nil),
		"opt":         make1("opt", "OPTForCausalLM", gguf.F16, true, false, nil),
		"gemma3":      make1("gemma3", "Gemma3ForCausalLM", gguf.F16, true, true, nil),
	}
}

// someTokens returns tokens of a tiny vocabulary, more than a sliding window.
func someTokens() []int {
	return []int{99, 7, 258, 45, 12, 301, 77, 200, 5, 63, 63, 8, 140, 141, 3, 19}
}

// TestConvertedEqualsReference compares the logits of converted folders, in 32-bit arithmetic, with those of the reference.
func TestConvertedEqualsReference(t *testing.T) {
	be, err := decoder.OpenDevice("go")
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	for name, folder := range folders() {
		t.Run(name, func(t *testing.T) {
			dir, _ := converttest.Open(t, folder)
			m, err := decoder.Load(t.Context(), be, folderToFile(t, dir, convert.Options{}))
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			dense := m.Dense()
			defer dense.Close()
			var window []int32
			for _, token := range someTokens() {
				window = append(window, int32(token))
			}
			got, err := m.Logits(t.Context(), dense, window)
			if err != nil {
				t.Fatal(err)
			}
			for i, row := range newReference(t, dir).logits(someTokens()) {
				for j, want := range row {
					if d := math.Abs(float64(got[i*len(row)+j]) - want); !(d < 2e-4) {
						t.Fatalf("token %d: logit %d is %v, want %v", i, j, got[i*len(row)+j], want)
					}
				}
			}
		})
	}
}
