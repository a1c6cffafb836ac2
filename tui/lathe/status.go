package main

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
)

// statusResult is what `status --json` writes.
type statusResult struct {
	Model     string          `json:"model"`
	Workspace string          `json:"workspace"`
	Bytes     int64           `json:"workspace_bytes"`
	Subnets   int             `json:"subnets"`
	Trash     int             `json:"trash"`
	Chats     int             `json:"chats"`
	Benches   int             `json:"benches"`
	Base      string          `json:"draft_base"`
	Undo      int             `json:"undo"`
	Redo      int             `json:"redo"`
	Draft     sizeResult      `json:"draft"`
	Estimate  *estimateResult `json:"estimate"` // of the draft
	Jobs      []jobResult     `json:"jobs"`     // queued, running or paused; empty except on a server
	Search    *searchLine     `json:"search,omitempty"`
	// Unfinished is the search that runs, or that the end of a process interrupted.
	Unfinished *unfinishedResult `json:"unfinished_search,omitempty"`
	// Paused is why the job of the process that holds the workspace is paused although nobody paused it.
	Paused string `json:"paused,omitempty"`
	// Ended is the last search that ended and can be resumed.
	Ended   *endedResult `json:"ended_search,omitempty"`
	Viewers []viewerName `json:"viewers,omitempty"`
}

// jobResult is a job in statusResult.
type jobResult struct {
	ID       string            `json:"id"`
	Kind     explorer.JobKind  `json:"kind"`
	Title    string            `json:"title"`
	State    explorer.JobState `json:"state"`
	Author   string            `json:"author,omitempty"`
	Fraction float64           `json:"fraction"`
	Left     float64           `json:"seconds_left,omitempty"`
	// PhaseLeft is what is left of the phase, where what is left of the job is not known; Spent is how long it has computed.
	PhaseLeft float64 `json:"phase_seconds_left,omitempty"`
	Spent     float64 `json:"seconds,omitempty"`
	Reason    string  `json:"reason,omitempty"` // why it is paused although nobody paused it
	Phase     string  `json:"phase,omitempty"`  // "2/4 sensitivity"
	Awaits    string  `json:"waits_for,omitempty"`
}

// unfinishedResult is a search in statusResult that has not ended.
type unfinishedResult struct {
	Target targetResult `json:"target"`
	Author string       `json:"author"`
	Paused bool         `json:"paused"`
}

// endedResult is a search in statusResult that has ended.
type endedResult struct {
	Target    targetResult `json:"target"`
	Evaluated int          `json:"evaluated"`
	Seconds   float64      `json:"seconds"`
	At        time.Time    `json:"at"`
}

// viewerName is a person with an open session on the server.
type viewerName struct {
	Name string `json:"name"`
	Role string `json:"role"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status [MODEL]", Short: "Show the state of a model's workspace", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), model, readOnly, func(e exploration) error {
				r := newStatus(e.Snapshot())
				return a.result(r, r.words)
			})
		},
	}
}

func newStatus(s *explorer.Snapshot) statusResult {
	r := statusResult{
		Model: s.Model.Path, Workspace: s.Workspace.Path, Bytes: s.Workspace.Bytes, Subnets: len(s.Subnets), Trash: len(s.Trash),
		Chats: len(s.Chats), Benches: len(s.Benches), Base: string(s.Draft.Base), Undo: len(s.Draft.Steps), Redo: len(s.Draft.Undone),
		Draft: newSize(s.Draft.Size, s.Draft.Bytes), Estimate: newEstimate(s.Draft.Estimate), Jobs: []jobResult{},
	}
	for _, j := range s.Jobs {
		if !j.State.Ended() {
			p := j.Progress
			r.Jobs = append(r.Jobs, jobResult{
				string(j.ID), j.Kind, j.Title, j.State, j.Author, p.Fraction(), p.Left.Seconds(), p.PhaseLeft.Seconds(), p.Spent.Seconds(), j.Reason, phaseOf(j), s.Awaits(j),
			})
		}
	}
	if s.Search.Best != nil {
		line := newSearchLine("state", s.Search)
		r.Search = &line
	}
	r.Paused = s.Workspace.Paused
	for _, j := range r.Jobs {
		r.Paused = cmp.Or(r.Paused, j.Reason)
	}
	if u := s.Unfinished; u != nil {
		r.Unfinished = &unfinishedResult{targetResult(cmp.Or(u.Search.Retarget, u.Search.Target)), u.Author, u.Paused}
	}
	if e := s.Ended; e != nil {
		r.Ended = &endedResult{targetResult(e.Target), e.Evaluated, e.Elapsed.Seconds(), e.At}
	}
	for _, v := range s.Presence {
		r.Viewers = append(r.Viewers, viewerName{v.Name, v.Role.String()})
	}
	return r
}

// phaseOf is the phase that a job is in, "" for one of a single phase.
func phaseOf(j explorer.Job) string {
	p := j.Progress.Phase
	if p.Of <= 1 {
		return ""
	}
	return fmt.Sprintf("%d/%d %s", p.Number, p.Of, p.Name)
}

func (r statusResult) words(w io.Writer) {
	rows := [][]string{
		{"model", r.Model},
		{"workspace", fmt.Sprintf("%s (%s)", r.Workspace, format.Bytes(r.Bytes))},
		{"subnets", fmt.Sprintf("%d, %d in the trash", r.Subnets, r.Trash)},
		{"chats", fmt.Sprint(r.Chats)},
		{"benchmarks", fmt.Sprint(r.Benches)},
		{"draft", fmt.Sprintf("from %s, %s to undo, %d to redo, share %.3f", r.Base, format.Counted(r.Undo, "step"), r.Redo, r.Draft.Share)},
	}
	if e := r.Estimate; e.Perplexity > 0 {
		rows = append(rows, []string{"estimate", fmt.Sprintf("perplexity %.2f, %s", e.Perplexity, e.accuracy())})
	} else if e.Compared > 0 {
		rows = append(rows, []string{"estimates", e.accuracy()})
	}
	for _, j := range r.Jobs {
		text := fmt.Sprintf("%s, %s, %.0f %%", j.Title, j.State, 100*j.Fraction)
		if j.Phase != "" {
			text += " of " + j.Phase
		}
		if j.Awaits != "" {
			text += ", waits for " + j.Awaits
		}
		clock := func(seconds float64) string { return ", " + format.Clock(time.Duration(seconds*float64(time.Second))) }
		switch {
		case j.Left > 0:
			text += clock(j.Left) + " left"
		case j.PhaseLeft > 0:
			text += clock(j.PhaseLeft) + " left of the phase"
		case j.Spent > 0:
			text += clock(j.Spent) + " so far"
		}
		rows = append(rows, []string{"job " + j.ID, text})
	}
	if s := r.Search; s != nil {
		rows = append(rows, []string{"search", fmt.Sprintf("generation %d, %s, best fitness %.4f at share %.3f", s.Generation, format.Counted(s.Evaluated, "candidate"), s.Best, s.Share)})
	}
	if u := r.Unfinished; u != nil && len(r.Jobs) == 0 {
		rows = append(rows, []string{"unfinished", fmt.Sprintf("a search at %s, started by %s", u.Target.name(), u.Author)})
	}
	if e := r.Ended; e != nil {
		rows = append(rows, []string{"last search", fmt.Sprintf("at %s, %s in %s; --resume continues it", e.Target.name(), format.Counted(e.Evaluated, "candidate"), format.Clock(time.Duration(e.Seconds*float64(time.Second))))})
	}
	if r.Paused != "" {
		rows = append(rows, []string{"paused", r.Paused})
	}
	for _, v := range r.Viewers {
		rows = append(rows, []string{"viewer", fmt.Sprintf("%s (%s)", v.Name, v.Role)})
	}
	table(w, rows...)
}
