package explorer

import (
	"slices"
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
	JobVocab      JobKind = "vocabulary"
	JobMeasure    JobKind = "measure"
	JobSearch     JobKind = "search"
	JobExport     JobKind = "export"
	JobBench      JobKind = "bench"
	JobImport     JobKind = "import"
	JobAdopt      JobKind = "adopt"
	JobRecipe     JobKind = "recipe"
	JobFit        JobKind = "fit"
	JobQuantize   JobKind = "quantize"
)

// JobState is the state a job is in.
type JobState string

// The states of a job. Yielded means that it is paused because a chat or another job needs the cores, and resumes by itself.
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
	Of       SubnetID     // what a single measurement is of; "" of other jobs
	Follows  bool         // it measures the draft after an edit, without being asked for; a later edit supersedes it
	Reason   string       // why it is Paused although nobody paused it, such as a full disk; "" otherwise
	Cause    error        // why it failed, for errors.Is; nil unless State is Failed
	Err      string       // why it failed; one line
	Result   SubnetID     // the subnet of the library that it made or measured, if any
	Writes   string       // the file or folder it is to write, if it is to write one
	Output   string       // the file it wrote, if it wrote one
	Report   *gguf.Report // what is in that file
	Fit      *Fit         // what a job of the kind JobFit found
	Vocab    *Vocab       // how the vocabulary of that file was trimmed for it
}

// Progress of a job. Total is 0 while it is not known.
type Progress struct {
	Done, Total float64
	Unit        string        // "layers", "tokens", "windows", "bytes", "candidates"
	Rate        float64       // units per second; 0 until it is known
	Left        time.Duration // 0 until it is known
	Step        string        // what is being done now: "layer 12 · mlp"
	Phase       Phase         // zero for a job of one phase
	PhaseLeft   time.Duration // of the phase, where Left is not known; 0 until it is known
	Spent       time.Duration // that the job has computed
	At          time.Time     // when the times were computed
}

// A Phase is a part of a job that consists of several, each with units of its own.
type Phase struct {
	Number, Of int           // from 1
	Name       string        // "levels", "sensitivity", "search", "re-fit"
	Left       time.Duration // of all of the job, where it has a time limit; 0 until it is known
	After      time.Duration // that the phases after this one take; 0 while it is not known
}

// Last reports whether no phase follows, so that what is left of it is what is left of the job.
func (p Phase) Last() bool { return p.Number >= p.Of }

// Whole is the share of the job that is done, in [0, 1]: of a job of several phases, each of which counts alike.
func (p Progress) Whole() float64 {
	if p.Phase.Of <= 1 {
		return p.Fraction()
	}
	return (float64(p.Phase.Number-1) + p.Fraction()) / float64(p.Phase.Of)
}

// Remaining is the time that is left of the job at a later moment of its run, 0 while it is not known.
func (p Progress) Remaining(now time.Time) time.Duration {
	if p.Left <= 0 || p.At.IsZero() {
		return p.Left
	}
	return max(p.Left-max(now.Sub(p.At), 0), time.Second)
}

// late is how long after the moment at which it was expected to end a job is shown as about to end.
const late = 3 * time.Second

// Clock returns the time that a bar shows at a later moment of the job's run, and what it is: "left" of the job, "left of levels" where that
// of the job is not known, or "so far", also where the work takes longer than it was expected to. It is 0 before the job runs.
func (p Progress) Clock(now time.Time) (d time.Duration, what string) {
	since := max(now.Sub(p.At), 0)
	if p.At.IsZero() {
		since = 0
	}
	switch {
	case p.Left > 0 && since < p.Left+late:
		return p.Remaining(now), "left"
	case p.Left <= 0 && p.PhaseLeft > 0 && since < p.PhaseLeft+late:
		return Progress{Left: p.PhaseLeft, At: p.At}.Remaining(now), "left of " + p.Phase.Name
	case p.At.IsZero():
		return 0, ""
	}
	return p.Spent + since, "so far"
}

// Awaits returns what a job that does not run waits for, as people read it: the title of another job, or "a chat". It is "" for
// jobs that wait for nothing, such as one that a person paused.
func (s *Snapshot) Awaits(j Job) string {
	if j.State != Queued && j.State != Yielded {
		return ""
	}
	for _, other := range s.Jobs {
		if other.ID != j.ID && other.State == Running {
			return other.Title
		}
	}
	if j.State == Yielded && s.Answers.Busy && s.Answers.Job == j.ID {
		return "an answer of its best"
	}
	for _, c := range s.Chats {
		if c.Busy || c.Comparing > 0 {
			return "a chat"
		}
	}
	for _, other := range s.Jobs { // one that is paused holds the place of those after it
		if other.ID != j.ID && other.State == Paused && j.State == Queued {
			return other.Title + ", which is paused"
		}
	}
	for _, other := range s.Jobs { // one that is about to run
		if other.ID != j.ID && other.State == Queued && j.State == Yielded {
			return other.Title
		}
	}
	return ""
}

// Measures returns the measurement of a subnet that has not ended, if there is one.
func (s *Snapshot) Measures(id SubnetID) (Job, bool) {
	i := slices.IndexFunc(s.Jobs, func(j Job) bool { return j.Kind == JobMeasure && j.Of == id && !j.State.Ended() })
	if i < 0 {
		return Job{}, false
	}
	return s.Jobs[i], true
}

// Fraction is the share done in [0, 1], or 0 while the total is not known.
func (p Progress) Fraction() float64 {
	if p.Total <= 0 {
		return 0
	}
	return min(1, max(0, p.Done/p.Total))
}
