// Package sample samples tokens from logits. It allocates nothing per token.
package sample

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/lathe-llm/lathe/infer"
)

// DefaultRepeatLast is the number of tokens that the repetition penalty covers where Sampling.RepeatLast is 0.
const DefaultRepeatLast = 64

// Sampler samples one token after another. It is not safe for concurrent use.
type Sampler struct {
	options infer.Sampling
	rng     *rand.Rand
	recent  []int32
	seen    map[int32]bool
	logits  []float32
	kept    []candidate
}

type candidate struct {
	id    int32
	logit float32
	p     float64
}

// New returns a sampler. The repetition penalty covers the end of prompt before the first token.
func New(o infer.Sampling, prompt []int32) *Sampler {
	if o.RepeatLast <= 0 {
		o.RepeatLast = DefaultRepeatLast
	}
	s := &Sampler{options: o, rng: rand.New(rand.NewPCG(o.Seed, 0x6c61746865)), seen: map[int32]bool{}}
	s.recent = append(s.recent, prompt[max(0, len(prompt)-o.RepeatLast):]...)
	return s
}

// BadLogit is the error of a logit that is NaN or infinite. It wraps [infer.ErrNotFinite].
type BadLogit struct {
	Token int32
	Value float32
}

// Error implements error.
func (e *BadLogit) Error() string {
	return fmt.Sprintf("token %d: logit %v: %v", e.Token, e.Value, infer.ErrNotFinite)
}

// Unwrap returns [infer.ErrNotFinite].
func (e *BadLogit) Unwrap() error { return infer.ErrNotFinite }

// Check returns a [*BadLogit] for the first logit that is NaN or infinite.
func Check(logits []float32) error {
	for id, l := range logits {
		if l-l != 0 {
			return &BadLogit{int32(id), l}
		}
	}
	return nil
}

// Next samples a token given the logits of all tokens, [vocab], which it does not change, and records it for the repetition
// penalty. Its error is that of [Check].
func (s *Sampler) Next(logits []float32) (int32, error) {
	if err := Check(logits); err != nil {
		return 0, err
	}
	id := s.sample(logits)
	s.recent = append(s.recent, id)
	if n := len(s.recent) - s.options.RepeatLast; n > 0 {
		s.recent = append(s.recent[:0], s.recent[n:]...)
	}
	return id, nil
}

func (s *Sampler) sample(logits []float32) int32 {
	o := s.options
	if o.RepeatPenalty > 0 && o.RepeatPenalty != 1 {
		logits = s.penalised(logits)
	}
	if o.Temperature <= 0 {
		return Argmax(logits)
	}
	kept := s.top(logits)
	kept = topP(kept, o.TopP)
	kept = minP(kept, o.MinP)

	sum := softmax(kept, o.Temperature)
	at := s.rng.Float64() * sum
	for _, c := range kept {
		if at -= c.p; at < 0 {
			return c.id
		}
	}
	return kept[len(kept)-1].id
}

func (s *Sampler) penalised(logits []float32) []float32 {
	s.logits = append(s.logits[:0], logits...)
	clear(s.seen)
	for _, id := range s.recent {
		if s.seen[id] || id < 0 || int(id) >= len(logits) {
			continue
		}
		s.seen[id] = true
		if l := &s.logits[id]; *l > 0 {
			*l /= float32(s.options.RepeatPenalty)
		} else {
			*l *= float32(s.options.RepeatPenalty)
		}
	}
	return s.logits
}

// top returns the candidates that top-k keeps, most likely first.
func (s *Sampler) top(logits []float32) []candidate {
	kept := s.kept[:0]
	for id, l := range logits {
		kept = append(kept, candidate{id: int32(id), logit: l})
	}
	s.kept = kept
	if k := s.options.TopK; k > 0 && k < len(kept) {
		selectTop(kept, k)
		kept = kept[:k]
	}
	slices.SortFunc(kept, byLogit)
	return kept
}

func byLogit(a, b candidate) int {
	if c := cmp.Compare(b.logit, a.logit); c != 0 {
		return c
	}
	return cmp.Compare(a.id, b.id)
}

// selectTop moves the k best candidates to the front, in any order (quickselect).
func selectTop(c []candidate, k int) {
	lo, hi := 0, len(c)-1
	for lo < hi {
		pivot := c[lo+(hi-lo)/2]
		i, j := lo, hi
		for i <= j {
			for byLogit(c[i], pivot) < 0 {
				i++
			}
			for byLogit(c[j], pivot) > 0 {
				j--
			}
			if i <= j {
				c[i], c[j] = c[j], c[i]
				i++
				j--
			}
		}
		switch {
		case k-1 <= j:
			hi = j
		case k-1 >= i:
			lo = i
		default:
			return
		}
	}
}

func topP(c []candidate, p float64) []candidate {
	if p <= 0 || p >= 1 {
		return c
	}
	sum := softmax(c, 1)
	reached := 0.0
	for i := range c {
		if reached += c[i].p; reached >= p*sum {
			return c[:i+1]
		}
	}
	return c
}

func minP(c []candidate, p float64) []candidate {
	if p <= 0 || len(c) == 0 {
		return c
	}
	least := float64(c[0].logit) + math.Log(p)
	for i := range c {
		if float64(c[i].logit) < least {
			return c[:max(i, 1)]
		}
	}
	return c
}

// softmax sets unnormalised probabilities relative to the first candidate, the most likely, and returns their sum.
func softmax(c []candidate, temperature float64) float64 {
	sum := 0.0
	for i := range c {
		c[i].p = math.Exp(float64(c[i].logit-c[0].logit) / temperature)
		sum += c[i].p
	}
	return sum
}

// Argmax returns the most likely token, the first of equals. The logits are finite, see [Check].
func Argmax(logits []float32) int32 {
	best, at := float32(math.Inf(-1)), 0
	for id, l := range logits {
		if l > best {
			best, at = l, id
		}
	}
	return int32(at)
}

// LogSumExp returns log Σ exp(logits), computed in float64. The log-probability of token i is logits[i] - LogSumExp.
func LogSumExp(logits []float32) float64 {
	most := float64(logits[Argmax(logits)])
	sum := 0.0
	for _, l := range logits {
		sum += math.Exp(float64(l) - most)
	}
	return most + math.Log(sum)
}

// Top returns the k most likely tokens, best first, with their natural log-probabilities; all tokens for k = 0.
func Top(logits []float32, k int, logSumExp float64) (ids []int32, logProbs []float32) {
	s := Sampler{options: infer.Sampling{TopK: k}}
	kept := s.top(logits)
	ids, logProbs = make([]int32, len(kept)), make([]float32, len(kept))
	for i, c := range kept {
		ids[i], logProbs[i] = c.id, float32(float64(c.logit)-logSumExp)
	}
	return ids, logProbs
}
