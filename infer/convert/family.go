package convert

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// family is how the weights of one class of transformers become a file.
type family struct {
	class   string
	arch    string
	permute bool // rotary pairs are halves in the folder and neighbours in the file
	norms   bool // norms on the heads of Q and K
	period  int  // of Gemma: every so-manieth layer has no window
}

// classLlama is the class of most models.
const classLlama = "LlamaForCausalLM"

func families() map[string]family {
	return map[string]family{
		classLlama:           {arch: "llama", permute: true},
		classDeciLM:          {arch: "deci", permute: true},
		"MistralForCausalLM": {arch: "llama", permute: true},
		"Qwen2ForCausalLM":   {arch: "qwen2"},
		"Qwen3ForCausalLM":   {arch: "qwen3", norms: true},
		"Gemma2ForCausalLM":  {arch: "gemma2", period: 2},
		"Gemma3ForCausalLM":  {arch: "gemma3", norms: true, period: 6},
		"OPTForCausalLM":     {arch: archOPT},
	}
}

func familyOf(class string) (family, bool) {
	f, ok := families()[class]
	f.class = class
	return f, ok
}

// classes are the names that transformers gives the families.
func classes() []string { return slices.Sorted(maps.Keys(families())) }

// gemma reports whether blocks have norms behind them too, whose gains are stored less one.
func (f family) gemma() bool { return f.period > 0 }

func (f family) activation() string {
	switch {
	case f.gemma():
		return "gelu_pytorch_tanh"
	case f.opt():
		return "relu"
	}
	return "silu"
}

// Gemma's constants that llama.cpp does not read from a file.
const (
	gemmaHeadDim   = 256
	gemmaLocalBase = 10000
)

// presetGemma sets what a configuration leaves out where it is as usual.
func (c *config) presetGemma() {
	c.Tied, c.HeadDim, c.Activation, c.LocalRopeBase = true, gemmaHeadDim, c.family.activation(), gemmaLocalBase
	if c.family.arch == "gemma3" {
		c.RopeTheta = 1e6
		return
	}
	attn, logit := 50.0, 30.0
	c.SlidingWindow, c.AttnSoftCap, c.LogitSoftCap = 4096, &attn, &logit
}

// checkGemma refuses what llama.cpp would compute otherwise.
func (c *config) checkGemma() error {
	scale := float64(c.HeadDim)
	if c.family.arch == "gemma2" && c.Layers == 46 || c.family.arch == "gemma3" && c.Layers == 62 {
		scale = float64(c.Hidden / c.Heads) // the largest Gemmas
	}
	switch {
	case c.QueryScalar != 0 && math.Abs(c.QueryScalar-scale) > 1e-6*scale:
		return fmt.Errorf("%w: query_pre_attn_scalar %v, where llama.cpp takes %v", ErrUnsupported, c.QueryScalar, scale)
	case c.SlidingWindow < 1:
		return fmt.Errorf("%w: sliding_window is %d", ErrFormat, c.SlidingWindow)
	case c.family.arch == "gemma3" && c.LocalRopeBase != gemmaLocalBase:
		return fmt.Errorf("%w: rope_local_base_freq %v, where llama.cpp takes %d", ErrUnsupported, c.LocalRopeBase, gemmaLocalBase)
	case c.family.arch == "gemma3" && c.AttnSoftCap != nil:
		return fmt.Errorf("%w: attn_logit_softcapping in gemma3", ErrUnsupported)
	case c.WindowPeriod != 0 && c.WindowPeriod != c.family.period:
		return fmt.Errorf("%w: sliding_window_pattern %d, where llama.cpp takes %d", ErrUnsupported, c.WindowPeriod, c.family.period)
	}
	for i, kind := range c.LayerTypes {
		want := "sliding_attention"
		if i%c.family.period == c.family.period-1 {
			want = "full_attention"
		}
		if kind != want {
			return fmt.Errorf("%w: layer_types has layer %d as %.40q, where llama.cpp takes %q", ErrUnsupported, i, kind, want)
		}
	}
	for name, limit := range map[string]*float64{"attn_logit_softcapping": c.AttnSoftCap, "final_logit_softcapping": c.LogitSoftCap} {
		if limit == nil && c.family.arch == "gemma2" {
			return fmt.Errorf("%w: gemma2 without %s", ErrUnsupported, name)
		}
		if limit != nil && !(*limit > 0) {
			return fmt.Errorf("%w: %s is %v", ErrFormat, name, *limit)
		}
	}
	return nil
}

// weightName returns the name in the file of a tensor of the folder, "" for one that is not needed, and false for one that the network has not.
func (f family) weightName(name string) (string, bool) {
	if f.opt() {
		return optWeightName(name)
	}
	switch name {
	case "model.embed_tokens.weight":
		return "token_embd.weight", true
	case "model.norm.weight":
		return "output_norm.weight", true
	case "lm_head.weight":
		return "output.weight", true
	}
	layer, module, kind, ok := splitName(name, "model.layers.")
	if !ok {
		return "", false
	}
	if module == "self_attn.rotary_emb" {
		return "", kind == ".inv_freq"
	}
	if kind != ".weight" && kind != ".bias" {
		return "", false
	}
	short, ok := f.moduleName(module)
	return "blk." + layer + "." + short + kind, ok
}

// splitName splits the name of a tensor in a layer, such as "model.layers.3.mlp.up_proj.weight", into the layer, the module and
// ".weight" or what else it is of that.
func splitName(name, layers string) (layer, module, kind string, ok bool) {
	rest, ok := strings.CutPrefix(name, layers)
	if !ok {
		return "", "", "", false
	}
	layer, rest, _ = strings.Cut(rest, ".")
	at := strings.LastIndexByte(rest, '.')
	if at < 0 {
		return "", "", "", false
	}
	return layer, rest[:at], rest[at:], true
}

func (f family) moduleName(module string) (string, bool) {
	if f.gemma() {
		switch module {
		case "post_attention_layernorm":
			return "post_attention_norm", true
		case "pre_feedforward_layernorm":
			return "ffn_norm", true
		case "post_feedforward_layernorm":
			return "post_ffw_norm", true
		}
	}
	short, ok := map[string]string{
		"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
		"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
		"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
		"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
	}[module]
	return short, ok
}
