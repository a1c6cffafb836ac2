package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/explorer"
)

// answersResult is what the dense model and best candidates of a search have answered to its prompt.
type answersResult struct {
	Prompt string         `json:"prompt,omitempty"` // empty where none answers any more
	Dense  *answerResult  `json:"dense,omitempty"`
	Best   []answerResult `json:"best"`            // of best candidates, in order; the last one may be that of the subnet that the search ended with
	Error  string         `json:"error,omitempty"` // why there was no last answer
}

// answerResult is one answer.
type answerResult struct {
	Candidate int       `json:"candidate,omitempty"`
	Subnet    string    `json:"subnet,omitempty"` // that the search has ended with
	Share     float64   `json:"share"`
	Relative  float64   `json:"relative_perplexity,omitempty"` // to the dense model
	Text      string    `json:"text"`
	Tokens    int       `json:"tokens"`
	At        time.Time `json:"at"`
	Seconds   float64   `json:"seconds"` // that it took, loading the model included
}

func newAnswer(a explorer.Answer) answerResult {
	return answerResult{a.Candidate, string(a.Subnet), a.Ratio, a.Relative, a.Text, a.Tokens, a.At.UTC(), a.Took.Seconds()}
}

// newAnswers returns nil for a search without a prompt.
func newAnswers(a explorer.Answers) *answersResult {
	if a.Prompt == "" && len(a.Best) == 0 {
		return nil
	}
	r := &answersResult{Prompt: a.Prompt, Error: a.Err, Best: []answerResult{}}
	if !a.Dense.At.IsZero() {
		dense := newAnswer(a.Dense)
		r.Dense = &dense
	}
	for _, n := range a.Best {
		r.Best = append(r.Best, newAnswer(n))
	}
	return r
}

// words writes the prompt with the answer of the dense model and the newest one; with the others too.
func (r *answersResult) words(w io.Writer, all bool) {
	if r == nil {
		return
	}
	line := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	rows := [][]string{{"prompt", line(r.Prompt)}}
	if r.Dense != nil {
		rows = append(rows, []string{"dense", line(r.Dense.Text)})
	}
	best := r.Best
	if !all && len(best) > 1 {
		best = best[len(best)-1:]
	}
	for _, n := range best {
		name := n.Subnet
		if name == "" {
			name = fmt.Sprintf("#%d", n.Candidate)
		}
		if n.Relative > 0 {
			name += fmt.Sprintf(" (%.2f ×)", n.Relative)
		}
		rows = append(rows, []string{name, line(n.Text)})
	}
	table(w, rows...)
	if r.Error != "" {
		fmt.Fprintf(w, "no answer: %s\n", r.Error)
	}
}
