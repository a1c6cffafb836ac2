package explorer

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// estimate predicts the loss of the draft from the statistics, if they are ready. If the draft changes meanwhile, the command
// that changed it estimates it again.
func (e *Exploration) estimate() {
	now := e.Snapshot()
	est := Estimate{}
	if loss, ok := e.model.Predict(now.Statistics, now.Draft.Masks); ok && now.Statistics.Ready {
		base := now.Statistics.DenseNLL
		if m := now.Draft.Measured; m != nil && m.Dense > 0 { // on the text that measurements use
			base = math.Log(m.Dense)
		}
		est = Estimate{Valid: true, Loss: loss, Perplexity: math.Exp(base + loss)}
		if low, high, ok := e.model.Bound(now.Statistics, now.Draft.Masks); ok {
			est.Low, est.High = low, high
		}
	}
	e.update(SectionDraft, func(s *Snapshot) {
		if s.Draft.Version == now.Draft.Version && s.Draft.Measured == now.Draft.Measured && s.Sections[SectionStatistics] == now.Sections[SectionStatistics] {
			st := state{now: s, folded: e.folded}
			st.estimateFrom(est)
		}
	})
}

// estimateFrom stores an estimate in the draft, with the errors of earlier estimates of its kind.
func (s *state) estimateFrom(e Estimate) {
	base, ok := s.now.Subnet(s.now.Draft.Base)
	e.Refitted = ok && base.Refit != ""
	e.Spread, e.Compared = s.comparisons.typical(e.Refitted)
	s.now.Draft.Estimate = e
}

// comparisons are estimates with their measurements, the newest last, one for each pair of masks and weights.
type comparisons []comparedRecord

// with returns c with one more comparison, which replaces an earlier one of the same masks. The oldest are dropped.
func (c comparisons) with(r comparedRecord) comparisons {
	const remembered = 200
	c = slices.DeleteFunc(slices.Clone(c), func(old comparedRecord) bool { return r.Of != "" && old.Of == r.Of })
	c = append(c, r)
	return c[max(0, len(c)-remembered):]
}

// typical returns the median of |true/estimated - 1| over the perplexities of masks of a kind, and their number.
func (c comparisons) typical(refitted bool) (median float64, compared int) {
	var off []float64
	for _, r := range c {
		if r.Refitted == refitted {
			off = append(off, math.Abs(math.Expm1(r.Measured-r.Estimated)))
		}
	}
	n := len(off)
	if n == 0 {
		return 0, 0
	}
	slices.Sort(off)
	return (off[(n-1)/2] + off[n/2]) / 2, n
}

// comparison pairs a measurement of masks with their estimate. There is none for the dense model, before
// statistics, and where the dense model was not measured under the same conditions.
func (e *Exploration) comparison(s *Snapshot, masks subnet.Masks, refitted bool, got Measurement) (comparedRecord, bool) {
	if got.Dense <= 0 || !s.Statistics.Ready || masks.Equal(subnet.Dense(s.Model.Geometry)) {
		return comparedRecord{}, false
	}
	loss, ok := e.model.Predict(s.Statistics, masks)
	text, err := masks.MarshalText()
	if !ok || err != nil {
		return comparedRecord{}, false
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s%t", text, refitted)
	return comparedRecord{
		Of: fmt.Sprintf("%016x", h.Sum64()), Refitted: refitted, Estimated: loss, Measured: got.NLL - math.Log(got.Dense),
	}, true
}

// compare records the estimate of a subnet with its measurement.
func (e *Exploration) compare(ctx context.Context, a Actor, subject gguf.Subnet, got Measurement, m *monitor) error {
	c, ok := e.comparison(e.Snapshot(), subject.Masks, hasRefit(subject), got)
	if !ok {
		return nil
	}
	return m.record(ctx, a, func(*Snapshot) ([]record, error) { return []record{{Compared: &c}}, nil })
}

// compareAll does so for every subnet of the library that was measured, by the statistics there are now.
func (e *Exploration) compareAll(ctx context.Context, job *monitor) error {
	s := e.Snapshot()
	var found comparisons
	for _, n := range slices.Backward(s.Subnets) {
		for _, m := range n.Measurements {
			if c, ok := e.comparison(s, n.Masks, n.Refit != "", m); ok {
				found = append(found, c)
				break
			}
		}
	}
	return job.record(ctx, Actor{}, func(*Snapshot) ([]record, error) {
		var out []record
		for _, c := range found {
			if !slices.Contains(e.folded.comparisons, c) {
				out = append(out, record{Compared: &c})
			}
		}
		return out, nil
	})
}
