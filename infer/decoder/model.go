package decoder

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/lathe-llm/lathe/infer/decoder/weights"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Model is the dense model of one file on a device. Weights are brought to the device when they are needed and stay
// there until Close, unless WithWeights sets a limit.
type Model struct {
	dev    *Device
	config gguf.Config
	geo    subnet.Geometry
	opts   options

	weights   *weights.Residence
	embedding *weights.Weight // [vocab, hidden]
	positions *weights.Weight // [positions, hidden], nil where positions are rotary
	outNorm   *weights.Weight // see denseLayer
	head      *weights.Weight // [vocab, hidden], the embedding where tied
	layers    []*denseLayer
	attention []*attentionBlock // of the dense model, one per layer
	mlp       []*mlpBlock

	order []int        // by position in a query or key head on the device, its channel in the file
	freqs [2][]float64 // angle per position of every rotary pair, of layers with full attention and with a sliding window

	blocks   atomic.Uint64 // the latest block identity
	mu       sync.Mutex
	tables   map[tableKey]tables          // of positions with all rotary pairs
	causal   map[tableKey]*tensors.Tensor // causalMask
	registry weights.Registry
	closed   bool
}

// denseLayer holds the weights of one layer; those of a missing block are nil. Rows of q and k, with their biases and
// gains, are in the order of Model.order inside each head, in which rotary pairs are (i, i+half). Norms are gains [hidden],
// or [2, hidden] with the gains and biases of a LayerNorm.
type denseLayer struct {
	attnNorm, q, k, v, o, qBias, kBias, vBias, oBias, qGain, kGain, attnPost *weights.Weight
	mlpNorm, gate, up, upBias, down, downBias, mlpPost                       *weights.Weight
}

// gateOrUpBias returns what an MLP has besides W_U and W_D: its gate, or the bias of W_U where it has no gate.
func (l *denseLayer) gateOrUpBias() *weights.Weight {
	if l.gate == nil {
		return l.upBias
	}
	return l.gate
}

// Config returns the configuration in the file.
func (m *Model) Config() gguf.Config { return m.config }

// Geometry returns the geometry of masks of this model.
func (m *Model) Geometry() *subnet.Geometry { return &m.geo }

// Device returns what the model computes on.
func (m *Model) Device() *Device { return m.dev }

// Close frees the weights. Subnets and states of the model must be closed before.
func (m *Model) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.closed = true
	freeTables(m.tables)
	for _, t := range m.causal {
		free(t)
	}
	m.tables, m.causal = nil, nil
	m.registry.Clear()
	m.weights.Close()
}

// ResidentBytes returns the bytes of weights on the device, those of subnets included, now and at most so far.
func (m *Model) ResidentBytes() (now, most int64) { return m.weights.Bytes() }

// Weights copies a matrix of a layer to the host: "q", "k", "v", "o", "gate", "up" or "down", row-major with the rows
// and columns of the file, and its dimensions [out, in]. "o_bias" and "down_bias" are the biases [out, 1] on the output of
// attention and MLP, nil where the file has none.
func (m *Model) Weights(layer int, name string) ([]float32, [2]int, error) {
	if layer < 0 || layer >= len(m.layers) {
		return nil, [2]int{}, fmt.Errorf("decoder: layer %d outside the model's %d", layer, len(m.layers))
	}
	l := m.layers[layer]
	switch name {
	case "o_bias":
		return m.bias(l.oBias)
	case "down_bias":
		return m.bias(l.downBias)
	}
	t, ok := map[string]*weights.Weight{"q": l.q, "k": l.k, "v": l.v, "o": l.o, "gate": l.gate, "up": l.up, "down": l.down}[name]
	if !ok {
		return nil, [2]int{}, fmt.Errorf("decoder: no matrix is named %q", name)
	}
	if t == nil {
		return nil, [2]int{}, fmt.Errorf("decoder: layer %d has no %s matrix", layer, name)
	}
	dims := [2]int(t.Dims)
	data, err := m.weights.Fetch(t)
	if err != nil {
		return nil, [2]int{}, fmt.Errorf("layer %d: %s: %w", layer, name, err)
	}
	if name == "q" || name == "k" {
		permuteHeads(data, dims[1], m.config.HeadDim, inverse(m.order))
	}
	return data, dims, nil
}

func (m *Model) bias(t *weights.Weight) ([]float32, [2]int, error) {
	if t == nil {
		return nil, [2]int{m.geo.Hidden, 1}, nil
	}
	data, err := m.weights.Fetch(t)
	return data, [2]int{m.geo.Hidden, 1}, err
}

// attnScale returns the factor on attention scores before the softmax.
func (m *Model) attnScale() float64 {
	if m.config.AttnScale != 0 {
		return m.config.AttnScale
	}
	return 1 / math.Sqrt(float64(m.config.HeadDim))
}

// tableKey identifies tables of positions.
type tableKey struct {
	tokens int
	local  bool
}

// localIndex returns the index in Model.freqs for layers with a sliding window or without.
func localIndex(local bool) int {
	if local {
		return 1
	}
	return 0
}

// isLocal reports whether a layer's attention has a sliding window.
func (m *Model) isLocal(layer int) bool { return len(m.config.Local) > 0 && m.config.Local[layer] }

// rotaryFreqs returns the angle per position of each rotary pair, in layers with a sliding window or in others.
func rotaryFreqs(c gguf.Config, local bool) []float64 {
	base, scale := c.RopeBase, c.RopeScale
	if local && c.LocalRopeBase != 0 {
		base, scale = c.LocalRopeBase, 1
	}
	freqs := make([]float64, c.RopeDims/2)
	for i := range freqs {
		freqs[i] = math.Pow(base, -2*float64(i)/float64(c.RopeDims))
		if scale > 0 {
			freqs[i] /= scale
		}
		if c.RopeFactors != nil {
			freqs[i] /= float64(c.RopeFactors[i])
		}
	}
	return freqs
}

// headOrder returns, by position in a head on the device, the channel in the file: first and second members of the rotary
// pairs, then the channels without rotation.
func headOrder(c gguf.Config) []int {
	half := c.RopeDims / 2
	order := make([]int, c.HeadDim)
	for j := range order {
		switch {
		case j >= c.RopeDims || c.HalfSplit:
			order[j] = j
		case j < half:
			order[j] = 2 * j
		default:
			order[j] = 2*(j-half) + 1
		}
	}
	return order
}

func inverse(order []int) []int {
	inv := make([]int, len(order))
	for j, c := range order {
		inv[c] = j
	}
	return inv
}

// permuteHeads moves row order[j] of every head to its row j, in a matrix of the given number of columns.
func permuteHeads(data []float32, columns, headDim int, order []int) {
	if slices.IsSorted(order) {
		return
	}
	size := headDim * columns
	old := make([]float32, size)
	for head := 0; head+size <= len(data); head += size {
		copy(old, data[head:])
		for j, from := range order {
			copy(data[head+j*columns:head+(j+1)*columns], old[from*columns:])
		}
	}
}

// tables are the inputs of attention that depend on positions.
type tables struct {
	cos, sin *tensors.Tensor // [tokens, groups or 1, pairs]; nil without rotary pairs
	causal   *tensors.Tensor // causalMask
}

func freeTables(all map[tableKey]tables) {
	for _, t := range all {
		free(t.cos, t.sin)
	}
}

// tablesOf returns the tables of an attention block for the first tokens positions. The model owns those of blocks with all rotary
// pairs, a block all others.
func (m *Model) tablesOf(b *attentionBlock, tokens int) (tables, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return tables{}, ErrClosed
	}
	cache, at, freqs := m.tables, tableKey{tokens, b.local}, m.freqs[localIndex(b.local)]
	if len(b.pairs) > 1 || !slices.Equal(b.pairs[0], allOf(len(freqs))) {
		if b.tables == nil {
			b.tables = make(map[tableKey]tables)
			b.Freed = func() { freeTables(b.tables) }
		}
		cache = b.tables
	}
	if t, ok := cache[at]; ok {
		return t, nil
	}
	causal := m.causal[at]
	if causal == nil {
		window := 0
		if b.local {
			window = m.config.Window
		}
		mask, rows, columns := causalMask(tokens, window)
		t, err := m.dev.upload(mask, rows, columns)
		if err != nil {
			return tables{}, err
		}
		causal, m.causal[at] = t, t
	}
	if m.config.RopeDims == 0 {
		return tables{causal: causal}, nil
	}
	cos, sin := rotaryAngles(freqs, tokens, b.pairs)
	dims := []int{tokens, len(b.pairs), len(b.pairs[0])}
	c, err := m.dev.upload(cos, dims...)
	if err != nil {
		return tables{}, err
	}
	s, err := m.dev.upload(sin, dims...)
	if err != nil {
		free(c)
		return tables{}, err
	}
	cache[at] = tables{c, s, causal}
	return cache[at], nil
}

// checkLayer reports a layer number outside the model.
func (m *Model) checkLayer(layer int) error {
	if layer < 0 || layer >= len(m.layers) {
		return fmt.Errorf("decoder: layer %d outside the model's %d", layer, len(m.layers))
	}
	return nil
}

// embed returns the embeddings of windows of one length, [windows·tokens, hidden], with those of their positions where the model has
// them.
func (m *Model) embed(ctx context.Context, windows ...[]int32) (*tensors.Tensor, error) {
	count := len(windows)
	all := slices.Concat(windows...)
	tokens := len(all) / count
	for i, id := range all {
		if id < 0 || int(id) >= m.config.Vocab {
			return nil, fmt.Errorf("decoder: token %d at %d is outside the vocabulary of %d", id, i%tokens, m.config.Vocab)
		}
	}
	if n := m.config.Positions; n > 0 && tokens > n {
		return nil, fmt.Errorf("decoder: a window of %d tokens, but the model has %d positions", tokens, n)
	}
	ids, err := m.dev.uploadInts(all, len(all), 1)
	if err != nil {
		return nil, err
	}
	defer free(ids)
	h, err := m.weights.Hold(m.embedding, m.positions)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	scale := m.config.EmbedScale
	return m.dev.run1(ctx, fmt.Sprintf("embed %g %d", scale, count), func(in []*graph.Node) *graph.Node {
		rows := graph.Gather(in[1], in[0])
		if scale != 0 {
			rows = graph.MulScalar(rows, scale)
		}
		if len(in) > 2 {
			rows = graph.Add(rows, repeated(graph.Slice(in[2], graph.AxisRange(0, rows.Shape().Dimensions[0]/count)), count))
		}
		return rows
	}, h.With(ids)...)
}

// share returns the block of that content with a reference for the caller; it builds the block where there is none.
func share[B weights.Shared](m *Model, k weights.Key, build func() (B, error)) (B, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		var none B
		return none, ErrClosed
	}
	return weights.Share(&m.registry, k, build)
}
