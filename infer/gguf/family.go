package gguf

import (
	"fmt"
	"math"
	"slices"
)

// The architectures that [File.Config] reads.
const (
	archLlama   = "llama"   // Llama, Mistral, TinyLlama, SmolLM2: the same counts in all layers
	archDeci    = "deci"    // the same network with counts of each layer its own
	archQwen2   = "qwen2"   // biases on Q, K and V; rotary pairs in halves
	archQwen3   = "qwen3"   // norms on Q and K; rotary pairs in halves
	archOpenELM = "openelm" // counts of each layer its own, norms on Q and K, rotary pairs in halves, output tied
	archGemma2  = "gemma2"  // norms behind the blocks, GELU, capped scores, every second layer without a window
	archGemma3  = "gemma3"  // the same with norms on Q and K in place of caps, every sixth layer without a window
	archOPT     = "opt"     // LayerNorms, learned positions, MLPs without a gate, biases everywhere; llama.cpp does not know it
)

// Architectures lists those that [File.Config] reads.
func Architectures() []string {
	return []string{archLlama, archDeci, archQwen2, archQwen3, archOpenELM, archGemma2, archGemma3, archOPT}
}

// Runs reports whether llama.cpp has a runtime for an architecture of those listed. Files of the others hold what the decoder computes with.
func Runs(arch string) bool { return arch != archOPT }

// normsHeads reports whether an architecture norms the heads of Q and K before they are rotated.
func normsHeads(arch string) bool {
	return arch == archQwen3 || arch == archOpenELM || arch == archGemma3
}

// postNorms reports whether an architecture norms what its blocks say before it is added.
func postNorms(arch string) bool { return arch == archGemma2 || arch == archGemma3 }

// splitsHalves reports whether an architecture's rotary pairs are in halves.
func splitsHalves(arch string) bool { return arch == archQwen2 || normsHeads(arch) || postNorms(arch) }

// perLayer reports whether files of an architecture may give each layer counts of its own.
func perLayer(arch string) bool { return arch == archDeci || arch == archOpenELM || arch == archOPT }

// Gemma's layers look back over a window but for every period-th, whose positions turn at a base of their own in Gemma 3.
const (
	gemma2Period, gemma2Window = 2, 4096
	gemma3Period, gemma3Base   = 6, 10000
	gemma2AttnCap              = 50
	gemma2LogitCap             = 30
)

// attnScale is what llama.cpp multiplies the scores of a model by, 0 for 1/√HeadDim. It knows the largest Gemmas, whose
// scale is another, by the number of their layers.
func attnScale(arch string, layers, hidden, heads int) float64 {
	if arch == archGemma2 && layers == 46 || arch == archGemma3 && layers == 62 {
		return 1 / math.Sqrt(float64(hidden/max(heads, 1)))
	}
	return 0
}

// gemma reads what Gemma has besides, once the counts are known.
func (h *hyper) gemma(c *Config) {
	layers := len(c.Layers)
	for i, l := range c.Layers {
		if l != c.Layers[0] && h.err == nil {
			h.err = fmt.Errorf("%w: %q with other counts in layer %d than in the first", ErrArchitecture, c.Arch, i)
		}
	}
	c.PostNorms, c.GELU, c.EmbedScale = true, true, math.Sqrt(float64(c.Hidden))
	c.AttnScale = attnScale(c.Arch, layers, c.Hidden, c.Layers[0].Heads)
	period := gemma3Period
	if c.Arch == archGemma2 {
		period = gemma2Period
		c.AttnSoftCap = h.float("attn_logit_softcapping", gemma2AttnCap, false)
		c.LogitSoftCap = h.float("final_logit_softcapping", gemma2LogitCap, false)
		c.Window = h.countOr("attention.sliding_window", gemma2Window)
	} else {
		c.LogitSoftCap = h.float("final_logit_softcapping", 0, false)
		if n, ok := h.kv.Uint(h.arch + ".attention.sliding_window"); ok && n > 0 {
			c.Window, c.LocalRopeBase = h.count("attention.sliding_window", math.MaxInt32), gemma3Base
		}
	}
	if !(c.AttnSoftCap >= 0) || !(c.LogitSoftCap >= 0) || c.Arch == archGemma2 && (c.AttnSoftCap == 0 || c.LogitSoftCap == 0) {
		h.fail("attn_logit_softcapping", "caps of %v on scores and %v on logits: %w", c.AttnSoftCap, c.LogitSoftCap, ErrFormat)
	}
	if c.Window == 0 {
		return
	}
	for i := range layers {
		c.Local = append(c.Local, i%period < period-1)
	}
	h.checkGemma(c)
}

// checkGemma refuses files whose metadata says what llama.cpp would not heed.
func (h *hyper) checkGemma(c *Config) {
	for _, key := range []string{"rope.local.freq_base", "rope.freq_base_swa"} {
		if base := h.float(key, c.LocalRopeBase, false); base != c.LocalRopeBase && h.err == nil {
			h.err = fmt.Errorf("key %q: %w: layers with a window turn at a base of %v", h.arch+"."+key, ErrArchitecture, base)
		}
	}
	value, ok := h.kv.Value(h.arch + ".attention.sliding_window_pattern")
	if pattern, isList := value.([]bool); ok && isList && !slices.Equal(pattern, c.Local) && h.err == nil {
		h.err = fmt.Errorf("key %q: %w: another order of layers than llama.cpp's", h.arch+".attention.sliding_window_pattern", ErrArchitecture)
	}
}
