package search

import (
	"math"
	"time"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Times are the times in which one machine generates a token with subnets of a model,
// measured with all layers cut alike. They hold for other subnets as far as the time of
// a token is the sum over the modules, which it is where tokens are generated one by
// one.
type Times struct {
	Machine string    // identifies the machine
	Model   string    // identifies the model
	Type    string    // of the matrices; "" is that of each in the source
	At      time.Time // when they were measured
	Dense   float64   // seconds per token of the dense model
	Spread  float64   `json:",omitempty"` // of Dense, as in TimePoint
	// Attention and MLP are the times where all modules of one kind are cut, from the
	// widest on.
	Attention, MLP []TimePoint
}

// TimePoint is the time per token where the modules of a kind keep a share of their
// width in the file. Spread is by how much the time differs between parts of the
// measurement, as a share of it.
type TimePoint struct {
	Kept, Seconds float64
	Spread        float64 `json:",omitempty"`
}

// Seconds returns the time per token of masks: that of the dense model, and for each
// module the change that cutting it makes.
func (t *Times) Seconds(m subnet.Masks) float64 {
	sum := t.Dense
	kept := keptInFile(m)
	var whole [subnet.Modules]float64
	for i := range kept {
		a, f := m.Geometry().ModuleParams(i)
		whole[subnet.Attention] += float64(a)
		whole[subnet.MLP] += float64(f)
	}
	for i, k := range kept {
		a, f := m.Geometry().ModuleParams(i)
		if a > 0 {
			sum += float64(a) / whole[subnet.Attention] * (interpolated(t.Attention, t.Dense, k[subnet.Attention]) - t.Dense)
		}
		if f > 0 {
			sum += float64(f) / whole[subnet.MLP] * (interpolated(t.MLP, t.Dense, k[subnet.MLP]) - t.Dense)
		}
	}
	return max(sum, t.Dense*leastTime)
}

// leastTime bounds from below what is extrapolated, as a share of the dense model's
// time.
const leastTime = 1e-3

// Valid reports whether the times are positive and finite, and the shares fall.
func (t *Times) Valid() bool {
	good := func(v float64) bool { return v > 0 && !math.IsInf(v, 0) }
	if !good(t.Dense) {
		return false
	}
	for _, points := range [][]TimePoint{t.Attention, t.MLP} {
		last := 1.0
		for _, p := range points {
			if !(p.Kept >= 0 && p.Kept < last) || !good(p.Seconds) {
				return false
			}
			last = p.Kept
		}
	}
	return true
}

// interpolated returns the time at a share of the width, between the points and, below
// the last one, along the last two.
func interpolated(points []TimePoint, dense, kept float64) float64 {
	above := TimePoint{Kept: 1, Seconds: dense}
	for i, p := range points {
		if kept >= p.Kept || i == len(points)-1 {
			return above.Seconds + (above.Kept-kept)/(above.Kept-p.Kept)*(p.Seconds-above.Seconds)
		}
		above = p
	}
	return dense
}

// keptInFile returns, for each layer of the dense model, the shares of the widths of
// attention and MLP that the file of masks has, units that it holds as zeros included.
func keptInFile(m subnet.Masks) [][subnet.Modules]float64 {
	g, cut := m.Geometry(), m.Cut()
	kept := make([][subnet.Modules]float64, len(g.Layers))
	for _, l := range cut.Layers {
		lg := g.Layers[l.Source]
		if n := (lg.Heads + lg.KVHeads) * g.HeadDim; n > 0 {
			kept[l.Source][subnet.Attention] += float64((len(l.Heads)+len(l.Groups))*cut.HeadDim) / float64(n)
		}
		if lg.FFN > 0 {
			kept[l.Source][subnet.MLP] += float64(len(l.Channels)) / float64(lg.FFN)
		}
	}
	return kept
}
