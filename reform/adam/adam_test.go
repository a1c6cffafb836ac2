package adam_test

import (
	"math"
	"testing"

	"github.com/lathe-llm/lathe/reform/adam"
)

// TestStep follows two steps that were computed by hand: with gradients 3 and -1, corrected moments 3 and 9, then 0.8947… and 4.979….
func TestStep(t *testing.T) {
	values, first, second := []float32{1}, make([]float64, 1), make([]float64, 1)
	for step, want := range []float64{0.9, 0.9 - 0.1*(0.9*0.3-0.1)/0.19/math.Sqrt((0.99*0.09+0.01)/0.0199)} {
		adam.Step(values, first, second, []float64{[]float64{3, -1}[step]}, step, 0.1, 0)
		if math.Abs(float64(values[0])-want) > 1e-6 {
			t.Errorf("after step %d: %v, want %v", step, values[0], want)
		}
	}
}

func TestRate(t *testing.T) {
	for _, test := range []struct {
		share float64
		step  int
		want  float64
	}{{0, 0, 0.4}, {0, 4, 2}, {0.5, 10, 1}, {1, 20, 0}} {
		if got := adam.Rate(2, test.share, test.step); math.Abs(got-test.want) > 1e-12 {
			t.Errorf("share %v, step %d: %v, want %v", test.share, test.step, got, test.want)
		}
	}
}
