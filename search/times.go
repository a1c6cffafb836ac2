package search

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
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
	// Attention and MLP are the times where all modules of one kind are cut, from the
	// widest on.
	Attention, MLP []TimePoint
}

// TimePoint is the time per token where the modules of a kind keep a share of their
// width in the file.
type TimePoint struct{ Kept, Seconds float64 }

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
	above := TimePoint{1, dense}
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

// Bench measures masks and the dense model side by side. It returns the seconds per
// token of both, taken under the same conditions.
type Bench func(ctx context.Context, m subnet.Masks) (cut, dense float64, err error)

// MeasureTimes measures the times of a model with all layers cut alike: MLPs at three
// widths, and attention at up to four numbers of KV groups. Progress, unless nil, is
// called before each.
func MeasureTimes(ctx context.Context, g *subnet.Geometry, bench Bench, progress func(done, total int)) (Times, error) {
	attention, mlp := timedCuts(g)
	all := append(slices.Clone(attention), mlp...)
	if len(all) == 0 {
		return Times{}, fmt.Errorf("%w: the model has nothing to cut", ErrConfig)
	}
	var t Times
	relative := make([]float64, len(all)) // to the dense model
	for i, m := range all {
		if progress != nil {
			progress(i, len(all))
		}
		cut, dense, err := bench(ctx, m)
		if err != nil {
			return Times{}, err
		}
		if !(cut > 0 && dense > 0) {
			return Times{}, fmt.Errorf("search: a token took %v s, %v s with the dense model", cut, dense)
		}
		relative[i] = cut / dense
		if t.Dense == 0 || dense < t.Dense {
			t.Dense = dense
		}
	}
	point := func(i int, module subnet.Module) TimePoint {
		var sum, n float64
		for layer, k := range keptInFile(all[i]) {
			a, f := g.ModuleParams(layer)
			params := [subnet.Modules]float64{float64(a), float64(f)}[module]
			sum, n = sum+params*k[module], n+params
		}
		return TimePoint{sum / n, relative[i] * t.Dense}
	}
	for i := range all {
		if i < len(attention) {
			t.Attention = append(t.Attention, point(i, subnet.Attention))
		} else {
			t.MLP = append(t.MLP, point(i, subnet.MLP))
		}
	}
	t.Attention, t.MLP = falling(t.Attention), falling(t.MLP)
	if !plausible(t.Attention, t.Dense) || !plausible(t.MLP, t.Dense) {
		return Times{}, fmt.Errorf("%w: a narrower cut took longer than a wider one: other work on the machine disturbs the measurement, try again later", ErrTimes)
	}
	return t, nil
}

// plausible makes times not rise where the widths fall. It reports whether none rises by more than a measurement on a quiet machine varies.
func plausible(points []TimePoint, dense float64) bool {
	const varies = 1.1
	last := dense
	for i := range points {
		if points[i].Seconds > varies*last {
			return false
		}
		last = min(last, points[i].Seconds)
		points[i].Seconds = last
	}
	return true
}

// falling sorts points by their shares and removes those that are not below the one
// before, as where a file holds dropped units as zeros.
func falling(points []TimePoint) []TimePoint {
	slices.SortStableFunc(points, func(a, b TimePoint) int { return cmp.Compare(b.Kept, a.Kept) })
	last := 1.0
	return slices.DeleteFunc(points, func(p TimePoint) bool {
		same := p.Kept >= last-1e-9
		if !same {
			last = p.Kept
		}
		return same
	})
}

// timedCuts returns the masks that times are measured with.
func timedCuts(g *subnet.Geometry) (attention, mlp []subnet.Masks) {
	groups := 0
	for _, l := range g.Layers {
		groups = max(groups, l.KVHeads)
	}
	var kept []float64
	for step := range min(groups, 4) {
		kept = append(kept, float64(step)/float64(min(groups, 4)))
	}
	for _, share := range kept {
		attention = appendCut(attention, g, func(l *subnet.Layer, lg subnet.LayerGeometry) {
			n := int(math.Round(share * float64(lg.KVHeads)))
			l.Heads = subnet.Range(lg.Heads, 0, n*max(lg.HeadsPerGroup(), 1))
			if lg.KVHeads == 0 {
				l.Heads = subnet.Empty(lg.Heads)
			}
		})
	}
	for _, eighths := range []int{6, 4, 2} {
		mlp = appendCut(mlp, g, func(l *subnet.Layer, lg subnet.LayerGeometry) {
			n := lg.FFN * eighths / 8
			if step := subnet.DefaultGranularity; n > step {
				n = n / step * step
			}
			l.Channels = subnet.Range(lg.FFN, 0, n)
		})
	}
	return attention, mlp
}

// appendCut appends the masks in which all layers are changed, unless there are none
// or they keep everything.
func appendCut(list []subnet.Masks, g *subnet.Geometry, change func(*subnet.Layer, subnet.LayerGeometry)) []subnet.Masks {
	layers := make([]subnet.Layer, len(g.Layers))
	for i, lg := range g.Layers {
		layers[i] = subnet.DenseLayer(lg)
		change(&layers[i], lg)
	}
	m, err := subnet.New(g, layers)
	if err != nil || m.Equal(subnet.Dense(g)) {
		return list
	}
	return append(list, m)
}
