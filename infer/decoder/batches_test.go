package decoder_test

import (
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// batchTolerance is by how much numbers of windows that are computed at once may differ from those of one at a time, as a share of
// the largest: products of more rows add in another order.
const batchTolerance = 1e-5

var number = regexp.MustCompile(`-?[0-9]+(\.[0-9]+)?(e[+-][0-9]+)?|NaN|[+-]Inf`)

// numbers returns those in a text of everything.
func numbers(t *testing.T, text any) []float64 {
	t.Helper()
	var out []float64
	for _, s := range number.FindAllString(text.(string), -1) {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

// differ returns the largest difference of two lists, as a share of the largest number.
func differ(t *testing.T, got, want []float64) float64 {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Fatalf("%d numbers, want %d", len(got), len(want))
	}
	var diff, size float64
	for i := range want {
		if math.IsNaN(got[i]) != math.IsNaN(want[i]) {
			return math.Inf(1)
		}
		diff, size = max(diff, math.Abs(got[i]-want[i])), max(size, math.Abs(want[i]))
	}
	if size == 0 {
		return diff
	}
	return diff / size
}

// TestBatches computes everything with windows of one length at once and one at a time, on all families.
func TestBatches(t *testing.T) {
	for spec, dev := range devices(t) {
		for _, family := range gguftest.Families() {
			var only []string
			if spec != "go" { // graphs take long to compile
				if only = []string{"in head"}; family.Name != "llama" {
					continue
				}
			}
			t.Run(spec+"/"+strings.ReplaceAll(family.Name, " ", "-"), func(t *testing.T) {
				f := gguftest.Open(t, family.Model)
				want := everything(t, load(t, dev, f, decoder.WithWidthBucket(8)), only...)
				m := load(t, dev, f, decoder.WithWidthBucket(8), decoder.WithBatches(2, 0))
				if n := m.AtOnce(24); n != 2 {
					t.Fatalf("%d windows at once, want 2", n)
				}
				got := everything(t, m, only...)
				exact, worst := 0, 0.0
				for _, name := range slices.Sorted(maps.Keys(want)) {
					if got[name] == want[name] {
						exact++
						continue
					}
					d := differ(t, numbers(t, got[name]), numbers(t, want[name]))
					if worst = max(worst, d); d > batchTolerance {
						t.Errorf("%s differs by %.2g", name, d)
					}
				}
				t.Logf("%d of %d are equal to the last bit, the others within %.2g", exact, len(want), worst)
			})
		}
	}
}

// TestAtOnce: the number of windows follows from the bytes, and is at least one.
func TestAtOnce(t *testing.T) {
	dev := devices(t)["go"]
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	last := 0
	for _, bytes := range []int64{0, 1, 1 << 16, 1 << 20, 1 << 22, 1 << 40} {
		m := load(t, dev, f, decoder.WithBatches(0, bytes))
		n := m.AtOnce(64)
		if n < max(1, last) || n > 64 || m.AtOnce(256) > n {
			t.Errorf("%d bytes: %d windows of 64 tokens, %d of 256, after %d", bytes, n, m.AtOnce(256), last)
		}
		last = n
	}
	if last != 64 {
		t.Errorf("with a terabyte %d windows", last)
	}
}

// TestHalf computes with matrices as bfloat16: the device holds half of the bytes, the weights on the host are those of the file, scores
// are those of a file whose matrices were rounded, and near those of the file itself.
func TestHalf(t *testing.T) {
	for spec, dev := range devices(t) {
		for _, family := range gguftest.Families() {
			if spec != "go" && family.Name != "llama" {
				continue
			}
			t.Run(spec+"/"+strings.ReplaceAll(family.Name, " ", "-"), func(t *testing.T) {
				f := gguftest.Open(t, family.Model)
				full, half := load(t, dev, f, decoder.WithWidthBucket(8)), load(t, dev, f, decoder.WithWidthBucket(8), decoder.WithHalf())
				rounded := load(t, dev, f, decoder.WithWidthBucket(8), decoder.WithRounding(func(_ string, _ int, data []float32) error {
					for i, v := range data { // to the nearest, ties to even
						bits := math.Float32bits(v)
						bits += 0x7fff + bits>>16&1
						data[i] = math.Float32frombits(bits &^ 0xffff)
					}
					return nil
				}))
				w := [][]int32{window(1, 40, full.Geometry().Vocab)}
				specs := cuts(t, full.Geometry())
				for _, name := range []string{"dense", "in head"} {
					var nll [3]float64
					for i, m := range []*decoder.Model{full, half, rounded} {
						nll[i] = scoreOf(t, m, specs[name], w)
					}
					if nll[1] != nll[2] {
						t.Errorf("%s: %g, and %g from a rounded file", name, nll[1], nll[2])
					}
					if d := math.Abs(nll[1]-nll[0]) / 39; d == 0 || d > 0.02 {
						t.Errorf("%s: %g nats a token from 32 bits", name, d)
					}
				}
				x, _, err := half.Weights(0, "down")
				if err != nil {
					t.Fatal(err)
				}
				y, _, err := full.Weights(0, "down")
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(x, y) {
					t.Error("the weights on the host are rounded")
				}
				small, _ := half.ResidentBytes()
				whole, _ := full.ResidentBytes()
				if ratio := float64(small) / float64(whole); ratio > 0.53 {
					t.Errorf("%d bytes on the device, %d with 32 bits", small, whole)
				}
			})
		}
	}
}

func scoreOf(t *testing.T, m *decoder.Model, spec gguf.Subnet, windows [][]int32) float64 {
	t.Helper()
	s, err := m.Subnet(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := m.Score(t.Context(), s, windows)
	if err != nil {
		t.Fatal(err)
	}
	return got.NLL
}
