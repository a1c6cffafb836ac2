package decoder

import (
	"context"
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/lathe-llm/lathe/infer/decoder/weights"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Option is a setting of [Load].
type Option func(*options)

type options struct {
	memory int64  // bytes kept in memory per States or Inputs
	dir    string // where the rest spills
	bucket int    // MLP widths are padded to a multiple of this

	weights int64 // bytes of weights kept on the device, 0 for all
	half    bool  // matrices are bfloat16 on the device

	batch      int   // windows that a graph computes at once, 0 for as many as batchBytes are enough for
	batchBytes int64 // of the temporary memory of a graph
	round      func(tensor string, width int, data []float32) error
}

// DefaultMemory is the default limit of WithMemory.
const DefaultMemory = 4 << 30

// WithMemory limits the memory of each States and each Inputs, in bytes. States past it spill to a file in dir ("" for the
// system's temporary folder); inputs past it are computed each time.
func WithMemory(bytes int64, dir string) Option {
	return func(o *options) { o.memory, o.dir = bytes, dir }
}

// WithWeights limits the memory that weights take on the device, in bytes; 0 is no limit. Of a larger model, layers
// are read from the file each time a computation reaches them, and weights of subnets are evicted to a temporary file (in the
// folder of WithMemory). What one step of a computation needs may exceed the limit: the
// weights of one block, attention or MLP, or of the LM head.
func WithWeights(bytes int64) Option { return func(o *options) { o.weights = bytes } }

// WithHalf has the device hold matrices as bfloat16, in half of the memory. Graphs compute on them in 32 bits as before. What
// [Model.Weights] returns is not rounded.
func WithHalf() Option { return func(o *options) { o.half = true } }

// WithRounding has matrices changed as they are read: round replaces the numbers of the matrix of a tensor, rows of width in the order of the
// file, by those that a file in other types would hold. It is called concurrently with itself.
func WithRounding(round func(tensor string, width int, data []float32) error) Option {
	return func(o *options) { o.round = round }
}

// WeightBytes returns the most memory on the device, in bytes, that weights of a model of that geometry take with a limit as for
// WithWeights while one layer after the other is cut: the dense weights, three copies of the layer being cut (before, cut and
// re-fitted), and the registry's spare blocks.
func WeightBytes(g *subnet.Geometry, limit int64) int64 {
	var layer, step int64
	for i, l := range g.Layers {
		attention, mlp := g.ModuleParams(i)
		vectors := int64(3*g.Hidden + (l.Heads+2*l.KVHeads+2)*g.HeadDim + l.FFN) // norms and biases of a block at most
		layer, step = max(layer, attention+mlp+2*vectors), max(step, attention+vectors, mlp+vectors)
	}
	step = max(step, int64(g.Hidden)*int64(g.Vocab+1+g.Positions))
	all := 4*(subnet.Dense(g).Size().Params+3*layer) + min(weights.SpareBytes, 4*g.BlockParams())
	if limit <= 0 || all <= limit {
		return all
	}
	return max(limit, 4*step)
}

func defaultBucket(layers []subnet.LayerGeometry) int {
	widest := 0
	for _, l := range layers {
		widest = max(widest, l.FFN)
	}
	return max(32, widest/24/32*32)
}

// Load loads the model of a file onto the device. Weights are read when they are first needed, as 32-bit floats; the file must
// stay open until the model is closed.
func Load(ctx context.Context, dev *Device, f *gguf.File, opts ...Option) (*Model, error) {
	config, err := f.Config()
	if err != nil {
		return nil, err
	}
	if config.RopeFactors != nil && len(config.RopeFactors) != config.RopeDims/2 {
		return nil, fmt.Errorf("decoder: %d rotary factors for %d pairs", len(config.RopeFactors), config.RopeDims/2)
	}
	m := &Model{
		dev: dev, config: config, geo: config.Geometry(), opts: options{memory: DefaultMemory},
		order: headOrder(config), freqs: [2][]float64{rotaryFreqs(config, false), rotaryFreqs(config, true)},
		tables: make(map[tableKey]tables), causal: make(map[tableKey]*tensors.Tensor),
	}
	for _, o := range opts {
		o(&m.opts)
	}
	if m.opts.bucket <= 0 {
		m.opts.bucket = defaultBucket(m.geo.Layers)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if dev.isClosed() {
		return nil, ErrClosed
	}
	m.weights = weights.New(memory{dev}, m.opts.weights, m.opts.dir, len(config.Layers)+2)
	m.registry = weights.NewRegistry(m.opts.weights)
	if err := m.load(f); err != nil {
		return nil, err
	}
	m.makeDense()
	return m, nil
}

// load looks up the weights in the file.
func (m *Model) load(f *gguf.File) error {
	c := m.config
	l := &loader{f: f, m: m}
	m.embedding = l.matrix("token_embd.weight", c.Vocab, c.Hidden)
	if c.Positions > 0 {
		m.positions = l.matrix("position_embd.weight", c.Positions, c.Hidden)
	}
	for i, geo := range c.Layers {
		l.stage = stageOf(i)
		d := &denseLayer{}
		m.layers = append(m.layers, d)
		name := func(s string) string { return fmt.Sprintf("blk.%d.%s", i, s) }
		if geo.Heads > 0 {
			q, kv := geo.Heads*c.HeadDim, geo.KVHeads*c.HeadDim
			d.attnNorm = l.norm(name("attn_norm"))
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
			d.mlpNorm = l.norm(name("ffn_norm"))
			if c.Ungated {
				d.upBias = l.vector(name("ffn_up.bias"), geo.FFN)
			} else {
				d.gate = l.matrix(name("ffn_gate.weight"), geo.FFN, c.Hidden)
			}
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
	l.stage = stageOf(len(c.Layers))
	m.outNorm = l.norm("output_norm")
	m.head = m.embedding
	if f.Has("output.weight") {
		m.head = l.matrix("output.weight", c.Vocab, c.Hidden)
	}
	return l.err
}

// stageOf returns the stage of a pass at a layer; the embedding is stage 0.
func stageOf(layer int) int { return layer + 1 }

// loader looks up weights; after the first error it returns nil.
type loader struct {
	f     *gguf.File
	m     *Model
	stage int
	err   error
}

// weight returns a tensor of the file, which must have the given dimensions. arrange, unless nil, reorders its numbers.
func (l *loader) weight(name string, arrange func(data []float32), dims ...int) *weights.Weight {
	if l.err != nil {
		return nil
	}
	t, ok := l.f.Tensor(name)
	switch {
	case !ok:
		l.err = fmt.Errorf("decoder: tensor %s: %w", name, gguf.ErrMissing)
	case !slices.Equal(t.Dims, dims):
		l.err = fmt.Errorf("decoder: tensor %s is %v, want %v", name, t.Dims, dims)
	case !gguf.Readable(t.Type):
		l.err = fmt.Errorf("decoder: tensor %s: %w: %s cannot be converted", name, gguf.ErrType, t.Type)
	}
	if l.err != nil {
		return nil
	}
	return &weights.Weight{Dims: dims, Stage: l.stage, Half: l.m.opts.half && len(dims) == 2, Load: func(to []float32) error {
		err := l.f.ReadFloat32(name, to)
		if round := l.m.opts.round; err == nil && round != nil && len(dims) == 2 {
			err = round(name, dims[1], to)
		}
		if err == nil && arrange != nil {
			arrange(to)
		}
		return err
	}}
}

func (l *loader) matrix(name string, out, in int) *weights.Weight {
	return l.weight(name, nil, out, in)
}

func (l *loader) vector(name string, n int) *weights.Weight { return l.weight(name, nil, n) }

// norm returns the weights of a norm on the residual stream, see denseLayer.
func (l *loader) norm(name string) *weights.Weight {
	hidden := l.m.config.Hidden
	gain := l.vector(name+".weight", hidden)
	if !l.m.config.LayerNorm {
		return gain
	}
	bias := l.vector(name+".bias", hidden)
	return &weights.Weight{Dims: []int{2, hidden}, Stage: l.stage, Load: func(to []float32) error {
		if err := gain.Load(to[:hidden]); err != nil {
			return err
		}
		return bias.Load(to[hidden:])
	}}
}

// rotated returns weights whose rows are channels of query or key heads, in the order on the device.
func (l *loader) rotated(name string, dims ...int) *weights.Weight {
	columns := 1
	if len(dims) == 2 {
		columns = dims[1]
	}
	headDim, order := l.m.config.HeadDim, l.m.order
	return l.weight(name, func(data []float32) { permuteHeads(data, columns, headDim, order) }, dims...)
}
