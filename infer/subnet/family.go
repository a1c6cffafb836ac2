package subnet

import (
	"math"
	"slices"
)

// Family holds the facts of one architecture: how its networks compute, what its files hold, and what a model folder of
// Hugging Face's transformers calls its tensors. Every package that reads, runs, cuts or converts models reads them here.
type Family struct {
	Arch string // general.architecture of its files
	Network
	Files
	Folder

	// Window describes the layers with a sliding window. The zero value is for families without them.
	Window Window
	// AttnSoftCap and LogitSoftCap bound the attention scores and the logits.
	AttnSoftCap, LogitSoftCap SoftCap
	// WideScaleLayers is the number of layers of the one size whose attention scores are scaled by 1/√(Hidden/Heads) instead of
	// 1/√HeadDim. llama.cpp recognises that model by this number. 0 for none.
	WideScaleLayers int
}

// Activation is the function inside an MLP, by its name in transformers.
type Activation string

// The activations. GELU is the approximation by tanh.
const (
	SiLU Activation = "silu"
	GELU Activation = "gelu_pytorch_tanh"
	ReLU Activation = "relu"
)

// Network describes how the layers of a family compute. With no flag set it is Llama's network: RMS norms before both blocks,
// rotary positions of adjacent channels, gated MLPs.
type Network struct {
	Activation Activation
	// Ungated MLPs are W_D·act(W_U·x + b): without W_G, with a bias on W_U.
	Ungated bool
	// LayerNorm: norms subtract the mean too and have biases besides gains.
	LayerNorm bool
	// QKNorm: RMS norms over each query and key head before rotation.
	QKNorm bool
	// PostNorms: the output of each block passes an RMS norm before it is added to the residual stream.
	PostNorms bool
	// HalfSplit: rotary pairs are (i, i+HeadDim/2), otherwise adjacent channels (2i, 2i+1).
	HalfSplit bool
	// LearnedPositions: row t of a table is added to the embedding of token t, and nothing is rotated.
	LearnedPositions bool
	// ScaledEmbedding: embeddings are multiplied by √Hidden.
	ScaledEmbedding bool
}

// Bias is where a family may have biases on W_Q, W_K and W_V.
type Bias uint8

// The rules for biases.
const (
	NoBias     Bias = iota // never
	HiddenBias             // only where W_Q has as many rows as the hidden size
	AnyBias                // on any number of rows
)

// Files describes the GGUF files of a family.
type Files struct {
	// Runs: llama.cpp has a runtime for them. Otherwise lathe alone reads them.
	Runs bool
	// Ragged is the architecture of files whose layers differ in their counts: the family's own where its files have one count for
	// each layer, that of another family with the same network, or "" where the layers of a subnet must be alike.
	Ragged string
	// NoAttention: layers other than the first may have no attention block.
	NoAttention bool
	// TiedOnly: the LM head is always the embedding.
	TiedOnly bool
	// FusedQKV: W_Q, W_K and W_V are one tensor.
	FusedQKV bool
	// QKVBias is where W_Q, W_K and W_V may have biases. OutBias: W_O and W_D may have biases.
	QKVBias Bias
	OutBias bool
	// FullQuery: W_Q always has as many rows as the hidden size.
	FullQuery bool
	// InHead: heads can be shorter than those of the dense model, with rotary frequencies of their own.
	InHead bool
}

// Folder describes the model folders that are converted to files of a family.
type Folder struct {
	Classes []string // architectures in config.json; nil where no folder is converted
	Names   *Names
	// Defaults of config.json; 0 for a required value. Without one here, NormEps is 1e-6 and RopeBase 10000.
	NormEps, RopeBase float64
	HeadDim           int
	Tied              bool
	// RequiredBias: W_Q, W_K and W_V must have biases. Otherwise they may.
	RequiredBias bool
	// Blocks: config.json has the counts of each layer, under block_configs.
	Blocks bool
	// UnusedPositions is the number of rows before that of the first position in the table of learned positions.
	UnusedPositions int
	// GainsLessOne: gains of norms are stored less one.
	GainsLessOne bool
}

// Names maps the names of modules in a folder to those of tensors in a file, both without ".weight" and ".bias".
type Names struct {
	Model  map[string]string // modules outside the layers
	Layers string            // prefix of a layer, before its number
	Layer  map[string]string // modules of a layer
}

// Window describes layers that attend only to the most recent tokens: all but every Period-th.
type Window struct {
	Period   int     // 0 for no such layers
	Size     int     // tokens where the file has no value; 0: such a file has no window
	RopeBase float64 // base of the rotary frequencies of these layers; 0 for that of the others
}

// Local reports whether a layer has a sliding window.
func (w Window) Local(layer int) bool { return w.Period > 0 && layer%w.Period != w.Period-1 }

// SoftCap describes a bound c on scores: x becomes c·tanh(x/c). The zero value is no bound.
type SoftCap struct {
	Default  float64 // where the file has no value; 0 for none
	Optional bool    // models without a bound exist
}

// Exists reports whether models of the family may have the bound.
func (c SoftCap) Exists() bool { return c.Optional || c.Default > 0 }

// PerLayer reports whether files of the family have counts for each layer.
func (f Family) PerLayer() bool { return f.Arch != "" && f.Ragged == f.Arch }

// AdjacentPairs reports whether rotary pairs are adjacent channels. In folders they are always halves.
func (n Network) AdjacentPairs() bool { return !n.HalfSplit && !n.LearnedPositions }

// AttnScale returns what the attention scores of a model are multiplied by, 0 for 1/√HeadDim. heads is the number of query heads
// of the first layer.
func (f Family) AttnScale(layers, hidden, heads int) float64 {
	if f.WideScaleLayers == 0 || layers != f.WideScaleLayers {
		return 0
	}
	return 1 / math.Sqrt(float64(hidden/max(heads, 1)))
}

// FamilyOf returns the family of an architecture. For an unknown one ok is false and the family has Llama's network and no more.
func FamilyOf(arch string) (f Family, ok bool) {
	found := find(arch)
	return *found, found != &unknown
}

// find is [FamilyOf] without a copy.
func find(arch string) *Family {
	for i := range families {
		if families[i].Arch == arch {
			return &families[i]
		}
	}
	return &unknown
}

var unknown = Family{Network: Network{Activation: SiLU}}

// Families returns all families that files can be read of.
func Families() []Family { return slices.Clone(families) }

// Architectures returns the names of all families.
func Architectures() []string {
	names := make([]string, len(families))
	for i, f := range families {
		names[i] = f.Arch
	}
	return names
}

// families is the table. It is never changed.
var families = []Family{
	{ // Llama, Mistral, TinyLlama, SmolLM2
		Arch:    "llama",
		Network: Network{Activation: SiLU},
		Files:   Files{Runs: true, Ragged: "deci", QKVBias: HiddenBias, OutBias: true, InHead: true},
		Folder:  Folder{Classes: []string{"LlamaForCausalLM", "MistralForCausalLM"}, Names: llamaNames()},
	},
	{ // Nemotron and subnets: Llama's network with counts for each layer
		Arch:    "deci",
		Network: Network{Activation: SiLU},
		Files:   Files{Runs: true, Ragged: "deci", NoAttention: true, QKVBias: HiddenBias, OutBias: true, InHead: true},
		Folder:  Folder{Classes: []string{"DeciLMForCausalLM"}, Names: llamaNames(), Blocks: true},
	},
	{
		Arch:    "qwen2",
		Network: Network{Activation: SiLU, HalfSplit: true},
		Files:   Files{Runs: true, Ragged: "deci", QKVBias: HiddenBias, FullQuery: true},
		Folder:  Folder{Classes: []string{"Qwen2ForCausalLM"}, Names: llamaNames(), RequiredBias: true},
	},
	{
		Arch:    "qwen3",
		Network: Network{Activation: SiLU, QKNorm: true, HalfSplit: true},
		Files:   Files{Runs: true, Ragged: "openelm"},
		Folder:  Folder{Classes: []string{"Qwen3ForCausalLM"}, Names: llamaNames()},
	},
	{ // subnets of tied Qwen3 models
		Arch:    "openelm",
		Network: Network{Activation: SiLU, QKNorm: true, HalfSplit: true},
		Files:   Files{Runs: true, Ragged: "openelm", TiedOnly: true, FusedQKV: true},
	},
	{
		Arch:            "gemma2",
		Network:         Network{Activation: GELU, PostNorms: true, HalfSplit: true, ScaledEmbedding: true},
		Files:           Files{Runs: true, TiedOnly: true},
		Folder:          Folder{Classes: []string{"Gemma2ForCausalLM"}, Names: gemmaNames(), HeadDim: 256, Tied: true, GainsLessOne: true},
		Window:          Window{Period: 2, Size: 4096},
		AttnSoftCap:     SoftCap{Default: 50},
		LogitSoftCap:    SoftCap{Default: 30},
		WideScaleLayers: 46,
	},
	{
		Arch:            "gemma3",
		Network:         Network{Activation: GELU, QKNorm: true, PostNorms: true, HalfSplit: true, ScaledEmbedding: true},
		Files:           Files{Runs: true},
		Folder:          Folder{Classes: []string{"Gemma3ForCausalLM"}, Names: gemmaNames(), RopeBase: 1e6, HeadDim: 256, Tied: true, GainsLessOne: true},
		Window:          Window{Period: 6, RopeBase: 10000},
		LogitSoftCap:    SoftCap{Optional: true},
		WideScaleLayers: 62,
	},
	{
		Arch:    "opt",
		Network: Network{Activation: ReLU, Ungated: true, LayerNorm: true, LearnedPositions: true},
		Files:   Files{Ragged: "opt", NoAttention: true, QKVBias: AnyBias, OutBias: true},
		Folder:  Folder{Classes: []string{"OPTForCausalLM"}, Names: optNames(), NormEps: 1e-5, Tied: true, RequiredBias: true, UnusedPositions: 2},
	},
}

func llamaNames() *Names {
	return &Names{
		Model:  map[string]string{"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"},
		Layers: "model.layers.",
		Layer: map[string]string{
			"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
			"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
			"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
			"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
		},
	}
}

func gemmaNames() *Names {
	names := llamaNames()
	names.Layer["post_attention_layernorm"] = "post_attention_norm"
	names.Layer["pre_feedforward_layernorm"] = "ffn_norm"
	names.Layer["post_feedforward_layernorm"] = "post_ffw_norm"
	return names
}

func optNames() *Names {
	return &Names{
		Model: map[string]string{
			"model.decoder.embed_tokens": "token_embd", "model.decoder.embed_positions": "position_embd",
			"model.decoder.final_layer_norm": "output_norm", "lm_head": "output",
		},
		Layers: "model.decoder.layers.",
		Layer: map[string]string{
			"self_attn_layer_norm": "attn_norm", "final_layer_norm": "ffn_norm", "fc1": "ffn_up", "fc2": "ffn_down",
			"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.out_proj": "attn_output",
		},
	}
}
