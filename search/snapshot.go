package search

import "time"

// Status is the status of a job.
type Status string

// The statuses of a job.
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
	Err      error  // that paused or ended the job
	Reason   string // why it ended, for people
	Strategy string
	Seed     uint64
	State    State // after the last generation
	// Target is the latest one requested; it becomes State.Target at the end of
	// the present generation.
	Target Target
	// Scoring are the individuals that are being scored on tier number Tier, in
	// the strategy's order; those whose own Tier is that number are scored.
	Scoring []Individual
	Tier    int
	Text    Tier
	Spent   Spent // including the present generation

	CandidatesPerMinute, TokensPerSecond float64 // recently
	Elapsed                              time.Duration
	Left                                 time.Duration // negative when unknown
}

// Best returns the best subnet within the target so far, and false before there
// is one.
func (s *Snapshot) Best() (Individual, bool) { return s.State.Best() }

// Result is the result of a search.
type Result struct {
	Best   Individual
	State  State
	Reason string
}
