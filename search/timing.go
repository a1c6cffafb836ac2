package search

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Timer generates tokens with masks for about so many seconds, and returns the seconds
// per token.
type Timer func(ctx context.Context, m subnet.Masks, seconds float64) (float64, error)

// A timedTry is a series of rounds. In each round every subnet generates once.
type timedTry struct {
	most    int     // rounds
	seconds float64 // of one run
}

// timedTries are the tries to measure times: another, longer one follows where noise
// does not explain what the first one measured.
func timedTries() []timedTry { return []timedTry{{16, 0.25}, {32, 0.5}} }

const (
	leastRounds = 6
	fastest     = 3    // runs that the spread is taken from
	quietSpread = 0.02 // ends a try
	mostSpread  = 0.05 // of times that can be used
	minorRise   = 0.02 // of times of narrower cuts, besides their spreads
)

// MeasureTimes measures the times of a model with all layers cut alike: MLPs at three
// widths, and attention at up to four numbers of KV groups. All of them and the dense
// model generate in turn, so that a change of the machine's speed affects them alike,
// and the fastest run of each counts, since other work on the machine only makes runs
// slower. Times of narrower cuts that exceed those of wider ones by no more than noise
// explains become equal to them by isotonic regression. Where runs differ too much, or
// a narrower cut is slower, there is a second and longer try. Progress, unless nil, is
// called before each round, in the second try with the reason for it.
//
// The error wraps [ErrTimes] where the second try is disturbed too.
func MeasureTimes(ctx context.Context, g *subnet.Geometry, run Timer, progress func(round, rounds int, again string)) (Times, error) {
	attention, mlp := timedCuts(g)
	if len(attention)+len(mlp) == 0 {
		return Times{}, fmt.Errorf("%w: the model has nothing to cut", ErrConfig)
	}
	cuts := slices.Concat(attention, mlp)
	var t Times
	unreliable, again := "", ""
	for _, try := range timedTries() {
		again = unreliable
		runs := make([][]float64, 1+len(cuts)) // of the dense model, then of each cut
		for round := range try.most {
			if progress != nil {
				progress(round, try.most, again)
			}
			if err := runAll(ctx, cuts, runs, round%2 == 1, func(m subnet.Masks) (float64, error) { return run(ctx, m, try.seconds) }); err != nil {
				return Times{}, err
			}
			if round+1 < leastRounds {
				continue
			}
			if t, unreliable = timesOf(g, cuts, len(attention), runs); unreliable == "" && (t.spread() <= quietSpread || round+1 == try.most) {
				return t, nil
			}
		}
	}
	return Times{}, fmt.Errorf("%w: %s: other work on the machine disturbs the measurement, try again later", ErrTimes, unreliable)
}

// runAll appends a run of the dense model and of each cut, in the order of runs or
// backwards.
func runAll(ctx context.Context, cuts []subnet.Masks, runs [][]float64, backwards bool, run func(subnet.Masks) (float64, error)) error {
	for k := range runs {
		i := k
		if backwards {
			i = len(runs) - 1 - k
		}
		m := subnet.Dense(cuts[0].Geometry())
		if i > 0 {
			m = cuts[i-1]
		}
		seconds, err := run(m)
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case !(seconds > 0) || math.IsInf(seconds, 0):
			return fmt.Errorf("search: a token took %v s", seconds)
		}
		runs[i] = append(runs[i], seconds)
	}
	return nil
}

// timesOf returns the times of runs, and why they are unreliable, "" where they are not. The
// first cuts are of attention, the others of MLPs.
func timesOf(g *subnet.Geometry, cuts []subnet.Masks, attention int, runs [][]float64) (t Times, unreliable string) {
	t.Dense, t.Spread = fastestRun(runs[0])
	for i, m := range cuts {
		module, points := subnet.Attention, &t.Attention
		if i >= attention {
			module, points = subnet.MLP, &t.MLP
		}
		p := TimePoint{Kept: keptOf(g, m, module)}
		p.Seconds, p.Spread = fastestRun(runs[i+1])
		*points = append(*points, p)
	}
	if s := t.spread(); s > mostSpread {
		return t, fmt.Sprintf("the %d fastest of %d runs differ by %.0f %%, more than %.0f %%", fastest, len(runs[0]), 100*s, 100*mostSpread)
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

// fastestRun returns the time of the fastest of some runs, and how far the few fastest
// lie apart as a share of it.
func fastestRun(runs []float64) (seconds, spread float64) {
	sorted := slices.Sorted(slices.Values(runs))
	return sorted[0], sorted[min(fastest, len(sorted))-1]/sorted[0] - 1
}

// spread returns the largest spread.
func (t *Times) spread() float64 {
	largest := t.Spread
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
