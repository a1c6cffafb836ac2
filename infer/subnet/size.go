package subnet

// kvBytes is the size of one element of an F16 key-value cache.
const kvBytes = 2

// Size holds the costs of a subnet. Block parameters are those of the matrices of the
// decoder blocks (W_Q, W_K, W_V, W_O, W_G, W_U, W_D); the others are embeddings,
// LM head, norms and biases.
type Size struct {
	// BlockParams are the block parameters of the units kept and
	// DenseBlockParams those of the dense model. Ratio, the inheriting ratio, is
	// their quotient.
	BlockParams, DenseBlockParams int64
	Ratio                         float64
	// Params, DenseParams and RatioAll are the same over all parameters.
	Params, DenseParams int64
	RatioAll            float64
	// ZeroedParams are the block parameters besides BlockParams that the format
	// of the file requires, all zero.
	ZeroedParams int64
	// KVBytesPerToken is the size of one token in an F16 key-value cache (V
	// shrinks with the KV groups only where flash attention is on), and
	// DenseKVBytesPerToken that for the dense model.
	KVBytesPerToken, DenseKVBytesPerToken int64
	// Layers counts the layers of the file, with attention or without.
	Layers int
}

// Size returns the costs of the subnet.
func (m Masks) Size() Size {
	g, cut := m.geometry, m.Cut()
	s := Size{
		BlockParams:          m.BlockParams(),
		DenseBlockParams:     g.BlockParams(),
		KVBytesPerToken:      cut.kvBytesPerToken(),
		DenseKVBytesPerToken: Dense(g).Cut().kvBytesPerToken(),
		Layers:               len(cut.Layers),
	}
	block, other := cut.params(g)
	_, denseOther := Dense(g).Cut().params(g)
	s.ZeroedParams = block - s.BlockParams
	s.Params = s.BlockParams + other
	s.DenseParams = s.DenseBlockParams + denseOther
	s.Ratio = ratio(s.BlockParams, s.DenseBlockParams)
	s.RatioAll = ratio(s.Params, s.DenseParams)
	return s
}

// contextUnit is the number of tokens that llama.cpp rounds a context up to a
// multiple of.
const contextUnit = 256

// KVBytes returns the size of an F16 key-value cache for a context of so many tokens.
func (s Size) KVBytes(context int) int64 {
	return s.KVBytesPerToken * ((int64(context) + contextUnit - 1) / contextUnit * contextUnit)
}

// BlockParams returns the parameters of the block matrices that the masks keep.
func (m Masks) BlockParams() int64 {
	var n int64
	for i, l := range m.layers {
		n += l.Params(m.geometry, i)
	}
	return n
}

// BlockParams returns the parameters of the block matrices of the dense model.
func (g *Geometry) BlockParams() int64 {
	var n int64
	for i := range g.Layers {
		a, f := g.ModuleParams(i)
		n += a + f
	}
	return n
}

// ModuleParams returns the parameters of the matrices of the attention and of the
// MLP of a layer of the dense model.
func (g *Geometry) ModuleParams(layer int) (attention, mlp int64) {
	return DenseLayer(g.Layers[layer]).ModuleParams(g, layer)
}

// Params returns the parameters of the matrices of a layer of g that l keeps.
func (l Layer) Params(g *Geometry, layer int) int64 {
	attention, mlp := l.ModuleParams(g, layer)
	return attention + mlp
}

// ModuleParams returns the parameters of the matrices of a layer of g that l
// keeps, those of the attention and those of the MLP.
func (l Layer) ModuleParams(g *Geometry, layer int) (attention, mlp int64) {
	lg, hidden := g.Layers[layer], int64(g.Hidden)
	mlp = g.MLPMatrices() * hidden * int64(l.Channels.Len())
	if l.QK == nil && l.VO == nil {
		rows := int64(l.Heads.Len()+l.Groups(lg).Len()) * int64(g.HeadDim)
		return 2 * hidden * rows, mlp
	}
	per := lg.HeadsPerGroup()
	for _, group := range l.Groups(lg).Indices() {
		heads := l.Heads.Overlap(Range(lg.Heads, group*per, (group+1)*per))
		channels := l.QKOf(group, g.HeadDim).Len() + l.VOOf(group, g.HeadDim).Len()
		attention += int64(heads+1) * int64(channels) * hidden
	}
	return attention, mlp
}

// GGUFBytes returns the bytes of all tensors of the file of the subnet, without
// header and padding, when matrices are stored in the type of that name, see
// [Tensor.Bytes]. An unknown name gives 0.
func (m Masks) GGUFBytes(name string) int64 {
	typ, err := ParseType(name)
	if err != nil {
		return 0
	}
	var total int64
	for _, t := range m.Cut().Tensors(m.geometry) {
		total += t.Bytes(typ)
	}
	return total
}

// FLOPs returns the floating-point operations per token of the file of the
// subnet, a multiply-add counting as two: in the prefill of a prompt of context
// tokens, where each attends to half of it on average and only the last needs
// the LM head, and in the decoding of the token after it.
func (m Masks) FLOPs(context int) (prefill, decode float64) {
	g, cut := m.geometry, m.Cut()
	block, _ := cut.params(g)
	heads := 0
	for _, l := range cut.Layers {
		heads += len(l.Heads)
	}
	matrices := 2 * float64(block)
	attention := 4 * float64(heads*cut.HeadDim) * float64(context)
	head := 2 * float64(cut.Vocab) * float64(g.Hidden)
	return matrices + attention/2 + head/float64(max(context, 1)), matrices + attention + head
}

// params returns the parameters of a file of that shape: those of the block
// matrices and all others.
func (cut Cut) params(g *Geometry) (block, other int64) {
	for _, t := range cut.Tensors(g) {
		n := int64(t.Rows) * int64(t.Cols)
		switch {
		case t.Name == "rope_freqs.weight":
		case t.Vector, t.Name == "token_embd.weight", t.Name == "output.weight", t.Name == "position_embd.weight":
			other += n
		default:
			block += n
		}
	}
	return block, other
}

func (cut Cut) kvBytesPerToken() int64 {
	groups := 0
	for _, l := range cut.Layers {
		groups += len(l.Groups)
	}
	return int64(groups) * int64(cut.HeadDim) * 2 * kvBytes
}

func ratio(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
