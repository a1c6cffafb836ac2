package layout

import "testing"

func TestSharesAddUp(t *testing.T) {
	for total := range 50 {
		for _, weights := range [][]int{{1}, {1, 1}, {3, 2}, {1, 0, 2}, {5, 3, 2, 1}} {
			sum := 0
			for _, s := range shares(total, weights) {
				if s < 0 {
					t.Fatalf("shares(%d, %v) has a negative part", total, weights)
				}
				sum += s
			}
			if sum != total {
				t.Errorf("shares(%d, %v) add up to %d", total, weights, sum)
			}
		}
	}
	if got := shares(7, []int{0, 0}); got[0] != 0 || got[1] != 0 {
		t.Errorf("shares of no weight = %v", got)
	}
}

func TestCuts(t *testing.T) {
	r := Rect{2, 3, 10, 5}
	top, rest := r.CutTop(2)
	if top != (Rect{2, 3, 10, 2}) || rest != (Rect{2, 5, 10, 3}) {
		t.Errorf("CutTop = %v %v", top, rest)
	}
	rest, bottom := r.CutBottom(9)
	if !rest.Empty() || bottom != r {
		t.Errorf("CutBottom = %v %v", rest, bottom)
	}
	left, rest := r.CutLeft(-1)
	if !left.Empty() || rest != r {
		t.Errorf("CutLeft = %v %v", left, rest)
	}
	if c := r.Center(4, 9); c != (Rect{5, 3, 4, 5}) {
		t.Errorf("Center = %v", c)
	}
	if in := (Rect{0, 0, 1, 1}).Inside(); !in.Empty() {
		t.Errorf("Inside of one cell = %v", in)
	}
}
