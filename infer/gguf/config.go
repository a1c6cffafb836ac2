package gguf

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Config holds the hyper-parameters of a model.
type Config struct {
	// Arch is the architecture of the file, such as llama; Name is the name of the model, possibly "".
	Arch, Name string
	// Hidden is the width of the residual stream, HeadDim that of one attention head, Context the longest sequence of the training.
	Hidden, Vocab, HeadDim, Context int
	// Layers holds the counts of every layer. Heads and KVHeads are 0 in a layer without attention.
	Layers []subnet.LayerGeometry
	// Network describes the layers, as in all models of the family.
	subnet.Network
	// NormEps is the constant under the square root of every norm.
	NormEps float64
	// RopeBase is the base of the rotary frequencies: pair i of RopeDims/2 rotates by position · base^(−2i/RopeDims) / RopeFactors[i].
	RopeBase float64
	RopeDims int // 0 for a model with Positions
	// RopeFactors divides the frequency of each pair; nil means 1 for all.
	RopeFactors []float32
	// RopeScale divides every position: 1 for none.
	RopeScale float64
	// Tied is true where the output matrix is the token embedding.
	Tied bool
	// QKVBias and OutBias report whether any layer has biases on Q, K and V, and on the output of attention or of the MLP.
	QKVBias, OutBias bool
	// AttnScale multiplies the attention scores before the softmax; 0 means 1/√HeadDim, as in nearly all models.
	AttnScale float64

	// EmbedScale multiplies the embeddings; 0 means 1.
	EmbedScale float64
	// AttnSoftCap and LogitSoftCap bound the attention scores and the logits: x becomes c·tanh(x/c). 0 means no bound.
	AttnSoftCap, LogitSoftCap float64
	// Local has true for layers that attend only to the last Window tokens, the present one included; nil for none. Their positions are not
	// scaled, and rotate with LocalRopeBase where that is not 0.
	Local         []bool
	Window        int
	LocalRopeBase float64
	// Positions is the number of rows of the table of learned positions, 0 for rotary positions.
	Positions int
}

// family returns the facts of the architecture.
func (c *Config) family() subnet.Family {
	f, _ := subnet.FamilyOf(c.Arch)
	return f
}

// Geometry returns the shape that masks over this model are bound to.
func (c Config) Geometry() subnet.Geometry {
	return subnet.Geometry{
		Arch: c.Arch, Hidden: c.Hidden, Vocab: c.Vocab, HeadDim: c.HeadDim,
		Tied: c.Tied, QKVBias: c.QKVBias, QKNorm: c.QKNorm, OutBias: c.OutBias,
		HalfSplit: c.HalfSplit, RopeFreqs: c.RopeFactors != nil, Positions: c.Positions,
		Layers: slices.Clone(c.Layers),
	}
}

// Config returns the hyper-parameters, checked against the tensors of the file. It wraps [ErrArchitecture] for a family or variant that
// is not supported, [ErrMissing] for a missing key or tensor and [ErrFormat] for an impossible value.
func (f *File) Config() (Config, error) {
	c, err := f.hyperparameters()
	if err != nil {
		return Config{}, fmt.Errorf("gguf: %s: %w", f.path, err)
	}
	if err := f.checkShapes(&c); err != nil {
		return Config{}, fmt.Errorf("gguf: %s: %w", f.path, err)
	}
	if f.Has("rope_freqs.weight") {
		if c.RopeFactors, _, err = f.Float32("rope_freqs.weight"); err != nil {
			return Config{}, err
		}
		for i, v := range c.RopeFactors {
			if !(v > 0) || math.IsInf(float64(v), 0) {
				return Config{}, fmt.Errorf("gguf: %s: tensor %q: factor %d is %v: %w", f.path, "rope_freqs.weight", i, v, ErrFormat)
			}
		}
	}
	return c, nil
}

// hyperparameters reads the metadata.
func (f *File) hyperparameters() (Config, error) {
	kv := f.KV()
	c := Config{}
	c.Arch, _ = kv.String("general.architecture")
	c.Name, _ = kv.String("general.name")
	family, known := subnet.FamilyOf(c.Arch)
	if !known {
		if c.Arch == "" {
			return c, fmt.Errorf("key %q: %w", "general.architecture", ErrMissing)
		}
		return c, fmt.Errorf("%w: %q (supported: %s)", ErrArchitecture, c.Arch, strings.Join(subnet.Architectures(), ", "))
	}
	if n, ok := kv.Uint("split.count"); ok && n > 1 {
		return c, fmt.Errorf("%w: the file is one of %d: join them with `llama-gguf-split --merge FIRST joined.gguf`, where FIRST is the one of number 1", ErrArchitecture, n)
	}
	if n, ok := kv.Uint(c.Arch + ".expert_count"); ok && n > 0 {
		return c, fmt.Errorf("%w: %q with %d experts", ErrArchitecture, c.Arch, n)
	}

	c.Network = family.Network
	h := hyper{kv: kv, arch: c.Arch}
	layers := h.count("block_count", subnet.MaxLayers)
	c.Hidden = h.count("embedding_length", subnet.MaxUnits)
	c.Context = h.count("context_length", math.MaxInt32)
	heads := h.perLayer("attention.head_count", layers, nil)
	kvHeads := h.perLayer("attention.head_count_kv", layers, heads)
	ffn := h.perLayer("feed_forward_length", layers, nil)
	epsilon := "attention.layer_norm_rms_epsilon"
	if c.LayerNorm {
		epsilon = "attention.layer_norm_epsilon"
	}
	if c.LearnedPositions {
		c.Positions = c.Context
	}
	if c.ScaledEmbedding {
		c.EmbedScale = math.Sqrt(float64(c.Hidden))
	}
	c.NormEps = h.float(epsilon, 0, true)
	if h.err != nil {
		return c, h.err
	}
	if heads[0] == 0 {
		return c, fmt.Errorf("%w: the first layer has no attention", ErrArchitecture)
	}
	for i := range layers {
		c.Layers = append(c.Layers, subnet.LayerGeometry{Heads: heads[i], KVHeads: kvHeads[i], FFN: ffn[i]})
		switch {
		case heads[i] > 0 && kvHeads[i] == 0:
			return c, fmt.Errorf("%w: layer %d has linear attention", ErrArchitecture, i)
		case heads[i] > 0 && ffn[i] == 0:
			return c, fmt.Errorf("%w: layer %d has attention and no MLP", ErrArchitecture, i)
		}
	}

	c.HeadDim = h.countOr("attention.key_length", c.Hidden/heads[0], subnet.MaxUnits)
	if v := h.countOr("attention.value_length", c.Hidden/heads[0], subnet.MaxUnits); h.err == nil && v != c.HeadDim {
		return c, fmt.Errorf("%w: heads of %d channels in K and %d in V", ErrArchitecture, c.HeadDim, v)
	}
	if family.Window.Period > 0 {
		h.scores(&c, family)
	}
	if !c.LearnedPositions {
		h.rope(&c)
	}
	if h.err == nil && !(c.NormEps >= 0) {
		h.err = fmt.Errorf("norm epsilon %v: %w", c.NormEps, ErrFormat)
	}
	return c, h.err
}

// rope reads the rotary parameters.
func (h *hyper) rope(c *Config) {
	c.RopeDims = h.countOr("rope.dimension_count", c.HeadDim, subnet.MaxUnits)
	c.RopeBase = h.float("rope.freq_base", 10000, false)
	c.RopeScale = h.ropeScale()
	factor := h.float("rope.scaling.attn_factor", 1, false)
	switch {
	case h.err != nil:
	case factor != 1:
		h.err = fmt.Errorf("%w: %q with rope scaling that multiplies the attention scores by %v", ErrArchitecture, c.Arch, factor)
	case c.RopeDims != c.HeadDim || c.HeadDim%2 != 0:
		h.err = fmt.Errorf("%w: rotation over %d of the %d channels of a head", ErrArchitecture, c.RopeDims, c.HeadDim)
	case !(c.RopeBase > 0) || !(c.RopeScale > 0):
		h.err = fmt.Errorf("rope base %v, rope scale %v: %w", c.RopeBase, c.RopeScale, ErrFormat)
	}
}

// hyper reads the keys of one architecture. It keeps its first error.
type hyper struct {
	kv   *KV
	arch string
	err  error
}

func (h *hyper) fail(key, format string, args ...any) {
	if h.err == nil {
		h.err = fmt.Errorf("key %q: "+format, append([]any{h.arch + "." + key}, args...)...)
	}
}

// count reads a whole number from 1 to limit.
func (h *hyper) count(key string, limit int) int {
	n, ok := h.kv.Uint(h.arch + "." + key)
	switch {
	case !h.kv.Has(h.arch + "." + key):
		h.fail(key, "%w", ErrMissing)
	case !ok || n == 0 || n > uint64(limit):
		v, _ := h.kv.Value(h.arch + "." + key)
		h.fail(key, "%v is not from 1 to %d: %w", v, limit, ErrFormat)
		return 0
	}
	return int(n)
}

func (h *hyper) countOr(key string, otherwise, limit int) int {
	if !h.kv.Has(h.arch + "." + key) {
		return otherwise
	}
	return h.count(key, limit)
}

// perLayer reads one number for all layers or a list with one for each; 0 is allowed. With a nil otherwise the key is required.
func (h *hyper) perLayer(key string, layers int, otherwise []int) []int {
	if !h.kv.Has(h.arch + "." + key) {
		if otherwise == nil {
			h.fail(key, "%w", ErrMissing)
		}
		return otherwise
	}
	list, ok := h.kv.Ints(h.arch + "." + key)
	if !ok {
		n, scalar := h.kv.Int(h.arch + "." + key)
		if !scalar {
			h.fail(key, "neither a number nor a list of numbers: %w", ErrFormat)
			return nil
		}
		list = slices.Repeat([]int64{n}, layers)
	}
	if len(list) != layers {
		h.fail(key, "%d values for %d layers: %w", len(list), layers, ErrFormat)
		return nil
	}
	out := make([]int, layers)
	for i, n := range list {
		if n < 0 || n > subnet.MaxUnits {
			h.fail(key, "%d in layer %d is not from 0 to %d: %w", n, i, subnet.MaxUnits, ErrFormat)
			return nil
		}
		out[i] = int(n)
	}
	return out
}

func (h *hyper) float(key string, otherwise float64, required bool) float64 {
	if !h.kv.Has(h.arch + "." + key) {
		if required {
			h.fail(key, "%w", ErrMissing)
		}
		return otherwise
	}
	v, ok := h.kv.Float(h.arch + "." + key)
	if !ok || math.IsNaN(v) || math.IsInf(v, 0) {
		h.fail(key, "not a finite number: %w", ErrFormat)
	}
	return v
}

// ropeScale returns the divisor of positions.
func (h *hyper) ropeScale() float64 {
	kind := "linear"
	if s, ok := h.kv.String(h.arch + ".rope.scaling.type"); ok {
		kind = s
	}
	switch kind {
	case "none":
		return 1
	case "linear":
		scale := h.float("rope.scaling.factor", h.float("rope.scale_linear", 1, false), false)
		if scale == 0 {
			return 1
		}
		return scale
	}
	if h.err == nil {
		h.err = fmt.Errorf("%w: %q with rope scaling %q", ErrArchitecture, h.arch, kind)
	}
	return 1
}
