package search

import (
	"math/rand/v2"
	"slices"

	"github.com/lathe-llm/lathe/reform/linalg"
)

// Sensitivity is the posterior of the weights w by which a search corrects the
// predicted losses of each slot s, in the linear model
// fitness(a) - fitness(b) ≈ Σ_s w_s (loss_s(a) - loss_s(b)) with the prior
// w ~ N(1, spread²). Two subnets are compared on the same text, so the error of a
// comparison is assumed to grow with their difference: its variance is
// noise · Σ_s (loss_s(a) - loss_s(b))² / tokens. In information form, a comparison
// is added to the posterior by summation.
type Sensitivity struct {
	Precision []float64 // [slots, slots], symmetric
	Shift     []float64 // Precision · mean
	// Noise is the running mean, for each tier, of the squared errors of
	// comparisons, in the unit above.
	Noise []float64
}

const (
	priorSpread = 0.5
	// minWeight bounds weights from below: no loss is negative.
	minWeight = 0.05
	// initialNoise is the first Noise: on a single token the standard deviation of
	// a module's loss is six times the loss.
	initialNoise = 36
	// noiseMemory is the share of the old value in the running mean.
	noiseMemory = 0.95
)

func newSensitivity(slots, tiers int) Sensitivity {
	s := Sensitivity{Precision: make([]float64, slots*slots), Shift: make([]float64, slots), Noise: slices.Repeat([]float64{initialNoise}, tiers)}
	for i := range slots {
		s.Precision[i*slots+i] = 1 / (priorSpread * priorSpread)
		s.Shift[i] = s.Precision[i*slots+i]
	}
	return s
}

func (s Sensitivity) clone() Sensitivity {
	return Sensitivity{slices.Clone(s.Precision), slices.Clone(s.Shift), slices.Clone(s.Noise)}
}

// observe adds one comparison: the differences of the predicted losses by slot and
// the difference of the fitness, measured on the n-th tier (from 1) of so many
// tokens. mean is the posterior mean before the comparisons of this generation.
func (s *Sensitivity) observe(mean, losses []float64, fitness float64, n, tokens int) {
	predicted, square := 0.0, 0.0
	for i, d := range losses {
		predicted += mean[i] * d
		square += d * d
	}
	if square == 0 {
		return
	}
	squaredError := (fitness - predicted) * (fitness - predicted) * float64(tokens) / square
	s.Noise[n-1] = noiseMemory*s.Noise[n-1] + (1-noiseMemory)*squaredError
	weight := float64(tokens) / (s.Noise[n-1] * square)
	for i, a := range losses {
		if a == 0 {
			continue
		}
		s.Shift[i] += weight * a * fitness
		row := s.Precision[i*len(losses):][:len(losses)]
		for j, b := range losses {
			row[j] += weight * a * b
		}
	}
}

// mean returns the posterior mean of the weights, bounded below.
func (s *Sensitivity) mean() []float64 { return s.solve(func() float64 { return 0 }) }

// sample draws weights from the posterior with its standard deviations multiplied
// by scale, bounded below.
func (s *Sensitivity) sample(rng *rand.Rand, scale float64) []float64 {
	return s.solve(func() float64 { return scale * rng.NormFloat64() })
}

// solve returns L⁻ᵀ(L⁻¹·Shift + z) for Precision P = L·Lᵀ: for z ~ N(0, 1) it has
// mean P⁻¹·Shift and covariance P⁻¹. The prior keeps P positive definite; where a
// damaged one is not, the weights are those of the prior mean.
func (s *Sensitivity) solve(z func() float64) []float64 {
	n := len(s.Shift)
	f, err := linalg.Factorize(s.Precision, n, 0)
	if err != nil {
		return slices.Repeat([]float64{1}, n)
	}
	v := slices.Clone(s.Shift)
	f.SolveLower(v, 1)
	for i := range v {
		v[i] += z()
	}
	f.SolveUpper(v, 1)
	return bounded(v)
}

func bounded(w []float64) []float64 {
	for i := range w {
		w[i] = max(finite(w[i]), minWeight)
	}
	return w
}
