package importance

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/linalg"
	"github.com/lathe-llm/lathe/reform/linalg/linalgtest"
)

func randomInputs(rng *rand.Rand, tokens, n int) Inputs {
	x := mat.NewDense(tokens, n, nil)
	x.Apply(func(_, j int, _ float64) float64 { return rng.NormFloat64() + 0.2*float64(j%4) }, x)
	mix := mat.NewDense(n, n, nil)
	mix.Apply(func(_, j int, _ float64) float64 { return rng.NormFloat64() / math.Sqrt(1+float64(j)) }, mix)
	x.Mul(x, mix)
	in := Inputs{N: n, Gram: linalgtest.SecondMoment(tokens, n, x.RawMatrix().Data), Mean: make([]float64, n), Var: make([]float64, n)}
	for j := range n {
		for t := range tokens {
			in.Mean[j] += x.At(t, j) / float64(tokens)
		}
		in.Var[j] = in.Gram[j*n+j] - in.Mean[j]*in.Mean[j]
	}
	return in
}

func randomMatrix(rng *rand.Rand, out, in int) Matrix {
	m := Matrix{Out: out, In: in, Data: make([]float32, out*in), Gradient: make([]float32, out*in)}
	for i := range m.Data {
		m.Data[i], m.Gradient[i] = float32(rng.NormFloat64()), float32(rng.NormFloat64())
	}
	return m
}

const hidden = 10

func mlpBlock(rng *rand.Rand, ffn int) *Block {
	return &Block{
		Name: "layer 1 mlp", Module: subnet.MLP, Layer: subnet.LayerGeometry{Heads: 4, KVHeads: 2, FFN: ffn},
		Inner:  []Matrix{randomMatrix(rng, ffn, hidden), randomMatrix(rng, ffn, hidden)},
		Output: randomMatrix(rng, hidden, ffn), In: randomInputs(rng, 4*hidden, hidden), Mid: randomInputs(rng, 3*ffn, ffn),
	}
}

func attentionBlock(rng *rand.Rand, heads, kv, dim int) *Block {
	return &Block{
		Name: "layer 1 attention", Module: subnet.Attention, HeadDim: dim, Layer: subnet.LayerGeometry{Heads: heads, KVHeads: kv, FFN: 8},
		Inner:  []Matrix{randomMatrix(rng, heads*dim, hidden), randomMatrix(rng, kv*dim, hidden), randomMatrix(rng, kv*dim, hidden)},
		Output: randomMatrix(rng, hidden, heads*dim), In: randomInputs(rng, 4*hidden, hidden), Mid: randomInputs(rng, 3*heads*dim, heads*dim),
	}
}

// lostEnergy is the reference for losses: the least of tr((V − W)(H + λI)(V − W)ᵀ) over V that is zero outside the kept
// columns, over tr(WHWᵀ), by a direct solve.
func lostEnergy(t *testing.T, b *Block, kept []int, ridge float64) float64 {
	t.Helper()
	n := b.Output.In
	h := mat.NewDense(n, n, append([]float64(nil), b.Mid.Gram...))
	w := mat.NewDense(b.Output.Out, n, linalg.Widen(b.Output.Data))
	var wh mat.Dense
	wh.Mul(w, h)
	var whole float64
	for i := range b.Output.Out {
		whole += mat.Dot(wh.RowView(i), w.RowView(i))
	}
	lambda := ridge * linalg.MeanDiagonal(b.Mid.Gram, n)
	for i := range n {
		h.Set(i, i, h.At(i, i)+lambda)
	}
	v := mat.NewDense(b.Output.Out, n, nil)
	if len(kept) > 0 {
		hk := mat.NewDense(len(kept), len(kept), nil)
		ck := mat.NewDense(b.Output.Out, len(kept), nil)
		wh.Mul(w, h)
		for a, i := range kept {
			for c, j := range kept {
				hk.Set(a, c, h.At(i, j))
			}
			for o := range b.Output.Out {
				ck.Set(o, a, wh.At(o, i))
			}
		}
		var vk mat.Dense
		if err := vk.Solve(hk, ck.T()); err != nil {
			t.Fatal(err)
		}
		for a, i := range kept {
			for o := range b.Output.Out {
				v.Set(o, i, vk.At(a, o))
			}
		}
	}
	v.Sub(v, w)
	var vh mat.Dense
	vh.Mul(v, h)
	var lost float64
	for i := range b.Output.Out {
		lost += mat.Dot(vh.RowView(i), v.RowView(i))
	}
	return lost / whole
}

// greedy is the reference for OBS with single columns or units: at every step the unit is dropped whose absence costs
// least after a full re-fit.
func greedy(t *testing.T, b *Block, u Unit, ridge float64) []int {
	t.Helper()
	left := make([]int, b.Count(u))
	for i := range left {
		left[i] = i
	}
	var order []int
	for len(left) > 0 {
		best, least := -1, math.Inf(1)
		for _, candidate := range left {
			rest := slices.DeleteFunc(slices.Clone(left), func(i int) bool { return i == candidate })
			if e := lostEnergy(t, b, b.Columns(u, rest), ridge); e < least {
				best, least = candidate, e
			}
		}
		order = append(order, best)
		left = slices.DeleteFunc(left, func(i int) bool { return i == best })
	}
	return order
}

func TestOBSIsGreedy(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	tests := []struct {
		name string
		b    *Block
		u    Unit
	}{
		{"channels", mlpBlock(rng, 24), Channels},
		{"heads", attentionBlock(rng, 6, 2, 4), Heads},
		{"groups", attentionBlock(rng, 8, 4, 3), Groups},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Rank(OBS, tt.b, tt.u, Options{Step: 1, Ridge: 0.05})
			if err != nil {
				t.Fatal(err)
			}
			if want := greedy(t, tt.b, tt.u, 0.05); !slices.Equal(r.Order, want) {
				t.Errorf("order %v, want %v", r.Order, want)
			}
			for i, got := range r.Alone {
				others := slices.DeleteFunc(slices.Clone(r.Order), func(u int) bool { return u == i })
				if want := lostEnergy(t, tt.b, tt.b.Columns(tt.u, others), 0.05); math.Abs(got-want) > 1e-9*(1+want) {
					t.Errorf("unit %d alone costs %g, want %g", i, got, want)
				}
			}
			for k, got := range r.Loss {
				if want := lostEnergy(t, tt.b, tt.b.Columns(tt.u, r.Order[k:]), 0.05); math.Abs(got-want) > 1e-9*(1+want) {
					t.Errorf("loss of dropping %d is %g, want %g", k, got, want)
				}
			}
		})
	}
}

// lossCurve returns the share of the outputs' energy that is lost when the first k channels of order are dropped and the rest
// re-fitted: one value more than there are channels.
//
// One factorization is enough. With the columns reordered so that those dropped first come last and H + λI = L·Lᵀ, the inputs
// are L·z with white z, and a prefix of the columns spans the same prefix of z: dropping the columns from k on loses the squared
// norm of the columns of W·L from k on.
func lossCurve(t *testing.T, b *Block, order []int) []float64 {
	t.Helper()
	n := b.Output.In
	columns := slices.Clone(order)
	slices.Reverse(columns)
	h := mat.NewSymDense(n, linalg.Sub(b.Mid.Gram, n, columns, columns))
	for i := range n {
		h.SetSym(i, i, h.At(i, i)+defaultRidge*linalg.MeanDiagonal(b.Mid.Gram, n))
	}
	var factor mat.Cholesky
	if !factor.Factorize(h) {
		t.Fatal("the second moments have no factor")
	}
	var l mat.TriDense
	factor.LTo(&l)
	var white mat.Dense
	white.Mul(mat.NewDense(b.Output.Out, n, linalg.Columns(linalg.Widen(b.Output.Data), b.Output.Out, n, columns)), &l)
	energies := linalg.ColumnEnergies(white.RawMatrix().Data, b.Output.Out, n)
	loss := make([]float64, n+1)
	for k := range n {
		loss[k+1] = loss[k] + energies[n-1-k]
	}
	return relative(loss, Energy(b))
}

// A wide block goes through pending updates and shrinking.
func TestOBSLossesOfWideBlock(t *testing.T) {
	b := mlpBlock(rand.New(rand.NewPCG(2, 2)), 700)
	for _, step := range []int{16, 5} {
		r, err := Rank(OBS, b, Channels, Options{Step: step})
		if err != nil {
			t.Fatal(err)
		}
		seen := slices.Clone(r.Order)
		slices.Sort(seen)
		for i, v := range seen {
			if i != v {
				t.Fatalf("order holds %d at place %d", v, i)
			}
		}
		curve := lossCurve(t, b, r.Order)
		for k := range curve {
			if math.Abs(curve[k]-r.Loss[k]) > 1e-8*(1+curve[k]) {
				t.Fatalf("step %d, %d dropped: loss %g, by one factorization %g", step, k, r.Loss[k], curve[k])
			}
		}
		for _, k := range []int{1, 64, 350, 699} {
			if want := lostEnergy(t, b, r.Order[k:], defaultRidge); math.Abs(curve[k]-want) > 1e-8*(1+want) {
				t.Errorf("%d dropped: loss %g, by a solve %g", k, curve[k], want)
			}
		}
		magnitude, err := Rank(Magnitude, b, Channels, Options{})
		if err != nil {
			t.Fatal(err)
		}
		other := lossCurve(t, b, magnitude.Order)
		if other[350] <= curve[350] {
			t.Errorf("half dropped: OBS loses %g, magnitude %g", curve[350], other[350])
		}
	}
}

// Going no further than for the units that are kept leaves the same ones.
func TestOBSStopsAtWhatIsKept(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 32))
	for name, c := range map[string]struct {
		block *Block
		unit  Unit
		keep  []int
	}{
		"channels": {mlpBlock(rng, 100), Channels, []int{1, 30, 84, 99, 100}},
		"groups":   {attentionBlock(rng, 8, 4, 8), Groups, []int{1, 2, 3}},
	} {
		all, err := Rank(OBS, c.block, c.unit, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, keep := range c.keep {
			some, err := Rank(OBS, c.block, c.unit, Options{Keep: keep})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := some.Keep(keep), all.Keep(keep); !got.Equal(want) {
				t.Errorf("%s: kept %v, want %v", name, got.Indices(), want.Indices())
			}
			if len(some.Order) != len(all.Order) || some.Loss != nil || some.Alone != nil {
				t.Errorf("%s: an order of %d of %d, losses %v and %v", name, len(some.Order), len(all.Order), some.Loss, some.Alone)
			}
		}
	}
}

func TestScores(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	mlp, attention := mlpBlock(rng, 6), attentionBlock(rng, 4, 2, 3)
	n := mlp.Output.In
	at := func(m Matrix, i, j int) float64 { return float64(m.Data[i*m.In+j]) }
	column := func(j int, f func(w float64) float64) (s float64) {
		for i := range mlp.Output.Out {
			s += f(at(mlp.Output, i, j))
		}
		return s
	}
	square := func(w float64) float64 { return w * w }
	inverse := func(in Inputs) *mat.Dense {
		a := mat.NewDense(in.N, in.N, nil)
		for i := range in.N {
			for j := range in.N {
				a.Set(i, j, 2*in.Gram[i*in.N+j])
			}
			a.Set(i, i, a.At(i, i)+2*defaultRidge*linalg.MeanDiagonal(in.Gram, in.N))
		}
		var inv mat.Dense
		if err := inv.Inverse(a); err != nil {
			t.Fatal(err)
		}
		return &inv
	}
	midInverse, inInverse := inverse(mlp.Mid), inverse(mlp.In)

	tests := []struct {
		m    Method
		want func(j int) float64
	}{
		{Phi, func(j int) float64 {
			s := column(j, square) / midInverse.At(j, j)
			for _, m := range mlp.Inner {
				for c := range hidden {
					s += square(at(m, j, c)) / inInverse.At(c, c)
				}
			}
			return s
		}},
		{PhiDiagonal, func(j int) float64 {
			s := column(j, square) * 2 * (mlp.Mid.Gram[j*n+j] + defaultRidge*linalg.MeanDiagonal(mlp.Mid.Gram, n))
			for _, m := range mlp.Inner {
				for c := range hidden {
					s += square(at(m, j, c)) * 2 * (mlp.In.Gram[c*hidden+c] + defaultRidge*linalg.MeanDiagonal(mlp.In.Gram, hidden))
				}
			}
			return s
		}},
		{FLAP, func(j int) float64 { return mlp.Mid.Var[j] * column(j, square) }},
		{Wanda, func(j int) float64 { return math.Sqrt(mlp.Mid.Gram[j*n+j]) * column(j, math.Abs) }},
		{Magnitude, func(j int) float64 {
			s := column(j, square)
			for _, m := range mlp.Inner {
				for c := range hidden {
					s += square(at(m, j, c))
				}
			}
			return s
		}},
		{Leverage, func(j int) float64 {
			a := mat.NewDense(n, n, append([]float64(nil), mlp.Mid.Gram...))
			lambda := linalg.MeanDiagonal(mlp.Mid.Gram, n)
			for i := range n {
				a.Set(i, i, a.At(i, i)+lambda)
			}
			var hat mat.Dense
			if err := hat.Solve(a, mat.NewDense(n, n, mlp.Mid.Gram)); err != nil {
				t.Fatal(err)
			}
			return hat.At(j, j)
		}},
		{Taylor, func(j int) float64 {
			var s float64
			for i := range mlp.Output.Out {
				s += math.Abs(at(mlp.Output, i, j) * float64(mlp.Output.Gradient[i*n+j]))
			}
			for _, m := range mlp.Inner {
				for c := range hidden {
					s += math.Abs(at(m, j, c) * float64(m.Gradient[j*hidden+c]))
				}
			}
			return s
		}},
	}
	for _, tt := range tests {
		t.Run(string(tt.m), func(t *testing.T) {
			r, err := Rank(tt.m, mlp, Channels, Options{})
			if err != nil {
				t.Fatal(err)
			}
			for j, got := range r.Scores {
				if want := tt.want(j); math.Abs(got-want) > 1e-9*(1+math.Abs(want)) {
					t.Errorf("channel %d scores %g, want %g", j, got, want)
				}
			}
			if !slices.IsSortedFunc(r.Order, func(a, b int) int {
				if r.Scores[a] < r.Scores[b] {
					return -1
				}
				return 1
			}) {
				t.Errorf("order %v does not follow scores", r.Order)
			}
			if kept := r.Keep(2); kept.Len() != 2 || !kept.Has(r.Order[5]) || !kept.Has(r.Order[4]) {
				t.Errorf("keeping two keeps %v of %v", kept, r.Order)
			}
			// A group is its heads, its key and its value head: its score is theirs together, but for OBS.
			heads, err := Rank(tt.m, attention, Heads, Options{})
			if err != nil {
				t.Fatal(err)
			}
			groups, err := Rank(tt.m, attention, Groups, Options{})
			if err != nil {
				t.Fatal(err)
			}
			for g, got := range groups.Scores {
				if want := heads.Scores[2*g] + heads.Scores[2*g+1]; math.Abs(got-want) > 1e-9*(1+want) {
					t.Errorf("group %d scores %g, its heads %g", g, got, want)
				}
			}
		})
	}
}

func TestRankRefuses(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	with := func(change func(*Block)) *Block {
		b := mlpBlock(rng, 6)
		change(b)
		return b
	}
	tests := []struct {
		name string
		m    Method
		b    *Block
		u    Unit
		want error
	}{
		{"method", "magic", with(func(*Block) {}), Channels, ErrMethod},
		{"unit", OBS, with(func(*Block) {}), Heads, ErrMethod},
		{"no moments", OBS, with(func(b *Block) { b.Mid = Inputs{} }), Channels, ErrNeeds},
		{"no variance", FLAP, with(func(b *Block) { b.Mid.Var = nil }), Channels, ErrNeeds},
		{"no inputs", Phi, with(func(b *Block) { b.In = Inputs{} }), Channels, ErrNeeds},
		{"no gradients", Taylor, with(func(b *Block) { b.Output.Gradient = nil }), Channels, ErrNeeds},
		{"NaN", OBS, with(func(b *Block) { b.Mid.Gram[7] = math.NaN() }), Channels, linalg.ErrNotFinite},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Rank(tt.m, tt.b, tt.u, Options{})
			if !errors.Is(err, tt.want) || !strings.HasPrefix(err.Error(), "layer 1 mlp: ") {
				t.Errorf("error %v, want layer 1 mlp: … %v", err, tt.want)
			}
		})
	}
}

func TestRankOfDeadChannels(t *testing.T) {
	b := mlpBlock(rand.New(rand.NewPCG(5, 5)), 40)
	for _, dead := range []int{3, 17, 39} {
		for i := range 40 {
			b.Mid.Gram[dead*40+i], b.Mid.Gram[i*40+dead] = 0, 0
		}
	}
	r, err := Rank(OBS, b, Channels, Options{Step: 4, Ridge: 1e-6})
	if err != nil {
		t.Fatal(err)
	}
	first := slices.Clone(r.Order[:3])
	slices.Sort(first)
	if !slices.Equal(first, []int{3, 17, 39}) {
		t.Errorf("first dropped are %v", r.Order[:4])
	}
}

func TestCosine(t *testing.T) {
	before := []float32{1, 0, 0, 2, 0, 0}
	after := []float32{2, 0, 1, 1, 5, 5}
	if got, want := Cosine(before, after, 2), (1+math.Sqrt(0.5))/2; math.Abs(got-want) > 1e-9 {
		t.Errorf("cosine %g, want %g", got, want)
	}
}

// Each in-head channel of a group owns its rows of W_Q, W_K and W_V and its columns of W_O, in all heads of the group.
func TestPhiDiagonalOfHeadChannels(t *testing.T) {
	const heads, groups, dim = 4, 2, 3
	b := attentionBlock(rand.New(rand.NewPCG(6, 6)), heads, groups, dim)
	hidden := b.In.N
	r, err := Rank(PhiDiagonal, b, HeadChannels, Options{Ridge: -1})
	if err != nil {
		t.Fatal(err)
	}
	for g := range groups {
		for c := range dim {
			var want float64
			row := func(m Matrix, r int) {
				for j, w := range m.Data[r*m.In : (r+1)*m.In] {
					want += 2 * float64(w) * float64(w) * b.In.Gram[j*hidden+j]
				}
			}
			row(b.Inner[1], g*dim+c)
			row(b.Inner[2], g*dim+c)
			for h := g * heads / groups; h < (g+1)*heads/groups; h++ {
				row(b.Inner[0], h*dim+c)
				for i := range hidden {
					w := float64(b.Output.Data[i*heads*dim+h*dim+c])
					want += 2 * w * w * b.Mid.Gram[(h*dim+c)*heads*dim+h*dim+c]
				}
			}
			if got := r.Scores[g*dim+c]; math.Abs(got-want) > 1e-12*want {
				t.Errorf("channel %d of group %d scores %g, want %g", c, g, got, want)
			}
		}
	}
	if _, err := Rank(OBS, b, HeadChannels, Options{}); !errors.Is(err, ErrMethod) {
		t.Errorf("brain surgery of in-head channels: error %v", err)
	}
}
