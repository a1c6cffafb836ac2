package convert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/scratch"
)

// The classes of folders that [WriteFolder] writes.
const (
	classLlama  = "LlamaForCausalLM"
	classDeciLM = "DeciLMForCausalLM" // Llama's network with counts for each layer, as in Nemotron
)

// FolderReport describes a folder that [WriteFolder] wrote.
type FolderReport struct {
	Path string `json:"path"`
	// Class is the class of transformers.
	Class   string `json:"class"`
	Bytes   int64  `json:"bytes"`
	Files   int    `json:"files"`
	Layers  int    `json:"layers"`
	Tensors int    `json:"tensors"`
	// Notes are what the reader of the folder has to know.
	Notes []string `json:"notes,omitempty"`
}

// FolderTypes returns the names of the types that WriteFolder takes matrices in.
func FolderTypes() []string { return []string{"F32", "F16", "BF16"} }

// WriteFolder writes a GGUF file of Llama's network, with matrices in F32, F16 or BF16, as a folder of Hugging Face's
// transformers: config.json, safetensors and the tokenizer. A file of equal layers becomes a LlamaForCausalLM, any other a
// DeciLMForCausalLM, which has counts for each layer and marks blocks of zeros as without effect. Either the whole folder
// appears or none; dir must not exist, or be empty.
//
// It wraps [ErrUnsupported] for a file that the layout cannot hold: other networks, biases, layers with different numbers of
// query heads, and heads cut inside.
func WriteFolder(ctx context.Context, f *gguf.File, dir string, progress func(done, total int64)) (FolderReport, error) {
	r, err := writeFolder(ctx, f, dir, progress)
	if err != nil {
		return FolderReport{}, fmt.Errorf("convert: %s: %w", dir, err)
	}
	return r, nil
}

func writeFolder(ctx context.Context, f *gguf.File, dir string, progress func(done, total int64)) (_ FolderReport, err error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return FolderReport{}, fmt.Errorf("%w: the folder is not empty", os.ErrExist)
	}
	out, err := newFolderWriter(f)
	if err != nil {
		return FolderReport{}, err
	}
	files, err := out.sidecars()
	if err != nil {
		return FolderReport{}, err
	}
	dir = filepath.Clean(dir)
	beside, err := scratch.Beside(dir)
	if err != nil {
		return FolderReport{}, err
	}
	defer func() { err = errors.Join(err, beside.Remove()) }()
	own := beside.Path()
	for name, content := range files {
		if err := durable.WriteFile(filepath.Join(own, name), content, 0o644); err != nil {
			return FolderReport{}, err
		}
	}
	if err := out.write(ctx, own, progress); err != nil {
		return FolderReport{}, err
	}
	r := FolderReport{Path: dir, Class: out.class, Layers: out.config.Layers, Tensors: len(out.tensors)}
	if out.class == classDeciLM {
		r.Notes = append(r.Notes, "the layers differ in their widths: transformers by itself does not load the folder (model type nemotron-nas, class DeciLMForCausalLM); "+
			"lathe does, and programs with DeciLM's network")
	}
	entries, err := os.ReadDir(own)
	if err != nil {
		return FolderReport{}, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return FolderReport{}, err
		}
		r.Bytes, r.Files = r.Bytes+info.Size(), r.Files+1
	}
	if err := os.Chmod(own, 0o755); err != nil {
		return FolderReport{}, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return FolderReport{}, err
	}
	return r, durable.Rename(own, dir)
}

// folderWriter writes the model of a file as a folder.
type folderWriter struct {
	file    *gguf.File
	c       gguf.Config
	class   string
	config  llamaConfig
	tensors []outTensor
}

// outTensor is a tensor of the folder and its source in the file.
type outTensor struct {
	name string
	gguf.Tensor
	head int // rows that are permuted together, 0 for none
}

// llamaConfig is config.json.
type llamaConfig struct {
	Architectures []string       `json:"architectures"`
	ModelType     string         `json:"model_type"`
	Hidden        int            `json:"hidden_size"`
	FFN           *int           `json:"intermediate_size"`
	Layers        int            `json:"num_hidden_layers"`
	Heads         int            `json:"num_attention_heads"`
	KVHeads       *int           `json:"num_key_value_heads"`
	HeadDim       int            `json:"head_dim"`
	Context       int            `json:"max_position_embeddings"`
	VocabSize     int            `json:"vocab_size"`
	NormEps       float64        `json:"rms_norm_eps"`
	RopeTheta     float64        `json:"rope_theta"`
	RopeScaling   map[string]any `json:"rope_scaling"`
	Tied          bool           `json:"tie_word_embeddings"`
	Activation    string         `json:"hidden_act"`
	AttentionBias bool           `json:"attention_bias"`
	MLPBias       bool           `json:"mlp_bias"`
	Type          string         `json:"torch_dtype"`
	BOS           *uint64        `json:"bos_token_id,omitempty"`
	EOS           *uint64        `json:"eos_token_id,omitempty"`
	Blocks        []blockConfig  `json:"block_configs,omitempty"`
}

// newFolderWriter prepares the content of the folder and checks that the layout can hold it.
func newFolderWriter(f *gguf.File) (*folderWriter, error) {
	c, err := f.Config()
	if err != nil {
		return nil, err
	}
	o := &folderWriter{file: f, c: c, class: classLlama}
	switch {
	case c.Arch != "llama" && c.Arch != "deci":
		return nil, fmt.Errorf("%w: the layout holds Llama's network, not %s", ErrUnsupported, c.Arch)
	case c.QKVBias:
		return nil, fmt.Errorf("%w: the layout holds no biases on Q, K and V", ErrUnsupported)
	case c.OutBias:
		return nil, fmt.Errorf("%w: the layout holds no output biases", ErrUnsupported)
	}
	o.config = llamaConfig{
		Architectures: []string{classLlama}, ModelType: "llama", Hidden: c.Hidden, Layers: len(c.Layers), HeadDim: c.HeadDim, Context: c.Context,
		VocabSize: c.Vocab, NormEps: short(c.NormEps), RopeTheta: short(c.RopeBase), Tied: c.Tied, Activation: "silu",
	}
	if o.config.RopeScaling, err = ropeOf(c); err != nil {
		return nil, err
	}
	if err := o.blocks(); err != nil {
		return nil, err
	}
	if err := o.list(); err != nil {
		return nil, err
	}
	for key, to := range map[string]**uint64{"bos": &o.config.BOS, "eos": &o.config.EOS} {
		if id, ok := f.KV().Uint("tokenizer.ggml." + key + "_token_id"); ok {
			*to = &id
		}
	}
	return o, nil
}

// short returns the float64 with the fewest decimal digits that converts to the same float32.
func short(v float64) float64 {
	var out float64
	b, err := json.Marshal(float32(v))
	if err != nil || json.Unmarshal(b, &out) != nil {
		return v
	}
	return out
}

// blocks sets the shapes of the layers and finds the blocks that are all zeros.
func (o *folderWriter) blocks() error {
	first := -1 // layer with attention
	alike := true
	for i, l := range o.c.Layers {
		var b blockConfig
		noAttention, err := o.isZero(i, l.Heads, "attn_output.weight")
		if err != nil {
			return err
		}
		if b.FFN.NoOp, err = o.isZero(i, l.FFN, "ffn_down.weight"); err != nil {
			return err
		}
		if b.Attention.NoOp = noAttention; !noAttention {
			if first < 0 {
				first = i
			}
			if heads := o.c.Layers[first].Heads; l.Heads != heads {
				return fmt.Errorf("%w: layer %d has %d query heads and layer %d %d, the layout has one number for all layers", ErrUnsupported, first, heads, i, l.Heads)
			}
			group := l.HeadsPerGroup()
			b.Attention.Group = &group
		}
		if !b.FFN.NoOp {
			b.FFN.Width = l.FFN
		}
		alike = alike && l == o.c.Layers[0] && !b.Attention.NoOp && !b.FFN.NoOp
		o.config.Blocks = append(o.config.Blocks, b)
	}
	if o.config.Heads = o.c.Hidden / o.c.HeadDim; first >= 0 {
		o.config.Heads = o.c.Layers[first].Heads
	}
	if alike {
		l := o.c.Layers[0]
		o.config.FFN, o.config.KVHeads, o.config.Blocks = &l.FFN, &l.KVHeads, nil
		return nil
	}
	o.class = classDeciLM
	o.config.Architectures, o.config.ModelType = []string{classDeciLM}, "nemotron-nas"
	return nil
}

// isZero reports whether a block has no units or adds only zeros.
func (o *folderWriter) isZero(layer, units int, output string) (bool, error) {
	if units == 0 {
		return true, nil
	}
	b, err := o.file.Read(fmt.Sprintf("blk.%d.%s", layer, output))
	if err != nil {
		return false, err
	}
	return len(bytes.TrimLeft(b, "\x00")) == 0, nil
}

// list sets the tensors of the folder.
func (o *folderWriter) list() error {
	names := make(map[string]string)
	family, _ := familyOf(o.class)
	for to, from := range family.Names.Model {
		names[from] = to
	}
	for to, from := range family.Names.Layer {
		for i, b := range o.config.perLayer() {
			attention := strings.HasPrefix(from, "attn_")
			if attention && b.Attention.NoOp || !attention && b.FFN.NoOp {
				continue
			}
			names[fmt.Sprintf("blk.%d.%s", i, from)] = fmt.Sprintf("%s%d.%s", family.Names.Layers, i, to)
		}
	}
	for _, t := range o.file.Tensors() {
		to, ok := names[strings.TrimSuffix(t.Name, ".weight")]
		if !ok {
			continue
		}
		switch t.Type {
		case gguf.F32, gguf.F16, gguf.BF16:
		default:
			return fmt.Errorf("tensor %q: %w: %s, safetensors hold F32, F16 and BF16", t.Name, gguf.ErrType, t.Type)
		}
		out := outTensor{name: to + ".weight", Tensor: t}
		if strings.Contains(t.Name, ".attn_q.") || strings.Contains(t.Name, ".attn_k.") {
			out.head = o.c.HeadDim
		}
		if name := dtypes[t.Type]; len(t.Dims) == 2 && o.config.Type == "" {
			o.config.Type = name
		} else if len(t.Dims) == 2 && o.config.Type != name {
			o.config.Type = dtypes[gguf.F32] // loading converts every tensor to this type
		}
		o.tensors = append(o.tensors, out)
	}
	return nil
}

// dtypes are the names of types in config.json.
var dtypes = map[gguf.Type]string{gguf.F32: "float32", gguf.F16: "float16", gguf.BF16: "bfloat16"}

// perLayer returns one entry for each layer.
func (c llamaConfig) perLayer() []blockConfig {
	if c.Blocks != nil {
		return c.Blocks
	}
	return make([]blockConfig, c.Layers)
}
