package reform

import (
	"slices"
	"testing"
)

func TestSplit(t *testing.T) {
	windows := func(n int) [][]int32 {
		out := make([][]int32, n)
		for i := range out {
			out[i] = []int32{int32(i)}
		}
		return out
	}
	tests := []struct {
		n, lambdas int
		share      float64
		held       []int32
	}{
		{8, 4, 0, []int32{3, 7}},
		{24, 4, 0.125, []int32{7, 15, 23}},
		{8, 1, 0, nil}, // nothing to choose
		{3, 4, 0, nil}, // too little text
		{10, 2, 0, []int32{4, 9}},
	}
	for _, tt := range tests {
		fit, held := split(windows(tt.n), tt.share, tt.lambdas)
		var got []int32
		for _, w := range held {
			got = append(got, w[0])
		}
		if !slices.Equal(got, tt.held) || len(fit)+len(held) != tt.n {
			t.Errorf("%d windows: held out %v, want %v; %d to fit on", tt.n, got, tt.held, len(fit))
		}
	}
}
