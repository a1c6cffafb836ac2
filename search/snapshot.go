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
// A candidate of the generation under way is the best as soon as it is scored on all of the text that the others were. The paper's
// strategy draws other text for each generation: scores of different generations do not compare.
func (s *Snapshot) Best() (Individual, bool) {
	best, found := s.State.Best()
	if s.State.Ladder == nil {
		return best, found
	}
	for _, in := range s.Scoring {
		if in.Tier == len(s.State.Ladder.Tiers) && s.Target.allows(in.Cost) && (!found || in.Tier >= best.Tier && in.Score.Fitness < best.Score.Fitness) {
			best, found = in, true
		}
	}
	return best, found
}

// Result is the result of a search.
type Result struct {
	Best   Individual
	State  State
	Reason string
}
