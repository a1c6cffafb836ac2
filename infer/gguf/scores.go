package gguf

import (
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// scores reads how a family whose layers have a sliding window scales and bounds its scores, once the counts are known.
func (h *hyper) scores(c *Config, f subnet.Family) {
	layers := len(c.Layers)
	for i, l := range c.Layers {
		if l != c.Layers[0] && h.err == nil {
			h.err = fmt.Errorf("%w: %q with different counts in layers 0 and %d", ErrArchitecture, c.Arch, i)
		}
	}
	c.AttnScale = f.AttnScale(layers, c.Hidden, c.Layers[0].Heads)
	c.AttnSoftCap = h.softCap("attn_logit_softcapping", f.AttnSoftCap)
	c.LogitSoftCap = h.softCap("final_logit_softcapping", f.LogitSoftCap)
	if n, _ := h.kv.Uint(c.Arch + ".attention.sliding_window"); n > 0 || f.Window.Size > 0 {
		c.Window = h.countOr("attention.sliding_window", f.Window.Size, math.MaxInt32)
	}
	if c.Window == 0 {
		return
	}
	c.LocalRopeBase = f.Window.RopeBase
	for i := range layers {
		c.Local = append(c.Local, f.Window.Local(i))
	}
	h.checkLocal(c)
}

// softCap reads a bound on scores, 0 for none.
func (h *hyper) softCap(key string, c subnet.SoftCap) float64 {
	if !c.Exists() {
		return 0
	}
	v := h.float(key, c.Default, false)
	if !(v > 0 || v == 0 && c.Optional) {
		h.fail(key, "a bound of %v: %w", v, ErrFormat)
	}
	return v
}

// checkLocal rejects files whose metadata asks for what llama.cpp does not compute.
func (h *hyper) checkLocal(c *Config) {
	for _, key := range []string{"rope.local.freq_base", "rope.freq_base_swa"} {
		if base := h.float(key, c.LocalRopeBase, false); base != c.LocalRopeBase {
			h.fail(key, "%w: layers with a sliding window rotate with a base of %v", ErrArchitecture, base)
		}
	}
	const key = "attention.sliding_window_pattern"
	value, _ := h.kv.Value(c.Arch + "." + key)
	if pattern, ok := value.([]bool); ok && !slices.Equal(pattern, c.Local) {
		h.fail(key, "%w: the sliding windows are not in llama.cpp's order of layers", ErrArchitecture)
	}
}
