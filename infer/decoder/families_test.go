package decoder_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// tolerance is how far 32-bit arithmetic may be from 64-bit on logits and log-probabilities of the tiny models, whose
// size is a few units.
const tolerance = 2e-4

// devices lists the devices that tests of tiny models run on: the Go backend, and XLA on the CPU where it is there.
func devices(t *testing.T) map[string]*decoder.Device {
	t.Helper()
	all := make(map[string]*decoder.Device)
	for _, spec := range []string{"go", "xla"} {
		dev, err := decoder.OpenDevice(spec)
		if err != nil {
			t.Logf("without device %s: %v", spec, err)
			continue
		}
		t.Cleanup(dev.Close)
		all[spec] = dev
	}
	return all
}

func load(t *testing.T, dev *decoder.Device, f *gguf.File, opts ...decoder.Option) *decoder.Model {
	t.Helper()
	m, err := decoder.Load(t.Context(), dev, f, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// window returns n random tokens.
func window(seed uint64, n, vocab int) []int32 {
	r := rand.New(rand.NewPCG(seed, 7))
	w := make([]int32, n)
	for i := range w {
		w[i] = int32(r.IntN(vocab))
	}
	return w
}

// cuts makes subnets of a geometry that exercise each kind of unit. Only the last has re-fitted weights.
func cuts(t *testing.T, geo *subnet.Geometry) map[string]gguf.Subnet {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	make1 := func(change func(i int, g subnet.LayerGeometry, l *subnet.Layer)) gguf.Subnet {
		layers := make([]subnet.Layer, len(geo.Layers))
		for i, g := range geo.Layers {
			layers[i] = subnet.DenseLayer(g)
			change(i, g, &layers[i])
		}
		m, err := subnet.New(geo, layers)
		if err != nil {
			t.Fatal(err)
		}
		return gguf.Subnet{Masks: m}
	}
	inHead := func(groups int, share float64) []subnet.Set {
		sets := make([]subnet.Set, groups)
		for i := range sets {
			sets[i] = randomSet(r, geo.HeadDim, share)
		}
		return sets
	}
	some := func(i int, g subnet.LayerGeometry, l *subnet.Layer) {
		l.Channels = randomSet(r, g.FFN, 0.6)
		if g.Heads > 0 {
			l.Heads = randomSet(r, g.Heads, 0.6)
		}
	}
	everything := func(i int, g subnet.LayerGeometry, l *subnet.Layer) {
		some(i, g, l)
		if g.Heads > 0 {
			l.QK, l.VO = inHead(g.KVHeads, 0.7), inHead(g.KVHeads, 0.5)
		}
	}
	all := map[string]gguf.Subnet{
		"dense":    {Masks: subnet.Dense(geo)},
		"channels": make1(func(i int, g subnet.LayerGeometry, l *subnet.Layer) { l.Channels = randomSet(r, g.FFN, 0.5) }),
		"heads":    make1(some),
		"in head":  make1(everything),
		"blocks": make1(func(i int, g subnet.LayerGeometry, l *subnet.Layer) {
			if i%2 == 0 {
				l.Heads = subnet.Empty(g.Heads)
			}
			if i > 0 {
				l.Channels = subnet.Empty(g.FFN)
			}
		}),
	}
	refit := make1(everything)
	for i, g := range geo.Layers {
		f := gguf.Refit{
			WD: random(r, geo.Hidden*refit.Masks.Layer(i).Channels.Len(), 0.1), BD: random(r, geo.Hidden, 0.1),
			BO: random(r, geo.Hidden, 0.1),
		}
		if i%2 == 0 {
			f.GA, f.GM = random(r, geo.Hidden, 0.5), random(r, geo.Hidden, 0.5)
		}
		if i%2 == 1 {
			f.WU = random(r, geo.Hidden*refit.Masks.Layer(i).Channels.Len(), 0.1)
		}
		if g.Heads > 0 {
			f.WO = random(r, geo.Hidden*len(refit.Masks.OColumns(i)), 0.1)
		}
		refit.Refit = append(refit.Refit, f)
	}
	all["refit"] = refit
	return all
}

func random(r *rand.Rand, n int, spread float64) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(spread * r.NormFloat64())
	}
	return out
}

// TestFamilies compares logits and log-probabilities of every family and every kind of cut with plain 64-bit loops
// over a full-size model in which the dropped weights are zero.
func TestFamilies(t *testing.T) {
	for spec, dev := range devices(t) {
		for _, family := range gguftest.Families() {
			t.Run(spec+"/"+strings.ReplaceAll(family.Name, " ", "-"), func(t *testing.T) {
				f := gguftest.Open(t, family.Model)
				m := load(t, dev, f, decoder.WithWidthBucket(8))
				ref := newNaive(t, f)
				w := window(1, 37, family.Model.Vocab)
				for name, spec := range cuts(t, m.Geometry()) {
					s, err := m.Subnet(t.Context(), spec)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					defer s.Close()
					want := ref.cut(spec)
					got, err := m.Logits(t.Context(), s, w)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if d := distance(got, want.logits(w)); !(d < tolerance) {
						t.Errorf("%s: logits differ by %g", name, d)
					}
					lp, err := m.LogProbs(t.Context(), s, w)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if d := distance(lp, [][]float64{want.logProbs(w)}); !(d < tolerance) {
						t.Errorf("%s: log-probabilities differ by %g", name, d)
					}
				}
			})
		}
	}
}

// TestLongWindow crosses the blocks in which queries attend and tokens meet the LM head.
func TestLongWindow(t *testing.T) {
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	ref := newNaive(t, f)
	for spec, dev := range devices(t) {
		t.Run(spec, func(t *testing.T) {
			m := load(t, dev, f)
			s := m.Dense()
			defer s.Close()
			for _, n := range []int{2, 256, 257, 600} {
				w := window(uint64(n), n, 320)
				lp, err := m.LogProbs(t.Context(), s, w)
				if err != nil {
					t.Fatal(err)
				}
				if d := distance(lp, [][]float64{ref.logProbs(w)}); !(d < tolerance) {
					t.Errorf("%d tokens: log-probabilities differ by %g", n, d)
				}
			}
		})
	}
}

// TestSteps walks a subnet layer by layer as calibration does. At every layer the inputs of W_O and W_D must be those of
// plain loops on the state so far, their moments those of the inputs, and the states at the end those of the subnet.
func TestSteps(t *testing.T) {
	for spec, dev := range devices(t) {
		for _, family := range gguftest.Families() {
			limits := []int64{40000}
			if spec == "go" { // where graphs compile at once
				limits = []int64{1 << 30, 40000, 0} // all kept, some, none
			}
			for _, memory := range limits {
				t.Run(spec+"/"+strings.ReplaceAll(family.Name, " ", "-"), func(t *testing.T) {
					f := gguftest.Open(t, family.Model)
					m := load(t, dev, f, decoder.WithMemory(memory, t.TempDir()), decoder.WithWidthBucket(8))
					checkSteps(t, m, newNaive(t, f))
				})
			}
		}
	}
}

func checkSteps(t *testing.T, m *decoder.Model, ref *naive) {
	ctx := t.Context()
	spec := cuts(t, m.Geometry())["refit"]
	s, err := m.Subnet(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	windows := [][]int32{window(1, 24, 320), window(2, 24, 320), window(3, 17, 320)}
	st, err := m.NewStates(ctx, windows)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	cut := ref.cut(spec)
	// Attention sees the query and key channels that s keeps in groups whose heads it keeps; other units are whole.
	qkOnly := subnet.Dense(m.Geometry())
	var x [][][]float64
	for _, w := range windows {
		x = append(x, ref.embed(w))
	}
	for i, geo := range m.Geometry().Layers {
		l := subnet.DenseLayer(geo)
		l.QK = spec.Masks.Layer(i).QK
		qkOnly = qkOnly.With(i, l)
		whole := ref.cut(gguf.Subnet{Masks: qkOnly})
		in, err := m.AttentionInputs(ctx, i, s, st)
		if err != nil {
			t.Fatal(err)
		}
		var want [][]float64
		if geo.Heads > 0 {
			for w := range windows {
				want = append(want, whole.mix(i, x[w])...)
			}
		}
		checkInputs(t, in, want, len(windows))
		if err := m.AddAttention(ctx, i, s, in, st); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Moments(ctx); err == nil {
			t.Error("stale inputs have moments")
		}
		in.Close()
		for w := range windows {
			x[w] = cut.attend(i, x[w])
		}
		in, err = m.MLPInputs(ctx, i, s, st)
		if err != nil {
			t.Fatal(err)
		}
		want = nil
		for w := range windows {
			want = append(want, ref.gated(i, x[w])...)
		}
		checkInputs(t, in, want, len(windows))
		if err := m.AddMLP(ctx, i, s, in, st); err != nil {
			t.Fatal(err)
		}
		in.Close()
		for w := range windows {
			x[w] = cut.feed(i, x[w])
		}
	}
	for w := range windows {
		got, err := st.Hidden(w)
		if err != nil {
			t.Fatal(err)
		}
		if d := distance(got, x[w]); !(d < tolerance) {
			t.Errorf("window %d: states differ by %g", w, d)
		}
	}
}

// checkInputs compares inputs, their moments and their product with themselves to want, the rows of all windows.
func checkInputs(t *testing.T, in *decoder.Inputs, want [][]float64, windows int) {
	t.Helper()
	ctx := t.Context()
	var got []float32
	for w := range windows {
		v, err := in.Values(ctx, w)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, v...)
	}
	if d := distance(got, want); !(d < tolerance) {
		t.Errorf("inputs differ by %g", d)
	}
	mo, err := in.Moments(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cross, err := in.CrossMoments(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	n := in.N()
	tokens := float64(len(want))
	for i := range n {
		var mean float64
		for _, row := range want {
			mean += row[i] / tokens
		}
		var variance float64
		for _, row := range want {
			variance += (row[i] - mean) * (row[i] - mean) / tokens
		}
		if math.Abs(mo.Mean[i]-mean) > tolerance || math.Abs(mo.Var[i]-variance) > tolerance {
			t.Fatalf("channel %d: mean %g, variance %g, want %g, %g", i, mo.Mean[i], mo.Var[i], mean, variance)
		}
		for j := range n {
			var h float64
			for _, row := range want {
				h += row[i] * row[j] / tokens
			}
			if math.Abs(mo.H[i*n+j]-h) > tolerance || math.Abs(cross.H[i*n+j]-h) > tolerance {
				t.Fatalf("product of %d and %d: %g and %g, want %g", i, j, mo.H[i*n+j], cross.H[i*n+j], h)
			}
		}
	}
}
