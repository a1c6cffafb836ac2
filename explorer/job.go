package explorer

import (
	"time"

	"github.com/lathe-llm/lathe/infer/gguf"
)

// JobID names a job within its exploration, for the life of the process.
type JobID string

// JobKind is what a job does.
type JobKind string

// The kinds of jobs.
const (
	JobStatistics JobKind = "statistics"
	JobCut        JobKind = "cut"
	JobReform     JobKind = "reform"
	JobTune       JobKind = "tune"
	JobMeasure    JobKind = "measure"
	JobSearch     JobKind = "search"
	JobExport     JobKind = "export"
	JobBench      JobKind = "bench"
	JobImport     JobKind = "import"
	JobAdopt      JobKind = "adopt"
	JobRecipe     JobKind = "recipe"
)

// JobState is the state a job is in.
type JobState string

// The states of a job. Yielded means that it is paused because chat or bench needs the cores, and resumes by itself.
const (
	Queued  JobState = "queued"
	Running JobState = "running"
	Paused  JobState = "paused"
	Yielded JobState = "yielded"
	Done    JobState = "done"
	Failed  JobState = "failed"
	Stopped JobState = "stopped"
)

// Ended reports whether a job in this state will not run again.
func (s JobState) Ended() bool { return s == Done || s == Failed || s == Stopped }

// A Job is one long piece of work. At most one that computes on the device runs at a time, the others wait in order.
type Job struct {
	ID       JobID
	Kind     JobKind
	Title    string // for people: "cut to 0.80 (allocated)"
	State    JobState
	Author   string
	Created  time.Time
	Started  time.Time // zero while queued
	Ended    time.Time // zero until it ended
	Progress Progress
	CanPause bool
	Reason   string       // why it is Paused although nobody paused it, such as a full disk; "" otherwise
	Cause    error        // why it failed, for errors.Is; nil unless State is Failed
	Err      string       // why it failed; one line
	Result   SubnetID     // the subnet of the library that it made or measured, if any
	Output   string       // the file it wrote, if it wrote one
	Report   *gguf.Report // what is in that file
}

// Progress of a job. Total is 0 while it is not known.
type Progress struct {
	Done, Total float64
	Unit        string        // "layers", "tokens", "windows", "bytes", "candidates"
	Rate        float64       // units per second; 0 until it is known
	Left        time.Duration // 0 until it is known
	Step        string        // what is being done now: "layer 12 · mlp"
}

// Fraction is the share done in [0, 1], or 0 while the total is not known.
func (p Progress) Fraction() float64 {
	if p.Total <= 0 {
		return 0
	}
	return min(1, max(0, p.Done/p.Total))
}
