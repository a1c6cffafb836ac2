package convert

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// familyOf returns the family of a class of transformers.
func familyOf(class string) (subnet.Family, bool) {
	all := subnet.Families()
	i := slices.IndexFunc(all, func(f subnet.Family) bool { return slices.Contains(f.Classes, class) })
	if i < 0 {
		return subnet.Family{}, false
	}
	return all[i], true
}

// classes returns the classes of transformers that can be converted.
func classes() []string {
	var names []string
	for _, f := range subnet.Families() {
		names = append(names, f.Classes...)
	}
	slices.Sort(names)
	return names
}

// checkWindow rejects sliding windows and scales of scores that llama.cpp does not compute.
func (c *config) checkWindow() error {
	f := c.family
	scalar := float64(c.HeadDim)
	if scale := f.AttnScale(c.Layers, c.Hidden, c.Heads); scale != 0 {
		scalar = 1 / (scale * scale)
	}
	switch {
	case c.QueryScalar != 0 && math.Abs(c.QueryScalar-scalar) > 1e-6*scalar:
		return fmt.Errorf("%w: query_pre_attn_scalar is %v, llama.cpp uses %v", ErrUnsupported, c.QueryScalar, scalar)
	case c.SlidingWindow < 1:
		return fmt.Errorf("%w: sliding_window is %d", ErrFormat, c.SlidingWindow)
	case f.Window.RopeBase != 0 && c.LocalRopeBase != f.Window.RopeBase:
		return fmt.Errorf("%w: rope_local_base_freq is %v, llama.cpp uses %v", ErrUnsupported, c.LocalRopeBase, f.Window.RopeBase)
	case c.WindowPeriod != 0 && c.WindowPeriod != f.Window.Period:
		return fmt.Errorf("%w: sliding_window_pattern is %d, llama.cpp uses %d", ErrUnsupported, c.WindowPeriod, f.Window.Period)
	}
	for i, kind := range c.LayerTypes {
		want := "full_attention"
		if f.Window.Local(i) {
			want = "sliding_attention"
		}
		if kind != want {
			return fmt.Errorf("%w: layer %d is %.40q in layer_types, llama.cpp uses %q", ErrUnsupported, i, kind, want)
		}
	}
	for _, bound := range []struct {
		name  string
		value *float64
		soft  subnet.SoftCap
	}{{"attn_logit_softcapping", c.AttnSoftCap, f.AttnSoftCap}, {"final_logit_softcapping", c.LogitSoftCap, f.LogitSoftCap}} {
		switch {
		case bound.value == nil && bound.soft.Default > 0:
			return fmt.Errorf("%w: %s without %s", ErrUnsupported, f.Arch, bound.name)
		case bound.value != nil && !bound.soft.Exists():
			return fmt.Errorf("%w: %s in %s", ErrUnsupported, bound.name, f.Arch)
		case bound.value != nil && !(*bound.value > 0):
			return fmt.Errorf("%w: %s is %v", ErrFormat, bound.name, *bound.value)
		}
	}
	return nil
}

// tensorName returns the name in the file of a tensor of the folder, "" for one that the file does not need, and false for one that the
// network does not have. Some folders leave out the "model." in front.
func (c *config) tensorName(name string) (string, bool) {
	at := strings.LastIndexByte(name, '.')
	if at < 0 {
		return "", false
	}
	module, kind := name[:at], name[at:]
	if module != "lm_head" && !strings.HasPrefix(module, "model.") {
		module = "model." + module
	}
	if kind == ".inv_freq" && strings.HasSuffix(module, ".self_attn.rotary_emb") {
		return "", !c.family.LearnedPositions
	}
	if kind != ".weight" && kind != ".bias" {
		return "", false
	}
	if short, ok := c.family.Names.Model[module]; ok {
		return short + kind, true
	}
	rest, ok := strings.CutPrefix(module, c.family.Names.Layers)
	if !ok {
		return "", false
	}
	layer, module, _ := strings.Cut(rest, ".")
	short, ok := c.family.Names.Layer[module]
	return "blk." + layer + "." + short + kind, ok
}
