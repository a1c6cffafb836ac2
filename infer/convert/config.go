package convert

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Limits on the files of a folder, far above those of any model in use.
const (
	maxJSONBytes      = 256 << 20 // config.json, tokenizer.json and their like
	maxHeaderBytes    = 64 << 20  // of a safetensors file
	maxTokenizerBytes = 256 << 20
	maxVocab          = 1 << 24
)

// config holds config.json.
type config struct {
	Hidden           int             `json:"hidden_size"`
	FFN              int             `json:"intermediate_size"`
	Layers           int             `json:"num_hidden_layers"`
	Heads            int             `json:"num_attention_heads"`
	KVHeads          int             `json:"num_key_value_heads"`
	HeadDim          int             `json:"head_dim"`
	Context          int             `json:"max_position_embeddings"`
	VocabSize        int             `json:"vocab_size"`
	NormEps          float64         `json:"rms_norm_eps"`
	RopeTheta        float64         `json:"rope_theta"`
	Tied             bool            `json:"tie_word_embeddings"`
	Activation       string          `json:"hidden_act"`
	Activation2      string          `json:"hidden_activation"` // Gemma's name of hidden_act
	SlidingWindow    int             `json:"sliding_window"`
	UseSlidingWindow *bool           `json:"use_sliding_window"`
	Quantization     json.RawMessage `json:"quantization_config"`
	RopeScaling      *ropeScaling    `json:"rope_scaling"`
	RopeParameters   json.RawMessage `json:"rope_parameters"` // the name in newer versions, which includes the base

	Blocks []blockConfig `json:"block_configs"` // of DeciLM

	// Of Gemma.
	QueryScalar   float64  `json:"query_pre_attn_scalar"`
	AttnSoftCap   *float64 `json:"attn_logit_softcapping"`
	LogitSoftCap  *float64 `json:"final_logit_softcapping"`
	WindowPeriod  int      `json:"sliding_window_pattern"`
	LayerTypes    []string `json:"layer_types"`
	LocalRopeBase float64  `json:"rope_local_base_freq"`

	optConfig

	family subnet.Family
	layers []shape // of the file
}

type ropeScaling struct {
	Type     string  `json:"type"`
	RopeType string  `json:"rope_type"`
	Theta    float64 `json:"rope_theta"`
	Factor   float64 `json:"factor"`
	Low      float64 `json:"low_freq_factor"`
	High     float64 `json:"high_freq_factor"`
	Original float64 `json:"original_max_position_embeddings"`
}

// readConfig reads and checks config.json.
func readConfig(dir string) (*config, error) {
	b, err := readLimited(filepath.Join(dir, "config.json"), maxJSONBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no config.json: expected a folder as transformers writes it", ErrFormat)
	}
	if err != nil {
		return nil, err
	}
	c, err := parseConfig(b)
	if err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	return c, nil
}

func parseConfig(b []byte) (*config, error) {
	var class struct {
		Architectures []string `json:"architectures"`
	}
	if err := unmarshal(b, &class); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	c := &config{}
	ok := false
	if len(class.Architectures) == 1 {
		c.family, ok = familyOf(class.Architectures[0])
	}
	if !ok {
		return nil, fmt.Errorf("%w: architectures %.200q (supported: %s)", ErrUnsupported, class.Architectures, strings.Join(classes(), ", "))
	}
	c.preset()
	if err := unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if len(c.Quantization) > 0 && string(c.Quantization) != "null" {
		return nil, fmt.Errorf("%w: the weights are quantised: convert the original model", ErrUnsupported)
	}
	if c.Activation2 != "" {
		c.Activation = c.Activation2
	}
	if c.isOPT() {
		if err := c.checkOPT(); err != nil {
			return nil, err
		}
	}
	if c.Activation != string(c.family.Activation) {
		return nil, fmt.Errorf("%w: hidden_act %.40q", ErrUnsupported, c.Activation)
	}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.Hidden / c.Heads
	}
	if err := c.readRope(); err != nil {
		return nil, err
	}
	for _, n := range []struct {
		name         string
		value, limit int
	}{
		{"hidden_size", c.Hidden, subnet.MaxUnits}, {"num_hidden_layers", c.Layers, subnet.MaxLayers},
		{"num_attention_heads", c.Heads, subnet.MaxUnits}, {"num_key_value_heads", c.KVHeads, c.Heads}, {"head_dim", c.HeadDim, subnet.MaxUnits},
		{"max_position_embeddings", c.Context, math.MaxInt32}, {"vocab_size", c.VocabSize, maxVocab},
	} {
		if n.value < 1 || n.value > n.limit {
			return nil, fmt.Errorf("%w: %s is %d, not 1 to %d", ErrFormat, n.name, n.value, n.limit)
		}
	}
	if !c.family.Blocks && (c.FFN < 1 || c.FFN > subnet.MaxUnits) {
		return nil, fmt.Errorf("%w: intermediate_size is %d, not 1 to %d", ErrFormat, c.FFN, subnet.MaxUnits)
	}
	if c.Heads%c.KVHeads != 0 || c.HeadDim%2 != 0 {
		return nil, fmt.Errorf("%w: %d query heads of %d on %d KV heads", ErrFormat, c.Heads, c.HeadDim, c.KVHeads)
	}
	if !(c.NormEps >= 0) || !(c.RopeTheta > 0) {
		return nil, fmt.Errorf("%w: rms_norm_eps %v, rope_theta %v", ErrFormat, c.NormEps, c.RopeTheta)
	}
	if c.family.Window.Period > 0 {
		if err := c.checkWindow(); err != nil {
			return nil, err
		}
	} else if c.SlidingWindow > 0 && (c.UseSlidingWindow == nil || *c.UseSlidingWindow) {
		c.Context = min(c.Context, c.SlidingWindow) // up to that length a window has no effect
	}
	var err error
	if c.layers, err = c.shapes(); err != nil {
		return nil, err
	}
	return c, c.checkRope()
}

// preset sets the defaults of config.json, as in transformers.
func (c *config) preset() {
	f := c.family
	c.Activation, c.Tied, c.HeadDim = string(f.Activation), f.Tied, f.HeadDim
	c.NormEps, c.RopeTheta = cmp.Or(f.NormEps, 1e-6), cmp.Or(f.Folder.RopeBase, 10000)
	c.SlidingWindow, c.LocalRopeBase = f.Window.Size, f.Window.RopeBase
	if bound := f.AttnSoftCap.Default; bound > 0 {
		c.AttnSoftCap = &bound
	}
	if bound := f.LogitSoftCap.Default; bound > 0 {
		c.LogitSoftCap = &bound
	}
	c.optConfig = optConfig{Activation3: c.Activation, NormBefore: true, EnableBias: true, NormAffine: true}
}

// readRope reads the rotary parameters of newer versions: one set, or one for each kind of layer.
func (c *config) readRope() error {
	if len(c.RopeParameters) == 0 || string(c.RopeParameters) == "null" {
		return nil
	}
	var kinds struct {
		Full  *ropeScaling `json:"full_attention"`
		Local *ropeScaling `json:"sliding_attention"`
	}
	one := &ropeScaling{}
	err := unmarshal(c.RopeParameters, one)
	if err == nil {
		err = unmarshal(c.RopeParameters, &kinds)
	}
	if err != nil {
		return fmt.Errorf("%w: rope_parameters: %w", ErrFormat, err)
	}
	if kinds.Full != nil {
		one = kinds.Full
	}
	if kinds.Local != nil && kinds.Local.Theta != 0 {
		c.LocalRopeBase = kinds.Local.Theta
	}
	c.RopeScaling = one
	if one.Theta != 0 {
		c.RopeTheta = one.Theta
	}
	return nil
}

func (c *config) ropeKind() string {
	if c.RopeScaling == nil {
		return "default"
	}
	if c.RopeScaling.RopeType != "" {
		return c.RopeScaling.RopeType
	}
	if c.RopeScaling.Type != "" {
		return c.RopeScaling.Type
	}
	return "default"
}

func (c *config) checkRope() error {
	s := c.RopeScaling
	switch kind := c.ropeKind(); kind {
	case "default":
	case "linear":
		if !(s.Factor > 0) {
			return fmt.Errorf("%w: rope scaling by %v", ErrFormat, s.Factor)
		}
	case "llama3":
		if !(s.Factor > 0) || !(s.Low > 0) || !(s.High > s.Low) || !(s.Original > 0) {
			return fmt.Errorf("%w: rope scaling %+v", ErrFormat, *s)
		}
		if !c.family.AdjacentPairs() {
			return fmt.Errorf("%w: rope scaling %q in %s", ErrUnsupported, kind, c.family.Arch)
		}
	default:
		return fmt.Errorf("%w: rope scaling %.40q", ErrUnsupported, kind)
	}
	return nil
}

// ropeFactors returns the divisors of the frequencies of the rotary pairs in Llama 3, nil for other models: 1 for wavelengths well inside the
// original context, the factor for those well beyond it, and a blend in between.
func (c *config) ropeFactors() []float32 {
	if c.ropeKind() != "llama3" {
		return nil
	}
	s := c.RopeScaling
	factors := make([]float32, c.HeadDim/2)
	for i := range factors {
		turns := s.Original / (2 * math.Pi * math.Pow(c.RopeTheta, 2*float64(i)/float64(c.HeadDim)))
		switch blend := (turns - s.Low) / (s.High - s.Low); {
		case blend >= 1:
			factors[i] = 1
		case blend <= 0:
			factors[i] = float32(s.Factor)
		default:
			factors[i] = float32(1 / ((1-blend)/s.Factor + blend))
		}
	}
	return factors
}

// metadata sets the keys of the network.
func (c *config) metadata(kv *gguf.KV, name string) error {
	var err error
	set := func(key string, value any) {
		if err == nil {
			err = kv.Set(key, value)
		}
	}
	own := func(key string, value any) { set(c.family.Arch+"."+key, value) }
	set("general.architecture", c.family.Arch)
	set("general.name", name)
	own("block_count", uint32(len(c.layers)))
	own("context_length", uint32(c.Context))
	own("embedding_length", uint32(c.Hidden))
	perLayer := func(key string, n func(shape) int) {
		if !c.family.Blocks {
			own(key, uint32(n(c.layers[0])))
			return
		}
		list := make([]int32, len(c.layers))
		for i, l := range c.layers {
			list[i] = int32(n(l))
		}
		own(key, list)
	}
	perLayer("feed_forward_length", func(l shape) int { return l.FFN })
	perLayer("attention.head_count", func(l shape) int { return l.Heads })
	perLayer("attention.head_count_kv", func(l shape) int { return l.KVHeads })
	own("attention.key_length", uint32(c.HeadDim))
	own("attention.value_length", uint32(c.HeadDim))
	own("vocab_size", uint32(c.VocabSize))
	if c.family.LayerNorm {
		own("attention.layer_norm_epsilon", float32(c.NormEps))
	} else {
		own("attention.layer_norm_rms_epsilon", float32(c.NormEps))
	}
	if !c.family.LearnedPositions {
		own("rope.dimension_count", uint32(c.HeadDim))
		own("rope.freq_base", float32(c.RopeTheta))
	}
	if c.ropeKind() == "linear" {
		own("rope.scaling.type", "linear")
		own("rope.scaling.factor", float32(c.RopeScaling.Factor))
	}
	if c.family.Window.Period > 0 {
		own("attention.sliding_window", uint32(c.SlidingWindow))
	}
	if c.AttnSoftCap != nil {
		own("attn_logit_softcapping", float32(*c.AttnSoftCap))
	}
	if c.LogitSoftCap != nil {
		own("final_logit_softcapping", float32(*c.LogitSoftCap))
	}
	return err
}

// readLimited reads a file of at most limit bytes. Its errors name the file without its folder.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: %w: larger than %d bytes", filepath.Base(path), ErrFormat, limit)
	}
	return b, nil
}
