package search

import (
	"time"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Status is what a job is doing.
type Status string

// The states of a job.
const (
	Waiting Status = "waiting" // Run has not been called
	Running Status = "running"
	Paused  Status = "paused" // by an error: see Snapshot.Err
	Ended   Status = "ended"
)

// Snapshot is a job at one moment. Its slices are shared and must not be changed.
type Snapshot struct {
	Revision uint64 // rises with every change
	Status   Status
	Err      error  // what a job was paused or ended by
	Reason   string // why it ended, for people
	Strategy string
	Seed     uint64
	State    State // after the last generation
	// Target is the one asked for last; it is State.Target once the generation
	// under way is over.
	Target Target
	// Scoring are the individuals being scored, on Tier of the strategy's tiers,
	// in the order they were given; those with a Tier of that number are done.
	Scoring []Individual
	Tier    int
	Text    Tier
	Spent   Spent // the generation under way included

	CandidatesPerMinute, TokensPerSecond float64 // lately
	Elapsed                              time.Duration
	Left                                 time.Duration // negative when unknown
}

// Best returns the best subnet within the target so far, and false before there
// is one.
func (s *Snapshot) Best() (Individual, bool) { return s.State.Best() }

// Result is what a search has found.
type Result struct {
	Best   Individual
	State  State
	Reason string
}

// Masks returns the masks of the best subnet.
func (r Result) Masks() subnet.Masks { return r.Best.Masks }
