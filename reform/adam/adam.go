// Package adam is the optimiser Adam (arXiv 1412.6980) with the schedule of this project's descents.
package adam

import "math"

const (
	beta1, beta2 = 0.9, 0.99
	warmUp       = 5 // steps until the full rate
)

// Rate returns the rate of a step, counted from 0, after a share of all steps: it rises over the first steps and falls to zero by half a cosine.
func Rate(full, share float64, step int) float64 {
	rate := full * (1 + math.Cos(math.Pi*share)) / 2
	return rate * min(1, float64(step+1)/warmUp)
}

// Step moves values by a step, counted from 0, and updates the first and second moments of their gradient. epsilon is added to the square roots
// of the second moments.
func Step(values []float32, first, second, gradient []float64, step int, rate, epsilon float64) {
	n := float64(step + 1)
	correct1, correct2 := 1-math.Pow(beta1, n), 1-math.Pow(beta2, n)
	for i, g := range gradient {
		first[i] = beta1*first[i] + (1-beta1)*g
		second[i] = beta2*second[i] + (1-beta2)*g*g
		values[i] -= float32(rate * (first[i] / correct1) / (math.Sqrt(second[i]/correct2) + epsilon))
	}
}
