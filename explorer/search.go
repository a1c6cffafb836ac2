package explorer

import (
	"fmt"
	"time"

	"github.com/lathe-llm/lathe/search"
)

// Search is the state of the newest search, running or not. Its zero value means there was none.
type Search struct {
	Job             JobID
	Strategy        string
	Target          search.Target
	Seed            uint64
	Fitness         string // what is minimised: "kl", "perplexity"
	Generation      int
	Evaluated       int     // candidates scored
	Dropped         int     // candidates whose fitness was NaN or infinite
	Tokens          int64   // tokens computed
	PerMinute       float64 // candidates per minute, lately
	Elapsed, Left   time.Duration
	PrefixReuse     float64 // share of layer work saved by shared prefixes
	TierHits        float64 // share of candidates whose rank held on the next tier
	Best            *Candidate
	Population      []Candidate         // of the present generation, best first
	Plain           []PlainType         `json:",omitempty"` // the dense model in plain types, the smallest first, where types are searched
	Front           []Candidate         // Pareto front of size and fitness, smallest first
	Cloud           []search.Point      // scores so far, thinned to a bounded number
	History         []search.Generation // one per generation, thinned to a bounded number
	Events          []search.Event      // newest last, bounded
	DensePerplexity float64             // of the dense model on the search's text
	LevelsBytes     int64               // of the levels on the disk, 0 for strategies without levels
	LevelsSpace     int64               // the most that they may take, 0 for no bound
	Unread          string              // why the search that the workspace keeps is not shown; "" where it is, or there is none
	// Result is the re-fitted subnet that the search has ended with, made from the candidate ResultOf; "" before its end.
	Result   SubnetID
	ResultOf int
	// Workers are the processes that work for a running job with [Machines], a search or another one, and Queued is how many candidates
	// or pieces of work they have. They are not kept.
	Workers []Worker `json:"-"`
	Queued  int      `json:"-"`
	// GivenUp names the candidates that workers could not score and the levels and sensitivities that they could not do, each with the reason, the
	// last ones last: the search has done that itself.
	GivenUp []string `json:",omitempty"`
	Async   bool     `json:",omitempty"` // it did not wait for stragglers: the seed does not determine the result
}

// Preparation is what a search has measured of the modules of the dense model before it scores candidates.
type Preparation struct {
	Job     JobID
	Modules []Prepared // of all layers, attention before MLP
	Last    int        // the module measured last
}

// Prepared is what a search has measured of one module.
type Prepared struct {
	Levels   int     // widths that are prepared, 0 before
	Lost     float64 // share of the module's output energy that the middle one loses
	Rise     float64 // of the loss at that width, in nats per token, if Measured
	Measured bool
}

// A Candidate is a subnet that a search has scored or is scoring, with what the explorer shows beside it.
type Candidate struct {
	search.Individual
	ShareAll float64 // inheriting ratio over all parameters, embeddings included
	Bytes    int64   // of the file in the source's types, 0 if unknown
	// Zeroed is the share of the block parameters that a file contains besides those kept, as zeros: channels inside heads.
	Zeroed float64
	Tiers  int // tiers of the search, 0 if unknown; Tier of them are scored
	// BitsPerByte is the mean negative log-likelihood of the search's text in bits for each of its bytes, where types are searched, else 0.
	BitsPerByte float64
}

// PlainType is the dense model stored in one type.
type PlainType struct {
	Type        string  // "" is that of the source
	Bytes       int64   // of the file
	BitsPerByte float64 // of the search's text
}

// PlainAdvice returns, where a plain type that is no larger than the best candidate has as few bits per byte, a sentence that recommends it, otherwise "".
func (s Search) PlainAdvice() string {
	if s.Best == nil || s.Best.BitsPerByte == 0 {
		return ""
	}
	best := -1
	for i, p := range s.Plain {
		if p.Bytes <= s.Best.Bytes && p.BitsPerByte <= s.Best.BitsPerByte && (best < 0 || p.BitsPerByte < s.Plain[best].BitsPerByte) {
			best = i
		}
	}
	if best < 0 {
		return ""
	}
	p := s.Plain[best]
	if p.Type == "" {
		return fmt.Sprintf("the model as it is, %.1f MB, has %.4f bits per byte, no more than the best candidate: nothing has to be cut", float64(p.Bytes)/1e6, p.BitsPerByte)
	}
	return fmt.Sprintf("plain %s, %.1f MB, has %.4f bits per byte, no more than the best candidate: quantise the model plainly, with lathe subnets export dense --type %s",
		p.Type, float64(p.Bytes)/1e6, p.BitsPerByte, p.Type)
}

// PlainRival is the dense model in the plain type that was the best within the target of a search over types, on the same held-out text.
type PlainRival struct {
	Type       string  `json:"type"`
	Bytes      int64   `json:"bytes"`
	Perplexity float64 `json:"perplexity"`
	Better     bool    `json:"better"` // than the result, or as good
}
