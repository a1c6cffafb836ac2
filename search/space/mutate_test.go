package space

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// literalRedraw is Algorithm 1 as the paper prints it.
func literalRedraw(rng *rand.Rand, m Mutation, s subnet.Set, k int) subnet.Set {
	if s.Len() == k && rng.Float64() > m.Pm {
		return s
	}
	for range m.Eta {
		if fresh := subnet.Full(s.N()).Sample(rng, k); float64(fresh.Overlap(s)) >= m.Alpha*float64(s.N())-1e-9 {
			return fresh
		}
	}
	return s
}

// TestRedrawMatchesTheLoop compares the distribution of the overlap with that of
// the loop it replaces, by a χ² test over its values.
func TestRedrawMatchesTheLoop(t *testing.T) {
	for _, c := range []struct {
		name    string
		mu      Mutation
		n, s, k int
	}{
		{"same size", Mutation{Literal: true, Pm: 0.5, Alpha: 0.5, Eta: 20}, 16, 12, 12},
		{"smaller", Mutation{Literal: true, Pm: 0.5, Alpha: 0.5, Eta: 5}, 16, 12, 10},
		{"larger", Mutation{Literal: true, Pm: 0.5, Alpha: 0.6, Eta: 50}, 16, 11, 14},
		{"rare", Mutation{Literal: true, Pm: 0.7, Alpha: 0.4, Eta: 10}, 16, 8, 8},
		{"never", Mutation{Literal: true, Pm: 1, Alpha: 0.8, Eta: 50}, 16, 8, 8},
		{"always", Mutation{Literal: true, Pm: 1, Alpha: 0, Eta: 1}, 16, 4, 6},
		{"no tries", Mutation{Literal: true, Pm: 1, Alpha: 0, Eta: 0}, 16, 4, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			const draws = 5000
			rng := rand.New(rand.NewPCG(21, 22))
			s := subnet.Full(c.n).Sample(rng, c.s)
			// counts[x] of the fast and the literal outcome: overlap x of the
			// wanted size, or n+1 for the old set.
			var counts [2][]float64
			for i, redraw := range []func() subnet.Set{
				func() subnet.Set { return c.mu.Redraw(rng, s, c.k) },
				func() subnet.Set { return literalRedraw(rng, c.mu, s, c.k) },
			} {
				counts[i] = make([]float64, c.n+2)
				for range draws {
					if got := redraw(); got.Equal(s) {
						counts[i][c.n+1]++
					} else {
						if got.Len() != c.k {
							t.Fatalf("%d units, want %d", got.Len(), c.k)
						}
						counts[i][got.Overlap(s)]++
					}
				}
			}
			chi, free := 0.0, 0
			for x := range counts[0] {
				a, b := counts[0][x], counts[1][x]
				if a+b > 20 {
					chi += (a - b) * (a - b) / (a + b)
					free++
				}
			}
			// Far beyond the 99.9 % point for the few values there are.
			if limit := float64(free) + 5*math.Sqrt(2*float64(free)); chi > limit {
				t.Errorf("χ² = %.1f over %d values, limit %.1f\n%v\n%v", chi, free, limit, counts[0], counts[1])
			}
		})
	}
}

func TestDirectedRedraw(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 24))
	mu := Mutation{Pm: 1, Alpha: 0.75, Directed: true}
	for range 2000 {
		n := 1 + rng.IntN(40)
		s, k := subnet.Full(n).Sample(rng, rng.IntN(n+1)), rng.IntN(n+1)
		got := mu.Redraw(rng, s, k)
		if got.Len() != k || float64(got.Overlap(s)) < mu.Alpha*float64(min(s.Len(), k)) {
			t.Fatalf("%d of %d units from %d, %d of them kept", got.Len(), n, s.Len(), got.Overlap(s))
		}
	}
}

func TestSubsetIsUniform(t *testing.T) {
	const n, k, draws = 10, 3, 30000
	rng := rand.New(rand.NewPCG(31, 32))
	counts := make([]float64, n)
	for range draws {
		s := subnet.Full(n).Sample(rng, k)
		if s.Len() != k {
			t.Fatalf("%d units", s.Len())
		}
		for _, i := range s.Indices() {
			counts[i]++
		}
	}
	want := float64(draws) * k / n
	for i, c := range counts {
		if math.Abs(c-want) > 5*math.Sqrt(want) {
			t.Errorf("unit %d drawn %v times, expected %v", i, c, want)
		}
	}
}

// start returns masks that keep a share of every head and MLP of smol.
func start(share float64, s Space) subnet.Masks {
	m := subnet.Dense(smol())
	for i, lg := range m.Geometry().Layers {
		l := subnet.DenseLayer(lg)
		l.Channels = subnet.Range(lg.FFN, 0, subnet.Count(lg.FFN, share, s.Granularity))
		in := subnet.Range(64, 0, subnet.Count(64, share, s.HeadGranularity))
		l.QK = []subnet.Set{in, in, in}
		l.VO = l.QK
		m = m.With(i, l)
	}
	return m
}

func TestMutateStaysInSpace(t *testing.T) {
	rng := rand.New(rand.NewPCG(41, 42))
	for _, target := range []float64{0.9, 0.8, 0.7, 0.6, 0.5} {
		s := PaperSpace(smol(), target)
		base := start(0.9, s)
		if err := s.Check(base); err != nil {
			t.Fatal(err)
		}
		a, b := base, base
		mu := Mutation{Pm: 0.6, Ps: 0.3, Pd: 0.3, Alpha: 0.8, Eta: 1000, Directed: true}
		for range 30 {
			a, b = s.Mutate(rng, a, base, mu), s.Mutate(rng, b, base, mu)
			for _, m := range []subnet.Masks{a, b} {
				if err := errors.Join(m.Validate(), s.Check(m)); err != nil {
					t.Fatalf("target %v: %v", target, err)
				}
				if m.BlockParams() < s.Smallest(smol()) {
					t.Fatalf("target %v: smaller than the smallest", target)
				}
			}
			child := Crossover(rng, a, b)
			if err := child.Validate(); err != nil {
				t.Fatal(err)
			}
			for i := range child.Layers() {
				from := child.Layer(i).Channels
				if !from.Equal(a.Layer(i).Channels) && !from.Equal(b.Layer(i).Channels) {
					t.Fatalf("MLP of layer %d is of neither parent", i)
				}
			}
		}
		if a.Equal(base) {
			t.Errorf("target %v: thirty mutations changed nothing", target)
		}
	}
}

// TestMutateRates compares observed rates with P_m, P_s and P_d.
func TestMutateRates(t *testing.T) {
	rng := rand.New(rand.NewPCG(51, 52))
	s := PaperSpace(smol(), 0.9)
	s.MinLayers = 20
	base := start(0.9, s)
	const rounds = 300
	var ratios, sets, depths, units float64
	mu := Mutation{Pm: 0.3, Ps: 0.1, Pd: 0.1, Alpha: 0, Eta: 1}
	for range rounds {
		m := s.Mutate(rng, base, base, mu)
		dropped := false
		for i := range m.Layers() {
			l := m.Layer(i)
			if l.IsDropped() {
				dropped = true
				continue
			}
			units++
			switch was := base.Layer(i).Channels; {
			case l.Channels.Len() != was.Len():
				ratios++
			case !l.Channels.Equal(was):
				sets++
			}
		}
		if dropped {
			depths++
		}
	}
	// Of the nine ratios one is the old one; of eleven depths one drops nothing.
	for _, c := range []struct {
		name      string
		got, want float64
		n         float64
	}{
		{"ratio", ratios / units, 0.1 * 8 / 9, units},
		{"set", sets / units, (1 - 0.1*8/9) * 0.3, units},
		{"depth", depths / rounds, 0.1 * 10 / 11, rounds},
	} {
		if sigma := math.Sqrt(c.want / c.n); math.Abs(c.got-c.want) > 4*sigma {
			t.Errorf("%s changed at a rate of %.4f, want %.4f ± %.4f", c.name, c.got, c.want, sigma)
		}
	}
}

func TestMutateIsDeterministic(t *testing.T) {
	s := PaperSpace(smol(), 0.8)
	base := start(0.85, s)
	run := func(seed uint64) subnet.Masks {
		rng := rand.New(rand.NewPCG(seed, 0))
		a, b := base, base
		mu := Mutation{Pm: 0.6, Ps: 0.3, Pd: 0.1, Alpha: 0.8, Eta: 1000, Directed: true}
		for range 5 {
			a, b = s.Mutate(rng, a, base, mu), Crossover(rng, a, s.Mutate(rng, b, base, mu))
		}
		return b
	}
	if !run(1).Equal(run(1)) {
		t.Error("the same seed gave other masks")
	}
	if run(1).Equal(run(2)) {
		t.Error("another seed gave the same masks")
	}
}

func TestPaperSpace(t *testing.T) {
	seven := &subnet.Geometry{Arch: "llama", Hidden: 4096, Vocab: 32000, HeadDim: 128}
	for range 32 {
		seven.Layers = append(seven.Layers, subnet.LayerGeometry{Heads: 32, KVHeads: 32, FFN: 11008})
	}
	for _, c := range []struct {
		target, attention, mlp float64
		layers                 int
	}{
		{0.95, 0.9, 0.6, 32}, {0.9, 0.9, 0.6, 32}, {0.8, 0.8, 0.4, 32}, {0.7, 0.3, 0.2, 30}, {0.6, 0.6, 0.1, 28}, {0.5, 0.6, 0.1, 28},
	} {
		s := PaperSpace(seven, c.target)
		if s.Attention.Lo != c.attention || s.MLP.Lo != c.mlp || s.MinLayers != c.layers {
			t.Errorf("%v: %+v", c.target, s)
		}
		if n := s.Attention.count(); n != int(math.Round((1-c.attention)*100))+1 {
			t.Errorf("%v: %d attention ratios", c.target, n)
		}
	}
	if got := subnet.Count(1536, 0.5, 32); got != 768 {
		t.Errorf("half of 1536 is %d", got)
	}
	if got := subnet.Count(1536, 0.001, 32); got != 32 {
		t.Errorf("the least of 1536 is %d", got)
	}
}

func TestSmallest(t *testing.T) {
	g := small()
	s := Space{Attention: Ratios{Lo: 0.5, Hi: 1, Step: 0.1}, MLP: Ratios{Lo: 0.25, Hi: 1, Step: 0.25}, MinLayers: 1, Granularity: 8, HeadGranularity: 1}
	// Layer 0: 4 of 8 channels in (4 + 2 + 2 + 4) heads, 16 of 64 MLP channels.
	if got, want := s.Smallest(g), int64(32*(4*12+3*16)); got != want {
		t.Errorf("smallest is %d, want %d", got, want)
	}
}

func BenchmarkMutate(b *testing.B) {
	s := PaperSpace(smol(), 0.8)
	base := start(0.9, s)
	rng := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		s.Mutate(rng, base, base, Mutation{Pm: 0.6, Ps: 0.3, Pd: 0.1, Alpha: 0.8, Eta: 1000})
	}
}

// small is a two-layer model with two KV groups of two heads of 8 channels.
func small() *subnet.Geometry {
	return &subnet.Geometry{
		Arch: "llama", Hidden: 32, Vocab: 100, HeadDim: 8, Tied: true,
		Layers: []subnet.LayerGeometry{{Heads: 4, KVHeads: 2, FFN: 64}, {Heads: 4, KVHeads: 2, FFN: 96}},
	}
}

// smol is the shape of SmolLM2-135M.
func smol() *subnet.Geometry {
	g := &subnet.Geometry{Arch: "llama", Hidden: 576, Vocab: 49152, HeadDim: 64, Tied: true}
	for range 30 {
		g.Layers = append(g.Layers, subnet.LayerGeometry{Heads: 9, KVHeads: 3, FFN: 1536})
	}
	return g
}

// TestRedrawBySimilarity compares the distribution of the overlap with that of drawing subsets until one has it, where that
// ends, and checks sets that such draws would practically never reach.
func TestRedrawBySimilarity(t *testing.T) {
	const n, size, k, draws = 16, 12, 10, 20000
	mu := Mutation{Pm: 1, Alpha: 0.75}
	rng := rand.New(rand.NewPCG(25, 26))
	s := subnet.Full(n).Sample(rng, size)
	var counts [2][n + 1]float64
	for range draws {
		counts[0][mu.Redraw(rng, s, k).Overlap(s)]++
		for {
			if drawn := subnet.Full(n).Sample(rng, k); float64(drawn.Overlap(s)) >= mu.Alpha*k {
				counts[1][drawn.Overlap(s)]++
				break
			}
		}
	}
	for x := range n + 1 {
		a, b := counts[0][x], counts[1][x]
		if math.Abs(a-b) > 5*math.Sqrt(a+b)+1 {
			t.Errorf("overlap %d: %v times, %v by rejection", x, a, b)
		}
	}
	half := subnet.Full(1536).Sample(rng, 768)
	mu.Alpha = 0.8
	for range 20 {
		if got := mu.Redraw(rng, half, 768); got.Equal(half) || got.Len() != 768 || got.Overlap(half) < 615 {
			t.Fatalf("%d units, %d of them kept", got.Len(), got.Overlap(half))
		}
	}
	if small := subnet.Full(100).Sample(rng, 40); !mu.Redraw(rng, small, 90).Equal(small) {
		t.Error("90 units of which 72 are among 40")
	}
}
