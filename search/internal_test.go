package search

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/reform/linalg"
	"github.com/lathe-llm/lathe/search/space"
)

// bruteForce is the slow reference of allocate.
func bruteForce(c costs, loss func(slot, level int) float64) float64 {
	best := math.Inf(1)
	choice := make(space.Choice, len(c.level))
	for {
		if c.fits(choice) {
			sum := 0.0
			for s, v := range choice {
				sum += loss(s, int(v))
			}
			best = min(best, sum)
		}
		s := 0
		for ; s < len(choice); s++ {
			if choice[s]++; int(choice[s]) < len(c.level[s]) {
				break
			}
			choice[s] = 0
		}
		if s == len(choice) {
			return best
		}
	}
}

func TestAllocate(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		c := costs{fixed: int64(rng.IntN(50)), level: make([][]int64, 1+rng.IntN(6))}
		losses := make([][]float64, len(c.level))
		for s := range c.level {
			for range 1 + rng.IntN(4) {
				c.level[s] = append(c.level[s], int64(rng.IntN(100)))
				losses[s] = append(losses[s], rng.Float64())
			}
		}
		c.budget = c.of(c.cheapest()) + int64(rng.IntN(200)) - 20
		loss := func(s, i int) float64 { return losses[s][i] }
		choice, ok := c.allocate(loss)
		want := bruteForce(c, loss)
		if ok != !math.IsInf(want, 1) {
			t.Fatalf("found %v, the best has %v", ok, want)
		}
		if !ok {
			continue
		}
		got := 0.0
		for s, v := range choice {
			got += losses[s][v]
		}
		if !c.fits(choice) || math.Abs(got-want) > 1e-12 {
			t.Fatalf("loss %v at a cost of %d of %d, the best has %v", got, c.of(choice), c.budget, want)
		}
	}
}

// TestAllocateCoarsely has costs without a common divisor: the result fits and uses
// nearly all of the budget.
func TestAllocateCoarsely(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	c := costs{level: make([][]int64, 40)}
	losses := make([][]float64, 40)
	for s := range c.level {
		price, loss := int64(1e9+rng.IntN(1e9)), 0.0
		for range 17 {
			c.level[s] = append(c.level[s], price)
			losses[s] = append(losses[s], loss)
			price -= int64(rng.IntN(6e7))
			loss += rng.Float64()
		}
	}
	c.budget = c.of(make(space.Choice, 40)) * 8 / 10
	choice, ok := c.allocate(func(s, i int) float64 { return losses[s][i] })
	if !ok || !c.fits(choice) {
		t.Fatal("nothing was found that fits")
	}
	if room := float64(c.budget-c.of(choice)) / float64(c.budget); room > 0.01 {
		t.Errorf("%.3f of the budget is left", room)
	}
}

// TestSensitivityLearns recovers weights from noisy comparisons.
func TestSensitivityLearns(t *testing.T) {
	const slots = 12
	rng := rand.New(rand.NewPCG(3, 3))
	truth := make([]float64, slots)
	for i := range truth {
		truth[i] = math.Exp(0.5 * rng.NormFloat64())
	}
	s := newSensitivity(slots, 1)
	off := func(w []float64) float64 {
		sum := 0.0
		for i := range w {
			sum += math.Abs(w[i]-truth[i]) / slots
		}
		return sum
	}
	before := off(s.mean())
	for range 400 {
		d := make([]float64, slots)
		fitness := 0.01 * rng.NormFloat64()
		for range 4 {
			i := rng.IntN(slots)
			d[i] = 0.2 * rng.NormFloat64()
		}
		for i := range d {
			fitness += truth[i] * d[i]
		}
		s.observe(s.mean(), d, fitness, 1, 1024)
	}
	if after := off(s.mean()); after > 0.1*before {
		t.Errorf("the error of the weights is %.4f, it was %.4f", after, before)
	}
	// Samples have the mean and the variance of the posterior.
	mean, sum, square := s.mean(), make([]float64, slots), make([]float64, slots)
	const draws = 4000
	for range draws {
		for i, w := range s.sample(rng, 1) {
			sum[i] += w - mean[i]
			square[i] += (w - mean[i]) * (w - mean[i])
		}
	}
	f, err := linalg.Factorize(s.Precision, slots, 0)
	if err != nil {
		t.Fatal(err)
	}
	covariance := f.Inverse()
	for i := range slots {
		variance := covariance[i*slots+i]
		if got := square[i] / draws; math.Abs(got/variance-1) > 0.15 {
			t.Errorf("weight %d has variance %.3g, the posterior %.3g", i, got, variance)
		}
		if math.Abs(sum[i]/draws) > 5*math.Sqrt(variance/draws) {
			t.Errorf("samples of weight %d differ from the mean by %.4f", i, sum[i]/draws)
		}
	}
}

// A checkpoint may hold a precision that has no Cholesky factor.
func TestSensitivityOfDamagedPrecision(t *testing.T) {
	s := Sensitivity{Precision: []float64{1, 2, 2, 1}, Shift: []float64{3, 3}}
	if got := s.mean(); !slices.Equal(got, []float64{1, 1}) {
		t.Errorf("weights are %v", got)
	}
}

func TestSpearman(t *testing.T) {
	for _, c := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{1, 2, 3, 4}, []float64{10, 20, 30, 400}, 1},
		{[]float64{1, 2, 3, 4}, []float64{4, 3, 2, 1}, -1},
		{[]float64{1, 2, 3}, []float64{1, 1, 1}, 0},
		{[]float64{1, 2}, []float64{1, 2}, 0},
		{[]float64{1, 2, 2, 4}, []float64{1, 3, 2, 4}, 0.9486832980505138},
	} {
		if got := Spearman(c.a, c.b); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%v, %v: %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

func TestFront(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	var s State
	var all []Individual
	for i := range 500 {
		in := Individual{ID: i, Ratio: float64(rng.IntN(1000)) / 1000, Score: Score{Fitness: rng.Float64()}}
		all = append(all, in)
		s.addToFront(in)
	}
	dominated := func(in Individual) bool {
		return slices.ContainsFunc(all, func(o Individual) bool {
			return o.Ratio <= in.Ratio && o.Score.Fitness < in.Score.Fitness || o.Ratio < in.Ratio && o.Score.Fitness <= in.Score.Fitness
		})
	}
	want := 0
	for _, in := range all {
		if !dominated(in) {
			want++
		}
	}
	if len(s.Front) != want {
		t.Errorf("%d on the front, want %d", len(s.Front), want)
	}
	for _, in := range s.Front {
		if dominated(in) {
			t.Errorf("#%d is on the front and should not be", in.ID)
		}
	}
	// A front that is too long loses inner members only.
	s = State{}
	for i := range 3 * maxFront {
		s.addToFront(Individual{ID: i, Ratio: float64(i), Score: Score{Fitness: -float64(i)}})
	}
	if len(s.Front) != maxFront || s.Front[0].ID != 0 || s.Front[maxFront-1].ID != 3*maxFront-1 {
		t.Errorf("%d members from #%d", len(s.Front), s.Front[0].ID)
	}
}

func TestThinned(t *testing.T) {
	var s []int
	for i := range 1000 {
		s = thinned(append(s, i), 64)
		if len(s) > 64 || s[len(s)-1] != i {
			t.Fatalf("%d elements, the last is %d of %d", len(s), s[len(s)-1], i)
		}
	}
}

func TestMoves(t *testing.T) {
	if got := moves(space.Choice{2, 0, 1, 1}, space.Choice{0, 0, 1, 2}); got != "L0 attention ↑2 L1 mlp ↓1" {
		t.Errorf("%q", got)
	}
}

func TestSignificantlyBetter(t *testing.T) {
	parent := Score{Fitness: 2, Parts: []float64{1, 2, 3, 2}}
	for _, c := range []struct {
		name  string
		score Score
		want  bool
	}{
		{"on every part by as much", Score{Fitness: 1.9, Parts: []float64{0.9, 1.9, 2.9, 1.9}}, true},
		{"on one part only", Score{Fitness: 1.9, Parts: []float64{0.6, 2, 3, 2}}, false},
		// Differences 0.2 ± 0.1: a mean of 0.2 and a standard error of 0.0577.
		{"on most parts", Score{Fitness: 1.8, Parts: []float64{0.7, 1.9, 2.9, 1.7}}, true},
		{"worse", Score{Fitness: 2.1, Parts: []float64{1.1, 2.1, 3.1, 2.1}}, false},
		{"no parts", Score{Fitness: 1.999}, true},
		{"other parts", Score{Fitness: 1.999, Parts: []float64{1.999}}, true},
	} {
		if got := c.score.significantlyBetter(parent, 2); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if s := (Score{Fitness: 1.8, Parts: []float64{0.7, 1.9, 2.9, 1.7}}); s.significantlyBetter(parent, 4) {
		t.Error("3.5 standard errors count as 4")
	}
}
