package convert

import (
	"fmt"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// blockConfig describes one layer in block_configs.
type blockConfig struct {
	Attention blockAttention `json:"attention"`
	FFN       blockFFN       `json:"ffn"`
}

type blockAttention struct {
	NoOp   bool `json:"no_op"`
	Linear bool `json:"replace_with_linear"`
	// Group is the number of query heads that share a KV head, nil without attention. KVHeads is the alternative.
	Group   *int `json:"n_heads_in_group"`
	KVHeads int  `json:"num_key_value_heads,omitempty"`
}

type blockFFN struct {
	NoOp   bool `json:"no_op"`
	Linear bool `json:"replace_with_linear"`
	// Width is the number of channels. Mult is the alternative, see channels.
	Width int      `json:"intermediate_size,omitempty"`
	Mult  *float64 `json:"ffn_mult,omitempty"`
}

// shape is one layer of the file.
type shape struct {
	subnet.LayerGeometry
	source int // layer of the folder
	// A block that the folder lacks and the file must have is filled with zeros.
	zeroAttention, zeroMLP bool
}

// shapes returns the layers of the file.
func (c *config) shapes() ([]shape, error) {
	var list []shape
	if !c.family.Blocks {
		for i := range c.Layers {
			list = append(list, shape{LayerGeometry: subnet.LayerGeometry{Heads: c.Heads, KVHeads: c.KVHeads, FFN: c.FFN}, source: i})
		}
		return list, nil
	}
	if len(c.Blocks) != c.Layers {
		return nil, fmt.Errorf("%w: block_configs has %d entries for %d layers", ErrFormat, len(c.Blocks), c.Layers)
	}
	for i, b := range c.Blocks {
		l, err := c.blockShape(b)
		if err != nil {
			return nil, fmt.Errorf("block_configs: layer %d: %w", i, err)
		}
		if l.Heads == 0 && l.FFN == 0 {
			continue
		}
		s := shape{LayerGeometry: l, source: i}
		if l.Heads == 0 && len(list) == 0 { // the first layer's heads decide the model's head size
			s.Heads, s.KVHeads, s.zeroAttention = 1, 1, true
		}
		if l.FFN == 0 { // llama.cpp drops the attention of a layer without MLP
			s.FFN, s.zeroMLP = subnet.MinChannels, true
		}
		list = append(list, s)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: every layer in block_configs is without effect", ErrFormat)
	}
	return list, nil
}

// blockShape returns the counts of one entry.
func (c *config) blockShape(b blockConfig) (subnet.LayerGeometry, error) {
	var l subnet.LayerGeometry
	if b.Attention.Linear || b.FFN.Linear {
		return l, fmt.Errorf("%w: replace_with_linear", ErrUnsupported)
	}
	if !b.Attention.NoOp {
		l.Heads, l.KVHeads = c.Heads, b.Attention.KVHeads
		if g := b.Attention.Group; l.KVHeads == 0 && g != nil && *g > 0 && c.Heads%*g == 0 {
			l.KVHeads = c.Heads / *g
		}
		if l.KVHeads < 1 || l.KVHeads > c.Heads || c.Heads%l.KVHeads != 0 {
			return l, fmt.Errorf("%w: %d query heads in groups of n_heads_in_group", ErrFormat, c.Heads)
		}
	}
	if !b.FFN.NoOp {
		l.FFN = b.FFN.Width
		if b.FFN.Mult != nil {
			l.FFN = channels(*b.FFN.Mult, c.Hidden)
		}
		if l.FFN < 1 || l.FFN > subnet.MaxUnits {
			return l, fmt.Errorf("%w: %d channels by intermediate_size or ffn_mult", ErrFormat, l.FFN)
		}
	}
	return l, nil
}

// channels returns the MLP width of a multiplier, a multiple of 256.
func channels(mult float64, hidden int) int {
	const unit = 256
	n := 2 * mult * float64(hidden) / 3
	if !(n >= 0 && n <= subnet.MaxUnits) {
		return 0
	}
	return (int(n) + unit - 1) / unit * unit
}
