package subnet

import (
	"errors"
	"math/rand/v2"
	"testing"
)

// TestDenseSize compares with the known figures of SmolLM2-135M.
func TestDenseSize(t *testing.T) {
	s := Dense(smol()).Size()
	const block = 30 * (2*576*576 + 2*192*576 + 3*1536*576)
	const all = block + 49152*576 + 61*576
	if s.BlockParams != block || s.DenseBlockParams != block || s.Ratio != 1 {
		t.Errorf("block parameters %d of %d, want %d", s.BlockParams, s.DenseBlockParams, block)
	}
	if all != 134515008 || s.Params != all || s.DenseParams != all || s.RatioAll != 1 {
		t.Errorf("parameters %d of %d, want %d", s.Params, s.DenseParams, all)
	}
	if s.ZeroedParams != 0 || s.Layers != 30 {
		t.Errorf("%+v", s)
	}
	if want := int64(30 * 3 * 64 * 2 * 2); s.KVBytesPerToken != want || s.DenseKVBytesPerToken != want {
		t.Errorf("%d bytes of cache per token, want %d", s.KVBytesPerToken, want)
	}
}

// TestOPTSize compares with the known figure of OPT-125M, whose table of positions
// has two rows that no position takes.
func TestOPTSize(t *testing.T) {
	g := &Geometry{Arch: "opt", Hidden: 768, Vocab: 50272, HeadDim: 64, Tied: true, QKVBias: true, OutBias: true, Positions: 2048}
	for range 12 {
		g.Layers = append(g.Layers, LayerGeometry{Heads: 12, KVHeads: 12, FFN: 3072})
	}
	s := Dense(g).Size()
	if want := int64(125239296 - 2*768); s.DenseParams != want {
		t.Errorf("%d parameters, want %d", s.DenseParams, want)
	}
	if want := int64(12 * (4*768*768 + 2*3072*768)); s.DenseBlockParams != want || s.ZeroedParams != 0 {
		t.Errorf("%d block parameters, want %d", s.DenseBlockParams, want)
	}
	half := Dense(g).With(3, Layer{Heads: Range(12, 0, 6), Channels: Range(3072, 0, 1024)}).Size()
	if less := s.BlockParams - half.BlockParams; less != 4*384*768+2*2048*768 || half.ZeroedParams != 0 {
		t.Errorf("%d parameters less, %d zeroed", less, half.ZeroedParams)
	}
}

func TestSizeLaws(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	for name, g := range geometries() {
		dense := Dense(g).Size()
		denseBytes := Dense(g).GGUFBytes("F16")
		for range 100 {
			m := randomMasks(rng, g)
			s := m.Size()
			var kept int64
			for i := range m.Layers() {
				l, per := m.Layer(i), g.Layers[i].HeadsPerGroup()
				rows := int(g.MLPMatrices()) * l.Channels.Len()
				for _, group := range l.Groups(g.Layers[i]).Indices() {
					heads := l.Heads.Intersect(Range(l.Heads.N(), group*per, (group+1)*per)).Len()
					rows += (1 + heads) * (l.QKOf(group, g.HeadDim).Len() + l.VOOf(group, g.HeadDim).Len())
				}
				kept += int64(rows * g.Hidden)
			}
			if s.BlockParams != kept {
				t.Fatalf("%s: %d block parameters, the rows kept have %d", name, s.BlockParams, kept)
			}
			if s.ZeroedParams < 0 || s.BlockParams > dense.BlockParams || s.Params > dense.Params || s.KVBytesPerToken > dense.KVBytesPerToken {
				t.Fatalf("%s: larger than dense: %+v", name, s)
			}
			for _, storage := range []string{"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K"} {
				if n := m.GGUFBytes(storage); n <= 0 || n > Dense(g).GGUFBytes("F32") {
					t.Fatalf("%s: %d bytes as %s", name, n, storage)
				}
			}
			var shape int64
			for _, tensor := range m.Cut().Tensors(g) {
				elements := int64(tensor.Rows * tensor.Cols)
				if shape += 2 * elements; tensor.Vector {
					shape += 2 * elements
				}
			}
			if got := m.GGUFBytes("F16"); got != shape || got > denseBytes+int64(g.HeadDim)*2 {
				t.Fatalf("%s: %d bytes as F16, its elements take %d, dense %d", name, got, shape, denseBytes)
			}
		}
	}
}

func TestFLOPs(t *testing.T) {
	g := small()
	m := Dense(g)
	block := float64(g.BlockParams())
	prefill, decode := m.FLOPs(10)
	attention := 4.0 * 8 * 8 * 10
	head := 2.0 * 100 * 32
	if want := 2*block + attention + head; decode != want {
		t.Errorf("decode %v, want %v", decode, want)
	}
	if want := 2*block + attention/2 + head/10; prefill != want {
		t.Errorf("prefill %v, want %v", prefill, want)
	}
	half := m.With(0, Layer{Heads: Of(4, 0, 1), Channels: Full(64)})
	if _, less := half.FLOPs(10); decode-less != 2*(2*8*3*32)+4*2*8*10 {
		t.Errorf("a dropped group saves %v", decode-less)
	}
}

func TestFit(t *testing.T) {
	for _, c := range []struct {
		asked string
		cols  int
		want  Type
		bytes int64
	}{
		{"F32", 7, F32, 28},
		{"f16", 7, F16, 14},
		{"Q8_0", 64, Q8_0, 68},
		{"Q8_0", 65, F16, 130},
		{"Q4_1", 576, Q4_1, 360},
		{"Q4_K", 512, Q4_K, 288},
		{"Q4_K", 576, Q5_0, 396},
		{"Q5_K", 576, Q5_1, 432},
		{"Q6_K", 576, Q8_0, 612},
		{"Q6_K", 10, F16, 20},
	} {
		typ, err := ParseType(c.asked)
		got := typ.Fit(c.cols)
		n := Tensor{Rows: 1, Cols: c.cols}.Bytes(typ)
		if err != nil || got != c.want || n != c.bytes {
			t.Errorf("%s of %d: %s, %d bytes (%v), want %s, %d", c.asked, c.cols, got, n, err, c.want, c.bytes)
		}
	}
	if _, err := ParseType("Q9"); !errors.Is(err, ErrType) {
		t.Errorf("Q9: %v", err)
	}
	if n := Dense(small()).GGUFBytes("Q9"); n != 0 {
		t.Errorf("%d bytes as Q9", n)
	}
}

func BenchmarkSize(b *testing.B) {
	m := randomMasks(rand.New(rand.NewPCG(1, 1)), smol())
	for b.Loop() {
		m.Size()
	}
}
