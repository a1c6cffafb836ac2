// Package converttest writes tiny random models as folders of Hugging Face's transformers library, so that tests of the
// conversion need no download.
//
//	err := converttest.Write(dir, converttest.Folder{Model: gguftest.Tiny("llama"), Class: "LlamaForCausalLM"})
package converttest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// Folder describes a folder.
type Folder struct {
	// Model describes the network and its numbers; Class is the class of transformers.
	Model gguftest.Model
	Class string
	// Single puts all weights into model.safetensors; otherwise they are in two files.
	Single bool
	// Edit changes config.json before it is written; nil for no change.
	Edit func(config map[string]any)
	// Change changes the tensors of a safetensors file before it is written; nil for no change.
	Change func(list map[string]Tensor)
}

// Open writes the folder and a GGUF file with the same numbers, and keeps both until the test ends.
func Open(tb testing.TB, f Folder) (dir string, source *gguf.File) {
	tb.Helper()
	dir = tb.TempDir()
	if err := Write(dir, f); err != nil {
		tb.Fatal(err)
	}
	return dir, gguftest.Open(tb, f.Model)
}

// Write writes the folder into an existing directory.
func Write(dir string, f Folder) (err error) {
	temp, err := os.MkdirTemp("", "converttest-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }() // the system removes it otherwise
	path := filepath.Join(temp, "model.gguf")
	if err := f.Model.Write(path); err != nil {
		return err
	}
	source, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }() // only read from
	files := 2
	if f.Single {
		files = 1
	}
	shards := make([]map[string]Tensor, files)
	for i := range shards {
		shards[i] = make(map[string]Tensor)
	}
	for i, t := range source.Tensors() {
		if t.Name == "rope_freqs.weight" {
			continue
		}
		if shards[i%files][f.hubName(t.Name)], err = f.tensor(source, t); err != nil {
			return err
		}
	}
	for i, shard := range shards {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, files)
		if f.Single {
			name = "model.safetensors"
		}
		if f.Change != nil {
			f.Change(shard)
		}
		b, err := Safetensors(shard)
		if err != nil {
			return err
		}
		if err := Put(dir, name, b); err != nil {
			return err
		}
	}
	config := f.config()
	if f.Edit != nil {
		f.Edit(config)
	}
	content := f.vocabulary()
	content["config.json"] = config
	for name, content := range content {
		if err := Put(dir, name, content); err != nil {
			return err
		}
	}
	return nil
}

// vocabulary returns the files of the tokenizer.
func (f Folder) vocabulary() map[string]any {
	if f.opt() { // as its authors published it
		t := Tokenizer(f.Model.Vocab)
		vocab := t["model"].(map[string]any)["vocab"].(map[string]int)
		vocab["<s>"], vocab["</s>"] = 0, 1
		return map[string]any{"vocab.json": vocab, "merges.txt": []byte("#version: 0.2\nt h\n"), "tokenizer_config.json": map[string]any{
			"bos_token": map[string]any{"content": "</s>"}, "eos_token": map[string]any{"content": "</s>"}, "tokenizer_class": "GPT2Tokenizer",
		}}
	}
	return map[string]any{
		"tokenizer.json": Tokenizer(f.Model.Vocab,
			map[string]any{"type": "Digits", "individual_digits": true}, map[string]any{"type": "ByteLevel", "add_prefix_space": false}),
		"tokenizer_config.json": map[string]any{
			"bos_token": "<s>", "eos_token": map[string]any{"content": "</s>"}, "chat_template": "{{ messages[0]['content'] }}",
		},
	}
}

// config returns config.json.
func (f Folder) config() map[string]any {
	m := f.Model
	if f.opt() {
		return map[string]any{
			"architectures": []string{f.Class}, "hidden_size": m.Hidden, "ffn_dim": m.Layers[0].FFN, "num_hidden_layers": len(m.Layers),
			"num_attention_heads": m.Layers[0].Heads, "max_position_embeddings": m.Context, "vocab_size": m.Vocab, "activation_function": "relu",
			"do_layer_norm_before": true, "word_embed_proj_dim": m.Hidden, "_remove_final_layer_norm": false,
		}
	}
	config := map[string]any{
		"architectures": []string{f.Class}, "hidden_size": m.Hidden, "intermediate_size": m.Layers[0].FFN, "num_hidden_layers": len(m.Layers),
		"num_attention_heads": m.Layers[0].Heads, "num_key_value_heads": m.Layers[0].KVHeads, "head_dim": m.HeadDim,
		"max_position_embeddings": m.Context, "vocab_size": m.Vocab, "rms_norm_eps": 1e-5, "rope_theta": m.RopeBase,
		"tie_word_embeddings": m.Tied, "hidden_act": "silu", "quantization_config": nil,
	}
	if f.gemma() {
		config["hidden_act"], config["hidden_activation"] = "gelu", "gelu_pytorch_tanh" // transformers uses the second one
		config["sliding_window"], config["query_pre_attn_scalar"] = m.Window, m.HeadDim
	}
	switch m.Arch {
	case "gemma2":
		config["attn_logit_softcapping"], config["final_logit_softcapping"] = 2.0, 3.0
	case "gemma3":
		config["rope_local_base_freq"], config["sliding_window_pattern"] = 10000.0, 6
	}
	return config
}

func (f Folder) opt() bool { return f.Model.Arch == "opt" }

func (f Folder) gemma() bool { return f.Model.Arch == "gemma2" || f.Model.Arch == "gemma3" }

// tensor returns a tensor of the GGUF file in the layout of transformers.
func (f Folder) tensor(source *gguf.File, t gguf.Tensor) (Tensor, error) {
	values, dims, err := source.Float32(t.Name)
	if err != nil {
		return Tensor{}, err
	}
	if f.Model.Arch == "llama" && (strings.Contains(t.Name, "attn_q.") || strings.Contains(t.Name, "attn_k.")) {
		values = halves(values, f.Model.HeadDim, len(values)/dims[0])
	}
	if f.gemma() && strings.HasSuffix(t.Name, "_norm.weight") {
		for i := range values {
			values[i]--
		}
	}
	if t.Name == "position_embd.weight" { // unused rows
		dims[0] += 2
		values = append(make([]float32, 2*dims[1]), values...)
		for i := range values[:2*dims[1]] {
			values[i] = 99
		}
	}
	data, err := gguf.Encode(t.Type, values, dims[len(dims)-1])
	return Tensor{Type: t.Type.String(), Dims: dims, Data: data}, err
}

// Tensor is a tensor of a safetensors file.
type Tensor struct {
	Type string // F32, F16 or BF16
	Dims []int
	Data []byte
}

// Safetensors returns a file of named tensors.
func Safetensors(list map[string]Tensor) ([]byte, error) {
	type entry struct {
		Type    string  `json:"dtype"`
		Shape   []int   `json:"shape"`
		Offsets []int64 `json:"data_offsets"`
	}
	header, data := map[string]any{"__metadata__": map[string]string{"format": "pt"}}, []byte(nil)
	for _, name := range slices.Sorted(maps.Keys(list)) {
		at := int64(len(data))
		data = append(data, list[name].Data...)
		header[name] = entry{list[name].Type, list[name].Dims, []int64{at, int64(len(data))}}
	}
	text, err := json.Marshal(header)
	if err != nil {
		return nil, err
	}
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), data...), nil
}

// halves permutes the rows of each head from rotary pairs of adjacent rows to pairs of halves, as in transformers.
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

// hubName returns the name of a tensor in transformers.
func (f Folder) hubName(name string) string {
	if f.opt() {
		return strings.NewReplacer("token_embd", "model.decoder.embed_tokens", "position_embd", "model.decoder.embed_positions",
			"output_norm", "model.decoder.final_layer_norm", "blk.", "model.decoder.layers.", "attn_norm", "self_attn_layer_norm",
			"ffn_norm", "final_layer_norm", "attn_q", "self_attn.q_proj", "attn_k", "self_attn.k_proj", "attn_v", "self_attn.v_proj",
			"attn_output", "self_attn.out_proj", "ffn_up", "fc1", "ffn_down", "fc2").Replace(name)
	}
	if f.gemma() {
		name = strings.NewReplacer("post_attention_norm", "post_attention_layernorm", "ffn_norm", "pre_feedforward_layernorm",
			"post_ffw_norm", "post_feedforward_layernorm").Replace(name)
	}
	return strings.NewReplacer("token_embd", "model.embed_tokens", "output_norm", "model.norm", "blk.", "model.layers.",
		"attn_norm", "input_layernorm", "ffn_norm", "post_attention_layernorm", "attn_q_norm", "self_attn.q_norm", "attn_k_norm", "self_attn.k_norm",
		"attn_q", "self_attn.q_proj", "attn_k", "self_attn.k_proj", "attn_v", "self_attn.v_proj", "attn_output", "self_attn.o_proj",
		"ffn_gate", "mlp.gate_proj", "ffn_up", "mlp.up_proj", "ffn_down", "mlp.down_proj", "output.weight", "lm_head.weight").Replace(name)
}

// Put writes a file of a folder, as JSON unless the content is bytes.
func Put(dir, name string, content any) error {
	b, ok := content.([]byte)
	if !ok {
		var err error
		if b, err = json.Marshal(content); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, name), b, 0o644)
}

// Tokenizer returns tokenizer.json of a byte-level vocabulary of n tokens: two special ones, the bytes and one merge. steps are
// those of its pre-tokenizer.
func Tokenizer(n int, steps ...any) map[string]any {
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
