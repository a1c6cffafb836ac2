package oneshot

import (
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Limits are the most bytes that some parts of the memory may take.
type Limits struct {
	States  int64 // hidden states of the text, and separately the inputs of a matrix, as decoder.WithMemory
	Weights int64 // weights, as decoder.WithWeights; 0 is no limit
	Half    bool  // weights are bfloat16, as decoder.WithHalf
}

// Memory is the peak memory of OneShot with the preset Allocated, in bytes, by parts. It follows from shapes, except for
// Runtime, which was measured.
type Memory struct {
	Weights int64 `json:"weights"` // in 32-bit floats, or as bfloat16
	Refit   int64 `json:"refit"`   // the re-fitted matrices so far, and copies of a layer's while they are made
	States  int64 `json:"states"`  // hidden states of the text in the subnet and in the dense model, and those kept for measuring losses
	Inputs  int64 `json:"inputs"`  // of one output matrix, and its residual target, each as it is and divided by the size of the state
	Moments int64 `json:"moments"` // of these inputs, with the matrices that choosing and solving compute from them, 64-bit floats
	Window  int64 `json:"window"`  // intermediate values of the graphs for one window
	Runtime int64 `json:"runtime"`
}

// Total is the sum of all parts.
func (m Memory) Total() int64 {
	return m.Weights + m.Refit + m.States + m.Inputs + m.Moments + m.Window + m.Runtime
}

const (
	// heldMoments is how many matrices of the size of the second moments exist at a time: those of the fitted text, of the
	// held-out text and of both, and a factor, an inverse and its updates.
	heldMoments = 6
	// heldCross is the same for matrices of the size of the weights.
	heldCross = 4
	// runtimeMemory is that of the program, its libraries, and garbage that is not yet collected.
	runtimeMemory = 300 << 20
)

// MemoryOf estimates the memory for a model's shape, ratio and calibration text.
func MemoryOf(g *subnet.Geometry, ratio float64, windows, seq int, limits Limits) Memory {
	hidden, heads := int64(g.Hidden), 0
	var ffn, channels int64
	for _, l := range g.Layers {
		ffn, heads = max(ffn, int64(l.FFN)), max(heads, l.Heads)
		channels += int64(l.FFN)
	}
	kept := int64(ratio * float64(channels)) // an upper bound: where attention stays, more channels are dropped
	tokens := int64(windows) * int64(seq)
	m := Memory{
		Weights: decoder.WeightBytes(g, limits.Weights),
		Refit:   4*hidden*kept + 4*g.MLPMatrices()*hidden*ffn,
		States:  2 * min(limits.States, 4*tokens*hidden),
		Inputs:  2*min(limits.States, 4*tokens*ffn) + 2*min(limits.States, 4*tokens*hidden),
		Moments: 8 * (heldMoments*ffn*ffn + heldCross*hidden*ffn),
		Window:  4 * (2*int64(heads)*int64(seq)*int64(seq) + 3*int64(seq)*ffn),
		Runtime: runtimeMemory,
	}
	if limits.Half { // half of the bytes, but for vectors
		vectors := 4 * int64(len(g.Layers)+1) * (4*hidden + int64(g.HeadDim))
		m.Weights = min(m.Weights, decoder.WeightBytes(g, 2*limits.Weights)/2+vectors)
	}
	m.States += min(probeMemory, 4*probeWindows*int64(min(seq, probeTokens))*hidden*int64(subnet.Modules*len(g.Layers)))
	return m
}

// probeMemory is the most that hidden states shared by probes take, the scorer's default.
const probeMemory = 1 << 30
