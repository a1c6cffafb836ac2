package decoder

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/search/mask"
)

// Option changes how a model is loaded.
type Option func(*options)

type options struct {
	memory int64  // bytes of hidden states and inputs kept in memory per States or Inputs
	dir    string // where the rest spills
	bucket int    // MLP widths are padded to a multiple of this
}

// DefaultMemory is the limit of WithMemory where it is not given.
const DefaultMemory = 4 << 30

// WithMemory limits the memory that hidden states take, and apart from that the inputs of a matrix, in bytes. States past
// it spill to a file in dir ("" for the system's temporary folder); inputs are computed anew.
func WithMemory(bytes int64, dir string) Option {
	return func(o *options) { o.memory, o.dir = bytes, dir }
}

// WithWidthBucket pads the widths of cut MLPs with zeros to a multiple of n channels, so that fewer graphs are
// compiled. The default is 1/24 of the dense width, 32 at least.
func WithWidthBucket(n int) Option { return func(o *options) { o.bucket = n } }

func defaultBucket(layers []mask.LayerGeometry) int {
	widest := 0
	for _, l := range layers {
		widest = max(widest, l.FFN)
	}
	return max(32, widest/24/32*32)
}

// Load reads every weight of the file onto the backend as 32-bit floats. The file may be closed after.
func Load(ctx context.Context, be *Backend, f *gguf.File, opts ...Option) (*Model, error) {
	config, err := f.Config()
	if err != nil {
		return nil, err
	}
	if config.RopeFactors != nil && len(config.RopeFactors) != config.RopeDims/2 {
		return nil, fmt.Errorf("decoder: %d rotary factors for %d pairs", len(config.RopeFactors), config.RopeDims/2)
	}
	m := &Model{
		be: be, config: config, geo: config.Geometry(), opts: options{memory: DefaultMemory},
		order: headOrder(config), freqs: [2][]float64{rotaryFreqs(config, false), rotaryFreqs(config, true)},
		tables: make(map[tableKey]tables), future: make(map[tableKey]*tensors.Tensor), registry: newRegistry(),
	}
	for _, o := range opts {
		o(&m.opts)
	}
	if m.opts.bucket <= 0 {
		m.opts.bucket = defaultBucket(m.geo.Layers)
	}
	if err := m.load(ctx, f); err != nil {
		m.free()
		return nil, err
	}
	m.makeDense()
	debug.FreeOSMemory() // the weights passed through the host's heap, which would keep their space
	return m, nil
}

func (m *Model) load(ctx context.Context, f *gguf.File) error {
	c := m.config
	l := &loader{ctx: ctx, f: f, m: m}
	m.embedding = l.matrix("token_embd.weight", c.Vocab, c.Hidden)
	m.outNorm = l.vector("output_norm.weight", c.Hidden)
	m.head = m.embedding
	if f.Has("output.weight") {
		m.head = l.matrix("output.weight", c.Vocab, c.Hidden)
	}
	for i, geo := range c.Layers {
		d := &denseLayer{}
		m.layers = append(m.layers, d)
		name := func(s string) string { return fmt.Sprintf("blk.%d.%s", i, s) }
		if geo.Heads > 0 {
			q, kv := geo.Heads*c.HeadDim, geo.KVHeads*c.HeadDim
			d.attnNorm = l.vector(name("attn_norm.weight"), c.Hidden)
			d.q = l.rotated(name("attn_q.weight"), q, c.Hidden)
			d.k = l.rotated(name("attn_k.weight"), kv, c.Hidden)
			d.v = l.matrix(name("attn_v.weight"), kv, c.Hidden)
			d.o = l.matrix(name("attn_output.weight"), c.Hidden, q)
			if f.Has(name("attn_q.bias")) {
				d.qBias = l.rotated(name("attn_q.bias"), q)
				d.kBias = l.rotated(name("attn_k.bias"), kv)
				d.vBias = l.vector(name("attn_v.bias"), kv)
			}
			if f.Has(name("attn_q_norm.weight")) {
				d.qGain = l.rotated(name("attn_q_norm.weight"), c.HeadDim)
				d.kGain = l.rotated(name("attn_k_norm.weight"), c.HeadDim)
			}
			if f.Has(name("attn_output.bias")) {
				d.oBias = l.vector(name("attn_output.bias"), c.Hidden)
			}
			if c.PostNorms {
				d.attnPost = l.vector(name("post_attention_norm.weight"), c.Hidden)
			}
		}
		if geo.FFN > 0 {
			d.mlpNorm = l.vector(name("ffn_norm.weight"), c.Hidden)
			d.gate = l.matrix(name("ffn_gate.weight"), geo.FFN, c.Hidden)
			d.up = l.matrix(name("ffn_up.weight"), geo.FFN, c.Hidden)
			d.down = l.matrix(name("ffn_down.weight"), c.Hidden, geo.FFN)
			if f.Has(name("ffn_down.bias")) {
				d.downBias = l.vector(name("ffn_down.bias"), c.Hidden)
			}
			if c.PostNorms {
				d.mlpPost = l.vector(name("post_ffw_norm.weight"), c.Hidden)
			}
		}
	}
	return l.err
}

// loader reads tensors until the first error, which it keeps.
type loader struct {
	ctx context.Context
	f   *gguf.File
	m   *Model
	err error
}

// floats reads a tensor that must have the given dimensions.
func (l *loader) floats(name string, dims ...int) []float32 {
	if l.err == nil {
		l.err = l.ctx.Err()
	}
	if l.err != nil {
		return nil
	}
	data, got, err := l.f.Float32(name)
	if err != nil {
		l.err = err
		return nil
	}
	if !slices.Equal(got, dims) {
		l.err = fmt.Errorf("decoder: tensor %s is %v, want %v", name, got, dims)
		return nil
	}
	return data
}

func (l *loader) upload(data []float32, dims ...int) *tensors.Tensor {
	if l.err != nil {
		return nil
	}
	t, err := l.m.be.upload(data, dims...)
	if err != nil {
		l.err = err
		return nil
	}
	return t
}

func (l *loader) matrix(name string, out, in int) *tensors.Tensor {
	return l.upload(l.floats(name, out, in), out, in)
}

func (l *loader) vector(name string, n int) *tensors.Tensor {
	return l.upload(l.floats(name, n), n)
}

// rotated reads weights whose rows are channels of query or key heads, and puts them in the device's order.
func (l *loader) rotated(name string, dims ...int) *tensors.Tensor {
	data := l.floats(name, dims...)
	if l.err != nil {
		return nil
	}
	columns := 1
	if len(dims) == 2 {
		columns = dims[1]
	}
	return l.upload(permuteHeads(data, columns, l.m.config.HeadDim, l.m.order), dims...)
}
