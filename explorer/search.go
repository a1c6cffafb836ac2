package explorer

import (
	"time"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Search is the state of the newest search, running or not. Its zero value means there was none.
type Search struct {
	Job             JobID
	Strategy        string
	Target          float64 // inheriting ratio over block parameters
	Seed            uint64
	Fitness         string // what is minimised: "kl", "perplexity"
	Generation      int
	Evaluated       int     // candidates scored
	Dropped         int     // candidates whose fitness was no number
	Tokens          int64   // tokens computed
	PerMinute       float64 // candidates per minute, lately
	Elapsed, Left   time.Duration
	PrefixReuse     float64 // share of layer work saved by shared prefixes
	TierHits        float64 // share of candidates whose rank held on the next tier
	Best            *Candidate
	Population      []Candidate  // of the present generation, best first
	Front           []Candidate  // Pareto front of size and fitness, smallest first
	Cloud           []Point      // what was scored so far, thinned to a bounded number
	History         []Generation // one per generation, thinned to a bounded number
	Events          []Event      // newest last, bounded
	DensePerplexity float64      // of the dense model on the search's text
}

// A Candidate is one subnet a search has scored or is scoring.
type Candidate struct {
	ID          int
	Share       float64 // over block parameters
	ShareAll    float64 // over all parameters
	Bytes       int64   // GGUF tensor bytes in the source's type
	Fitness     float64 // nats per token, of "perplexity" the negative log-likelihood
	KL          float64 // nats per token; 0 if not measured
	Perplexity  float64 // 0 if not measured
	Tier, Tiers int     // how far it was scored
	Moves       string  // what it changed over its parent: "L7↑ L22↓"
	Parent      int
	Generation  int
	Injected    bool // made by hand and put in by a person
	Masks       subnet.Masks
}

// A Point is one scored candidate on the chart of size against quality.
type Point struct {
	ID         int
	Share      float64
	Perplexity float64
	Fitness    float64
}

// A Generation sums up one generation.
type Generation struct {
	Number       int
	Best, Median float64 // fitness
	Tokens       int64   // computed up to its end
	Seconds      float64 // since the start of the search, pauses left out
}

// An Event is something that happened during a search.
type Event struct {
	At   time.Time
	Text string
}
