package reform

import "github.com/lathe-llm/lathe/search/mask"

// Memory is how much memory OneShot takes at most with the preset Allocated, in bytes, by parts. It follows from shapes;
// Runtime is what was seen beside them.
type Memory struct {
	Weights int64 `json:"weights"` // of the model, 32-bit floats
	Refit   int64 `json:"refit"`   // the re-fitted matrices so far, and the layer at hand, cut
	States  int64 `json:"states"`  // hidden states of the text, and those kept for measuring losses
	Inputs  int64 `json:"inputs"`  // of one output matrix, as they are and beside the size of the state
	Moments int64 `json:"moments"` // of these inputs, with what choosing and solving make of them, 64-bit floats
	Window  int64 `json:"window"`  // what the graphs need for one window
	Runtime int64 `json:"runtime"`
}

// Total is the sum of all parts.
func (m Memory) Total() int64 {
	return m.Weights + m.Refit + m.States + m.Inputs + m.Moments + m.Window + m.Runtime
}

const (
	// heldMoments is how many matrices of the size of the second moments there are at a time: those of the fitted and of
	// the held-out text and of both, and a factor, an inverse and its updates.
	heldMoments = 6
	// heldCross is the same for matrices of the size of the weights.
	heldCross = 4
	// runtimeMemory is the program, its libraries, and what the garbage collector has not given back.
	runtimeMemory = 300 << 20
)

// MemoryOf estimates the memory for a model's shape, ratio and calibration text. limit is what hidden states, and apart
// from them inputs, may take (decoder.WithMemory).
func MemoryOf(g *mask.Geometry, ratio float64, windows, seq int, limit int64) Memory {
	hidden, heads := int64(g.Hidden), 0
	var ffn, channels int64
	for _, l := range g.Layers {
		ffn, heads = max(ffn, int64(l.FFN)), max(heads, l.Heads)
		channels += int64(l.FFN)
	}
	kept := int64(ratio * float64(channels)) // more go where attention stays: an upper bound
	tokens := int64(windows) * int64(seq)
	m := Memory{
		Weights: 4 * mask.Dense(g).Size().Params,
		Refit:   4*hidden*kept + 4*3*hidden*ffn,
		States:  min(limit, 4*tokens*hidden),
		Inputs:  2 * min(limit, 4*tokens*ffn),
		Moments: 8 * (heldMoments*ffn*ffn + heldCross*hidden*ffn),
		Window:  4 * (2*int64(heads)*int64(seq)*int64(seq) + 3*int64(seq)*ffn),
		Runtime: runtimeMemory,
	}
	m.States += min(probeMemory, 4*probeWindows*int64(min(seq, probeTokens))*hidden*int64(mask.Modules*len(g.Layers)))
	return m
}

// probeMemory is how much hidden states of probes that begin alike may take, the scorer's default.
const probeMemory = 1 << 30
