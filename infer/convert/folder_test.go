package convert_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// entry is a tensor of a safetensors header.
type entry struct {
	Type    string  `json:"dtype"`
	Shape   []int   `json:"shape"`
	Offsets []int64 `json:"data_offsets"`
}

// safetensors makes a file of named tensors.
func safetensors(t *testing.T, list map[string]stored) []byte {
	t.Helper()
	header, data := map[string]any{"__metadata__": map[string]string{"format": "pt"}}, []byte(nil)
	for name, s := range list {
		at := int64(len(data))
		data = append(data, s.data...)
		header[name] = entry{s.kind, s.dims, []int64{at, int64(len(data))}}
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), data...)
}

type stored struct {
	kind string
	dims []int
	data []byte
}

// halves puts rows whose rotary pairs are neighbours in the order in which they are halves, head by head: what transformers keeps.
func halves(values []float32, headDim, width int) []float32 {
	out := make([]float32, 0, len(values))
	for head := 0; head < len(values); head += headDim * width {
		for _, odd := range []int{0, 1} {
			for i := odd; i < headDim; i += 2 {
				out = append(out, values[head+i*width:head+(i+1)*width]...)
			}
		}
	}
	return out
}

// hubName is the name that transformers gives a tensor.
func hubName(name string) string {
	return strings.NewReplacer("token_embd", "model.embed_tokens", "output_norm", "model.norm", "blk.", "model.layers.",
		"attn_norm", "input_layernorm", "ffn_norm", "post_attention_layernorm", "attn_q_norm", "self_attn.q_norm", "attn_k_norm", "self_attn.k_norm",
		"attn_q", "self_attn.q_proj", "attn_k", "self_attn.k_proj", "attn_v", "self_attn.v_proj", "attn_output", "self_attn.o_proj",
		"ffn_gate", "mlp.gate_proj", "ffn_up", "mlp.up_proj", "ffn_down", "mlp.down_proj", "output.weight", "lm_head.weight").Replace(name)
}

// write writes the folder of a random model as transformers would, in two safetensors files; edit changes config.json.
func write(t *testing.T, m gguftest.Model, class string, edit func(config map[string]any)) (dir string, source *gguf.File) {
	t.Helper()
	dir, source = t.TempDir(), gguftest.Open(t, m)
	shards := [2]map[string]stored{{}, {}}
	for i, tensor := range source.Tensors() {
		if tensor.Name == "rope_freqs.weight" {
			continue
		}
		values, dims, err := source.Float32(tensor.Name)
		if err != nil {
			t.Fatal(err)
		}
		if m.Arch == "llama" && (strings.Contains(tensor.Name, "attn_q.") || strings.Contains(tensor.Name, "attn_k.")) {
			values = halves(values, m.HeadDim, len(values)/dims[0])
		}
		kind := tensor.Type
		if len(dims) == 1 && strings.Contains(tensor.Name, "ffn_norm") {
			kind = gguf.F32
		}
		data, err := gguf.Encode(kind, values, dims[len(dims)-1])
		if err != nil {
			t.Fatal(err)
		}
		shards[i%2][hubName(tensor.Name)] = stored{kind.String(), dims, data}
	}
	config := map[string]any{
		"architectures": []string{class}, "hidden_size": m.Hidden, "intermediate_size": m.Layers[0].FFN, "num_hidden_layers": len(m.Layers),
		"num_attention_heads": m.Layers[0].Heads, "num_key_value_heads": m.Layers[0].KVHeads, "head_dim": m.HeadDim,
		"max_position_embeddings": m.Context, "vocab_size": m.Vocab, "rms_norm_eps": 1e-5, "rope_theta": m.RopeBase,
		"tie_word_embeddings": m.Tied, "hidden_act": "silu", "quantization_config": nil,
	}
	if edit != nil {
		edit(config)
	}
	put(t, dir, "config.json", config)
	for i, shard := range shards {
		put(t, dir, fmt.Sprintf("model-%05d-of-00002.safetensors", i+1), safetensors(t, shard))
	}
	put(t, dir, "tokenizer.json", tokenizerJSON(m.Vocab, []any{
		map[string]any{"type": "Digits", "individual_digits": true}, map[string]any{"type": "ByteLevel", "add_prefix_space": false},
	}))
	put(t, dir, "tokenizer_config.json", map[string]any{
		"bos_token": "<s>", "eos_token": map[string]any{"content": "</s>"}, "chat_template": "{{ messages[0]['content'] }}",
	})
	return dir, source
}

// put writes a file of a folder, as JSON where it is not bytes.
func put(t *testing.T, dir, name string, content any) {
	t.Helper()
	b, ok := content.([]byte)
	if !ok {
		var err error
		if b, err = json.Marshal(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// tokenizerJSON is a byte-level vocabulary of n tokens: two special ones, the bytes, and one merge.
func tokenizerJSON(n int, steps []any) map[string]any {
	vocab := map[string]int{}
	next := 2
	for b := range 256 {
		r := rune(b)
		if b < 33 || b > 126 && b < 161 || b == 173 {
			r = rune(256 + next)
		}
		vocab[string(r)] = next
		next++
	}
	vocab["th"] = next
	next++
	for ; next < n; next++ {
		vocab[fmt.Sprintf("unused%d", next)] = next
	}
	return map[string]any{
		"added_tokens":  []any{map[string]any{"id": 0, "content": "<s>", "special": true}, map[string]any{"id": 1, "content": "</s>", "special": true}},
		"model":         map[string]any{"type": "BPE", "vocab": vocab, "merges": []string{"t h"}},
		"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": steps},
	}
}

// llama3 computes the factors as the description of Llama 3.1's rotary scaling has them, from wavelengths.
func llama3(base float64, dim int) []float32 {
	out := make([]float32, dim/2)
	for i := range out {
		wavelength := 2 * math.Pi * math.Pow(base, 2*float64(i)/float64(dim))
		switch {
		case wavelength < 8192.0/4:
			out[i] = 1
		case wavelength > 8192.0/1:
			out[i] = 8
		default:
			smooth := (8192/wavelength - 1) / (4 - 1)
			out[i] = float32(1 / ((1-smooth)/8 + smooth))
		}
	}
	return out
}
