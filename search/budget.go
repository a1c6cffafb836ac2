package search

import (
	"fmt"
	"time"
)

// Budget limits a search: the first limit reached ends it, zero fields do not
// limit. Evaluations, tokens and generations are checked between generations, so
// that the same search always ends in the same state. Time is checked after every
// score, and the generation that it interrupts does not count. The first
// generation is always completed.
type Budget struct {
	Time        time.Duration // without pauses
	Evaluations int
	Tokens      int64
	Generations int
}

// spent returns the limit that a state has reached, for people; "" for none.
func (b Budget) spent(s State) string {
	switch {
	case b.Evaluations > 0 && s.Spent.Evaluations >= b.Evaluations:
		return fmt.Sprintf("the budget of %d evaluations is spent", b.Evaluations)
	case b.Tokens > 0 && s.Spent.Tokens >= b.Tokens:
		return fmt.Sprintf("the budget of %d tokens is spent", b.Tokens)
	case b.Generations > 0 && s.Generation > b.Generations:
		return fmt.Sprintf("the budget of %d generations is spent", b.Generations)
	}
	return ""
}

// left estimates the time until a limit is reached; negative means unknown.
func (b Budget) left(spent Spent, elapsed time.Duration, r rate) time.Duration {
	least := time.Duration(-1)
	consider := func(limited bool, d time.Duration) {
		if limited && (least < 0 || d < least) {
			least = max(d, 0)
		}
	}
	consider(b.Time > 0, b.Time-elapsed)
	if perSecond := r.evaluations(); perSecond > 0 {
		consider(b.Evaluations > 0, seconds(float64(b.Evaluations-spent.Evaluations)/perSecond))
	}
	if perSecond := r.tokens(); perSecond > 0 {
		consider(b.Tokens > 0, seconds(float64(b.Tokens-spent.Tokens)/perSecond))
	}
	return least
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// rate measures how fast recent scores arrived, without pauses.
type rate struct {
	at     []time.Duration // when the last scores arrived
	amount []int64         // their tokens
}

// rateWindow is how many scores a rate is measured over.
const rateWindow = 64

func (r *rate) add(at time.Duration, tokens int64) {
	r.at, r.amount = last(append(r.at, at), rateWindow), last(append(r.amount, tokens), rateWindow)
}

// span returns the time in seconds that the scores after the first took.
func (r *rate) span() float64 {
	if len(r.at) < 2 {
		return 0
	}
	return (r.at[len(r.at)-1] - r.at[0]).Seconds()
}

// evaluations returns scores per second, 0 when unknown.
func (r *rate) evaluations() float64 {
	if r.span() <= 0 {
		return 0
	}
	return float64(len(r.at)-1) / r.span()
}

// tokens returns tokens per second, 0 when unknown.
func (r *rate) tokens() float64 {
	if r.span() <= 0 {
		return 0
	}
	sum := int64(0)
	for _, n := range r.amount[1:] {
		sum += n
	}
	return float64(sum) / r.span()
}
