package report

import "math"

// VoteInterval returns the interval that the share of votes for one side is in with 95 % confidence, by Wilson's score, given its votes
// and those of all sides.
func VoteInterval(votes, all int) (low, high float64) {
	if all <= 0 {
		return 0, 1
	}
	const z = 1.959963984540054
	n, p := float64(all), float64(votes)/float64(all)
	middle := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return max(0, middle-half), min(1, middle+half)
}
