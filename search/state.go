package search

import (
	"cmp"
	"slices"
	"time"
)

// Bounds of what a state keeps for display.
const (
	maxFront   = 128
	maxPoints  = 2048
	maxHistory = 4096
	maxEvents  = 256
)

// State is everything that a strategy knows between two generations. A strategy
// never changes a state that it was given; it returns another. Checkpoints store
// the individuals in a separate form.
type State struct {
	Generation int // generations completed
	Target     Target
	// Population holds the individuals of the last generation, best first; the
	// first is the best subnet within the target.
	Population []Individual `json:"-"`
	// Front holds the subnets scored in full that no smaller one beats, smallest
	// first.
	Front   []Individual `json:"-"`
	History []Generation
	Points  []Point
	Events  []Event
	Spent   Spent
	NextID  int
	// Pending are the subnets made by hand that join the next generation.
	Pending []Individual `json:"-"`
	// Done is why the strategy has nothing left to do; "" while it has.
	Done string

	Ladder *LadderState `json:",omitempty"`
	Paper  *PaperState  `json:",omitempty"`
}

// Spent counts what a search has used.
type Spent struct {
	Evaluations int   // scores, on all tiers
	Dropped     int   // of them, those whose fitness was NaN or infinite
	Tokens      int64 // computed
}

// Generation summarises one generation.
type Generation struct {
	Number       int
	Best, Median float64 // fitness of the best subnet and of the population
	Spent        Spent   // up to its end
	// Elapsed is the time up to its end, without pauses. No decision depends on it.
	Elapsed time.Duration
}

// Point is one score for a chart of size against fitness.
type Point struct {
	ID      int
	Ratio   float64
	Fitness float64
	NLL     float64
	Tier    int
}

// Perplexity is exp(NLL), or 0 where it was not measured.
func (p Point) Perplexity() float64 { return Score{NLL: p.NLL}.Perplexity() }

// Event is something noteworthy in a search.
type Event struct {
	Generation int
	At         time.Time // no decision depends on it
	Text       string
}

// Best returns the best subnet within the target, and false before there is one.
func (s *State) Best() (Individual, bool) {
	if len(s.Population) == 0 || s.Population[0].Tier == 0 {
		return Individual{}, false
	}
	return s.Population[0], true
}

// clone returns a state that can be changed without changing s.
func (s State) clone() State {
	s.Population = slices.Clone(s.Population)
	s.Front = slices.Clone(s.Front)
	s.History = slices.Clone(s.History)
	s.Points = slices.Clone(s.Points)
	s.Events = slices.Clone(s.Events)
	s.Pending = slices.Clone(s.Pending)
	if s.Ladder != nil {
		l := s.Ladder.clone()
		s.Ladder = &l
	}
	if s.Paper != nil {
		p := s.Paper.clone()
		s.Paper = &p
	}
	return s
}

func (s *State) event(text string) {
	s.Events = last(append(s.Events, Event{Generation: s.Generation, Text: text}), maxEvents)
}

// close ends a generation.
func (s *State) close() {
	s.Generation++
	g := Generation{Number: s.Generation, Spent: s.Spent}
	if best, ok := s.Best(); ok {
		g.Best = best.Score.Fitness
	}
	var scored []float64
	for _, in := range s.Population {
		if in.Tier > 0 {
			scored = append(scored, in.Score.Fitness)
		}
	}
	if slices.Sort(scored); len(scored) > 0 {
		g.Median = scored[len(scored)/2]
	}
	s.History = thinned(append(s.History, g), maxHistory)
}

// size is what fronts are ordered by: the inheriting ratio, or the bytes of the file where types differ too.
func (in Individual) size() float64 {
	if in.Bytes > 0 {
		return float64(in.Bytes)
	}
	return in.Ratio
}

// addToFront adds an individual that was scored in full to the front, unless one
// that is not larger is as good.
func (s *State) addToFront(in Individual) {
	at, _ := slices.BinarySearchFunc(s.Front, in.size(), func(f Individual, size float64) int { return cmp.Compare(f.size(), size) })
	if at > 0 && s.Front[at-1].Score.Fitness <= in.Score.Fitness {
		return
	}
	if at < len(s.Front) && s.Front[at].size() == in.size() && s.Front[at].Score.Fitness <= in.Score.Fitness {
		return
	}
	end := at
	for end < len(s.Front) && s.Front[end].Score.Fitness >= in.Score.Fitness {
		end++
	}
	s.Front = slices.Replace(s.Front, at, end, in)
	if len(s.Front) > maxFront {
		s.Front = slices.Delete(s.Front, crowded(s.Front), crowded(s.Front)+1)
	}
}

// crowded returns the index of the inner member of a front whose neighbours are
// closest to each other.
func crowded(front []Individual) int {
	at, least := 1, front[2].size()-front[0].size()
	for i := 2; i+1 < len(front); i++ {
		if d := front[i+1].size() - front[i-1].size(); d < least {
			at, least = i, d
		}
	}
	return at
}

// last returns the last n elements.
func last[T any](s []T, n int) []T { return s[max(0, len(s)-n):] }

// thinned returns s, or every second element of it up to the last when it is
// longer than n.
func thinned[T any](s []T, n int) []T {
	if len(s) <= n {
		return s
	}
	out := s[:0:0]
	for i := (len(s) - 1) % 2; i < len(s); i += 2 {
		out = append(out, s[i])
	}
	return out
}
