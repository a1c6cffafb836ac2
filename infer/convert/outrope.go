package convert

import (
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/gguf"
)

// ropeOf returns the rotary scaling of a file, nil for none. A file has only the factors of Llama 3's scaling; parameters that give them are
// found again. Heads that were cut inside have factors of no parameters.
func ropeOf(c gguf.Config) (map[string]any, error) {
	if c.RopeFactors == nil {
		if c.RopeScale == 1 {
			return nil, nil
		}
		return map[string]any{"rope_type": "linear", "factor": short(c.RopeScale)}, nil
	}
	for _, s := range llama3Guesses(c) {
		guess := &config{RopeTheta: c.RopeBase, HeadDim: c.HeadDim, RopeScaling: &s}
		if close32(guess.ropeFactors(), c.RopeFactors) && c.RopeScale == 1 {
			return map[string]any{"rope_type": "llama3", "factor": s.Factor, "low_freq_factor": s.Low, "high_freq_factor": s.High, "original_max_position_embeddings": s.Original}, nil
		}
	}
	return nil, fmt.Errorf("%w: the rotary factors of the file are those of Llama 3's scaling for no original context from 16 to %d tokens, as where heads were cut inside",
		ErrUnsupported, maxOriginal)
}

// maxOriginal is the largest original context that is tried.
const maxOriginal = 1 << 20

// llama3Guesses returns the usual parameters for every original context that is a power of two, and those that solve the blended factors, see
// [config.ropeFactors]: 1/f = (1−b)/F + b with b = (o·t − l)/(h − l) for the turns t of a pair in one token. Only the ratios of o, l and h matter.
func llama3Guesses(c gguf.Config) []ropeScaling {
	top := slices.Max(c.RopeFactors)
	var list []ropeScaling
	factors := []float64{short(float64(top))} // where no pair has the whole factor, the factor is larger
	for f := 2.0; f <= 64; f *= 2 {
		if float32(f) > top {
			factors = append(factors, f)
		}
	}
	for _, factor := range factors {
		for original := 16; original <= maxOriginal; original *= 2 {
			list = append(list, ropeScaling{RopeType: "llama3", Factor: factor, Low: 1, High: 4, Original: float64(original)})
		}
		var turns, blends []float64
		for i, f := range c.RopeFactors {
			if b := (1/float64(f) - 1/factor) / (1 - 1/factor); b > 1e-6 && b < 1-1e-6 {
				turns = append(turns, 1/(2*math.Pi*math.Pow(c.RopeBase, 2*float64(i)/float64(c.HeadDim))))
				blends = append(blends, b)
			}
		}
		n := len(turns) - 1
		if n < 0 {
			continue
		}
		slope := (blends[0] + 1.0/3) / turns[0] // of one blended pair with the usual ratio of high to low
		if n > 0 {
			slope = (blends[0] - blends[n]) / (turns[0] - turns[n])
		}
		if offset := slope*turns[0] - blends[0]; slope > 0 && offset > 0 {
			original := math.Exp2(math.Round(math.Log2(slope / offset))) // so that low is about 1
			low := original * offset / slope
			list = append(list, ropeScaling{RopeType: "llama3", Factor: factor, Low: low, High: low + original/slope, Original: original})
		}
	}
	return list
}

func close32(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Abs(float64(x/y)-1) < 1e-5 })
}
