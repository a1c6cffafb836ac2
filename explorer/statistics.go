package explorer

import (
	"time"

	"github.com/lathe-llm/lathe/explorer/draft"
)

// Statistics describes the pass over the calibration text that importance and estimates come from.
type Statistics struct {
	Ready    bool
	Text     TextRef
	Tokens   int
	Layers   int // layers gathered so far
	Gathered time.Time
	// DenseNLL is the dense model's loss on the calibration text, nats per token; 0 if not known.
	DenseNLL    float64
	Importance  []draft.Importance // of units, per layer; nil before they are ranked
	ByNorms     bool               // Importance comes from the norms of weights alone, before Ready
	Sensitivity []Sensitivity      // of modules, per layer; nil before Ready
}

// Sensitivity is the rise of the loss when a whole module of a layer is dropped, as measured when the statistics were gathered, in nats per
// token.
type Sensitivity struct{ Attention, MLP float64 }
