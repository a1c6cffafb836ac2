package search

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Timer generates a few tokens with masks some times over, and returns the seconds per
// token of each time.
type Timer func(ctx context.Context, m subnet.Masks) ([]float64, error)

const (
	roundsApart = 8 // between two looks at the times; each look is a chance to end too early
	mostRounds  = 64
	lowest      = 0.05 // quantile of the times of one cut that counts
	quietSpread = 0.02 // ends a measurement
	mostSpread  = 0.06 // of times that can be used, as multiples of the dense model's
	denseSpread = 0.10 // of the dense model's time that can be used
	minorRise   = 0.02 // of times of narrower cuts, besides their spreads
)

// MeasureTimes measures the times of a model with all layers cut alike: MLPs at three
// widths, and attention at up to four numbers of KV groups. All of them and the dense
// model generate in turn, so that a change of the machine's speed affects them alike,
// and a low quantile of each one's times counts, since other work on the machine, or
// on the host of a virtual one, only makes them longer. Rounds go on until this
// quantile is nearly the same in different parts of the measurement. Times of narrower
// cuts that exceed those of wider ones by no more than noise explains become equal to
// them by isotonic regression. Progress, unless nil, is called before each round.
//
// The error wraps [ErrTimes] where times still differ after the last round.
func MeasureTimes(ctx context.Context, g *subnet.Geometry, run Timer, progress func(round, rounds int)) (Times, error) {
	attention, mlp := timedCuts(g)
	if len(attention)+len(mlp) == 0 {
		return Times{}, fmt.Errorf("%w: the model has nothing to cut", ErrConfig)
	}
	cuts := slices.Concat(attention, mlp)
	runs := make([][][]float64, 1+len(cuts)) // of the dense model, then of each cut: rounds of times
	for round := 1; ; round++ {
		if progress != nil {
			progress(round-1, mostRounds)
		}
		if err := runAll(ctx, cuts, runs, round%2 == 0, run); err != nil {
			return Times{}, err
		}
		if round%roundsApart != 0 {
			continue
		}
		t, unreliable := timesOf(g, cuts, len(attention), runs)
		switch {
		case unreliable == "" && (max(t.Spread, t.spread()) <= quietSpread || round == mostRounds):
			return t, nil
		case round == mostRounds:
			return Times{}, fmt.Errorf("%w: %s: other work on the machine disturbs the measurement, try again later", ErrTimes, unreliable)
		}
	}
}

// runAll appends a round of the dense model and of each cut, in the order of runs or
// backwards.
func runAll(ctx context.Context, cuts []subnet.Masks, runs [][][]float64, backwards bool, run Timer) error {
	for k := range runs {
		i := k
		if backwards {
			i = len(runs) - 1 - k
		}
		m := subnet.Dense(cuts[0].Geometry())
		if i > 0 {
			m = cuts[i-1]
		}
		seconds, err := run(ctx, m)
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case len(seconds) == 0 || slices.ContainsFunc(seconds, func(s float64) bool { return !(s > 0) || math.IsInf(s, 0) }):
			return fmt.Errorf("search: tokens took %v s", seconds)
		}
		runs[i] = append(runs[i], seconds)
	}
	return nil
}

// timesOf returns the times of runs, and why they are unreliable, "" where they are not. The
// first cuts are of attention, the others of MLPs.
func timesOf(g *subnet.Geometry, cuts []subnet.Masks, attention int, runs [][][]float64) (t Times, unreliable string) {
	t.Dense, t.Spread = undisturbed(runs[0], nil)
	for i, m := range cuts {
		module, points := subnet.Attention, &t.Attention
		if i >= attention {
			module, points = subnet.MLP, &t.MLP
		}
		p := TimePoint{Kept: keptOf(g, m, module)}
		p.Seconds, p.Spread = undisturbed(runs[i+1], runs[0])
		*points = append(*points, p)
	}
	if s := t.spread(); t.Spread > denseSpread || s > mostSpread {
		return t, fmt.Sprintf("between parts of the measurement, times per token of the dense model differ by %.0f %%, and times of cuts as multiples of it by up to %.0f %%", 100*t.Spread, 100*s)
	}
	for _, of := range []struct {
		name   string
		points *[]TimePoint
	}{{"attention", &t.Attention}, {"MLPs", &t.MLP}} {
		*of.points = byWidth(*of.points)
		if rise := risen(of.name, t, *of.points); rise != "" {
			return t, rise
		}
		regress(*of.points, t.Dense)
	}
	return t, ""
}

// parts returns parts of a measurement, which are compared two by two: even and odd
// rounds, and its halves.
func parts(rounds [][]float64) [4][][]float64 {
	n := len(rounds) / 2
	p := [4][][]float64{2: rounds[:n], 3: rounds[n:]}
	for i, r := range rounds {
		p[i%2] = append(p[i%2], r)
	}
	return p
}

// undisturbed returns the time without other work, the low quantile of the times of
// some rounds, and its spread: by how much it differs between parts of the measurement,
// as a share of it. With base, times count as multiples of those of base in each part,
// so that a slower machine in one of them makes no difference.
func undisturbed(rounds, base [][]float64) (seconds, spread float64) {
	of := parts(rounds)
	var times [len(of)]float64
	for i, p := range of {
		times[i] = low(p)
	}
	seconds, share := low(rounds), low(rounds)
	if base != nil {
		for i, p := range parts(base) {
			times[i] /= low(p)
		}
		share /= low(base)
	}
	return seconds, max(math.Abs(times[0]-times[1]), math.Abs(times[2]-times[3])) / share
}

// low returns the low quantile of the times of rounds.
func low(rounds [][]float64) float64 {
	sorted := slices.Sorted(slices.Values(slices.Concat(rounds...)))
	return sorted[int(lowest*float64(len(sorted)))]
}

// spread returns the largest spread of cuts.
func (t *Times) spread() float64 {
	largest := 0.0
	for _, p := range slices.Concat(t.Attention, t.MLP) {
		largest = max(largest, p.Spread)
	}
	return largest
}

// keptOf returns the share of a module's widths that the file of masks has.
func keptOf(g *subnet.Geometry, m subnet.Masks, module subnet.Module) float64 {
	var sum, n float64
	for layer, k := range keptInFile(m) {
		a, f := g.ModuleParams(layer)
		params := [subnet.Modules]float64{float64(a), float64(f)}[module]
		sum, n = sum+params*k[module], n+params
	}
	return sum / n
}

// risen describes a cut that took longer than a wider one by more than their spreads
// explain, "" for none.
func risen(name string, t Times, points []TimePoint) string {
	chain := append([]TimePoint{{Kept: 1, Seconds: t.Dense, Spread: t.Spread}}, points...)
	for i, narrow := range chain {
		for _, wide := range chain[:i] {
			noise := math.Hypot(narrow.Spread, wide.Spread)
			if rise := narrow.Seconds/wide.Seconds - 1; rise > noise+minorRise {
				return fmt.Sprintf("with %s of %.2f of their width a token took %.3g ms, %.0f %% longer than with %.2f, and runs differ by %.0f %%",
					name, narrow.Kept, 1e3*narrow.Seconds, 100*rise, wide.Kept, 100*noise)
			}
		}
	}
	return ""
}

// regress replaces the times of points, from the widest on, by those next to them that
// do not rise and do not exceed the dense model's: isotonic regression by pooling
// adjacent violators (Ayer et al., 1955), weighted by the inverse squares of the
// spreads.
func regress(points []TimePoint, dense float64) {
	type pool struct{ seconds, weight, n float64 }
	var pools []pool
	for _, p := range points {
		s := max(p.Spread, minorRise/10)
		next := pool{p.Seconds, 1 / (s * s), 1}
		for len(pools) > 0 && pools[len(pools)-1].seconds < next.seconds {
			last := pools[len(pools)-1]
			pools = pools[:len(pools)-1]
			w := last.weight + next.weight
			next = pool{(last.weight*last.seconds + next.weight*next.seconds) / w, w, last.n + next.n}
		}
		pools = append(pools, next)
	}
	i := 0
	for _, p := range pools {
		for range int(p.n) {
			points[i].Seconds = min(p.seconds, dense)
			i++
		}
	}
}

// byWidth sorts points by their shares and removes those that are not below the one
// before, as where a file holds dropped units as zeros.
func byWidth(points []TimePoint) []TimePoint {
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

// timedStep is what widths of MLPs that are timed are a multiple of, where they are not
// narrower.
const timedStep = 256

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
			for _, step := range []int{timedStep, subnet.DefaultGranularity} { // of the block of K-quants, which otherwise fall back to larger types
				if n >= step {
					n = n / step * step
					break
				}
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
