package oneshot

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// A Check is an edit that was predicted and measured, in nats per token.
type Check struct {
	Predicted float64 `json:"predicted"`
	Measured  float64 `json:"measured"` // rise of the negative log-likelihood
}

const (
	// checks is the number of edits that NewStatistics measures beside those of single modules.
	checks = 9
	// BoundRate is the share of edits of whole modules whose loss is within the bound of its prediction. With n checks the bound is
	// the ⌈(n+1)·BoundRate⌉-th smallest relative error (split conformal prediction, Vovk et al. 2005): for edits drawn as the
	// checks are, it holds at this rate whatever the distribution of errors.
	BoundRate = 0.9
	// boundFloor keeps the error of an edit that costs next to nothing from being relative to next to nothing, in nats per token.
	boundFloor = 0.01
)

// check measures random edits that drop whole modules.
func (s *Statistics) check(ctx context.Context, m *decoder.Model, p *prober) error {
	rng := rand.New(rand.NewPCG(1, checks))
	for range checks {
		masks := RandomDrop(m.Geometry(), rng)
		cut, err := m.Subnet(ctx, gguf.Subnet{Masks: masks})
		if err != nil {
			return err
		}
		score, err := p.scorer.Score(ctx, cut, p.text)
		cut.Close()
		if err != nil {
			return err
		}
		measured := score.NLL/float64(score.Tokens) - s.DenseNLL
		if math.IsNaN(measured) || math.IsInf(measured, 0) {
			continue // a broken model is no bound
		}
		s.Checks = append(s.Checks, Check{s.Predict(masks), measured})
	}
	return nil
}

// RandomDrop drops one to an eighth of the modules, two at least, drawn uniformly.
func RandomDrop(g *subnet.Geometry, rng *rand.Rand) subnet.Masks {
	masks := subnet.Dense(g)
	all := 2 * len(g.Layers)
	count := 1 + rng.IntN(max(2, all/8))
	for _, at := range rng.Perm(all)[:count] {
		module := subnet.MLP
		if at%2 == 0 {
			module = subnet.Attention
		}
		masks = masks.With(at/2, droppedModule(masks.Layer(at/2), module))
	}
	return masks
}

// Bound returns an interval of the rise of the loss, in nats per token, of masks that drop whole modules, without a re-fit: the
// truth is inside for [BoundRate] of such edits. ok is false for other masks, and without checks.
func (s *Statistics) Bound(masks subnet.Masks) (low, high float64, ok bool) {
	rank := int(math.Ceil(BoundRate * float64(len(s.Checks)+1)))
	if rank < 1 || rank > len(s.Checks) || !dropsModules(masks) {
		return 0, 0, false
	}
	errs := make([]float64, len(s.Checks))
	for i, c := range s.Checks {
		errs[i] = math.Abs(c.Measured-c.Predicted) / (c.Predicted + boundFloor)
	}
	slices.Sort(errs)
	predicted := s.Predict(masks)
	off := errs[rank-1] * (predicted + boundFloor)
	return predicted - off, predicted + off, true
}

// dropsModules reports whether masks drop whole modules and nothing else.
func dropsModules(masks subnet.Masks) bool {
	dropped := false
	for i := range masks.Layers() {
		l := masks.Layer(i)
		if l.QK != nil || l.VO != nil {
			return false
		}
		for _, set := range []subnet.Set{l.Heads, l.Channels} {
			switch set.Len() {
			case set.N():
			case 0:
				dropped = true
			default:
				return false
			}
		}
	}
	return dropped
}
