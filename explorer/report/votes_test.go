package report

import (
	"math"
	"testing"
)

// TestVoteInterval checks the definition of Wilson's interval: at its ends the observed share is as many standard errors of the share there
// away as 95 % confidence has.
func TestVoteInterval(t *testing.T) {
	const z = 1.959963984540054
	for _, c := range []struct{ votes, all int }{{0, 5}, {5, 5}, {3, 4}, {50, 100}, {1, 1000}} {
		low, high := VoteInterval(c.votes, c.all)
		share := float64(c.votes) / float64(c.all)
		if !(low <= share && share <= high) {
			t.Errorf("%d of %d votes: %g is not between %g and %g", c.votes, c.all, share, low, high)
		}
		for _, end := range []float64{low, high} {
			if end == 0 || end == 1 {
				continue
			}
			if got := math.Abs(share-end) / math.Sqrt(end*(1-end)/float64(c.all)); math.Abs(got-z) > 1e-9 {
				t.Errorf("%d of %d votes: %g is %g standard errors away", c.votes, c.all, end, got)
			}
		}
	}
	if low, high := VoteInterval(0, 0); low != 0 || high != 1 {
		t.Errorf("no votes: %g to %g", low, high)
	}
}
