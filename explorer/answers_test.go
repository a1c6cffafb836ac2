package explorer_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

// answeringSearch starts a search whose candidates take ten seconds of the backend's clock and whose answers take a tenth for each token.
// It lets a best candidate begin its answer where one has not answered for long.
func answeringSearch(t *testing.T, folder, prompt string) (*explorer.Exploration, *explorertest.Backend, explorer.JobID) {
	t.Helper()
	b := explorertest.New()
	var e *explorer.Exploration
	ready := make(chan struct{})
	b.Pace = func(ctx context.Context, unit string) error {
		switch unit {
		case "token":
			b.Clock.Advance(100 * time.Millisecond)
		case "candidates":
			b.Clock.Advance(10 * time.Second)
			<-ready
			_, err := e.Until(ctx, func(s *explorer.Snapshot) bool {
				a := s.Answers
				if a.Busy || a.Prompt == "" || a.Err != "" || s.Search.Best == nil || len(a.Best) == 0 && s.Search.Evaluated > 6 {
					return a.Busy || a.Prompt == "" || a.Err != "" || s.Search.Best == nil
				}
				last, ok := a.Latest()
				return !ok || last.Candidate == s.Search.Best.ID || b.Clock.Now().Sub(last.At) < 400*time.Second
			})
			return err
		}
		return nil
	}
	e = explorertest.Open(t, b, folder)
	r, err := e.Do(t.Context(), explorertest.Owner, explorer.StartSearch{Target: search.Ratio(0.8), Seed: 1, Prompt: prompt})
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	return e, b, r.Job
}

// TestBestCandidatesAnswer has new best candidates answer a prompt: the dense model once, each best one at 3 % of the time at most, and
// the result at the end. Everything is there when the workspace is opened again.
func TestBestCandidatesAnswer(t *testing.T) {
	folder := t.TempDir()
	e, _, id := answeringSearch(t, folder, "What is a lathe?")
	job := explorertest.Ended(t, e, id)
	a := e.Snapshot().Answers
	if job.State != explorer.Done || a.Prompt != "What is a lathe?" || a.Busy || a.Err != "" {
		t.Fatalf("%s, answers %+v", job.State, a)
	}
	if len(a.Best) < 4 || a.Dense.Text == "" || a.Dense.Tokens == 0 || a.Dense.At.After(a.Best[0].At) {
		for _, n := range a.Best {
			t.Log(n.Candidate, n.Subnet, n.At, n.Took)
		}
		t.Fatalf("%d answers, of the dense model %+v", len(a.Best), a.Dense)
	}
	end := len(a.Best) - 1
	for i, n := range a.Best {
		if n.Text == "" || n.Tokens == 0 || n.Ratio <= 0 || n.Relative <= 1 || n.Took <= 0 || (n.Candidate == 0) != (i == end) {
			t.Errorf("answer %d is %+v", i, n)
		}
		if i == 0 || i == end {
			continue
		}
		before := a.Best[i-1]
		if before.Candidate == n.Candidate {
			t.Errorf("candidate %d has answered twice", n.Candidate)
		}
		const share = 0.03
		if pause, least := n.At.Add(-n.Took).Sub(before.At), time.Duration(float64(before.Took)*(1-share)/share); pause < least {
			t.Errorf("answer %d began %s after one of %s, which is sooner than %s", i, pause, before.Took, least)
		}
	}
	if a.Best[end].Subnet != job.Result {
		t.Errorf("the last answer is of %q, the search has ended with %q", a.Best[end].Subnet, job.Result)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = explorertest.Open(t, explorertest.New(), folder)
	again := e.Snapshot()
	if got := again.Answers; got.Prompt != a.Prompt || len(got.Best) != len(a.Best) || got.Best[end] != a.Best[end] || got.Dense != a.Dense {
		t.Errorf("opened again, the answers are %+v", got)
	}
	if again.Ended == nil || again.Ended.Search.Prompt != a.Prompt {
		t.Errorf("the search to resume is %+v", again.Ended)
	}
}

// TestPromptOfASearch changes the prompt of a running search, ends its answers, and refuses what cannot be answered.
func TestPromptOfASearch(t *testing.T) {
	e, _, id := answeringSearch(t, t.TempDir(), "What is a lathe?")
	explorertest.Until(t, e, "an answer", func(s *explorer.Snapshot) bool { return len(s.Answers.Best) > 0 })
	for prompt, want := range map[string]error{strings.Repeat("x", 1001): explorer.ErrInvalid, " \n": explorer.ErrInvalid} {
		if _, err := e.Do(t.Context(), explorertest.Owner, explorer.SetPrompt{Prompt: prompt}); !errors.Is(err, want) {
			t.Errorf("%.10q: %v", prompt, err)
		}
	}
	if _, err := e.Do(t.Context(), explorer.Actor{Name: "vera"}, explorer.SetPrompt{Prompt: "Hi"}); !errors.Is(err, explorer.ErrForbidden) {
		t.Errorf("a viewer: %v", err)
	}
	command(t, e, explorer.SetPrompt{Prompt: "Why is the sky blue?"})
	s := explorertest.Until(t, e, "an answer to the other prompt", func(s *explorer.Snapshot) bool {
		return s.Answers.Prompt == "Why is the sky blue?" && len(s.Answers.Best) > 0
	})
	if s.Answers.Dense.Text == "" || s.Unfinished == nil || s.Unfinished.Search.Prompt != "Why is the sky blue?" {
		t.Errorf("the dense model answers %+v, of the search %+v", s.Answers.Dense, s.Unfinished)
	}
	command(t, e, explorer.SetPrompt{})
	explorertest.Ended(t, e, id)
	if a := e.Snapshot().Answers; a.Prompt != "" || len(a.Best) > 0 || a.Busy {
		t.Errorf("without a prompt: %+v", a)
	}
	if _, err := e.Do(t.Context(), explorertest.Owner, explorer.SetPrompt{Prompt: "Hi"}); !errors.Is(err, explorer.ErrNotFound) {
		t.Errorf("without a search: %v", err)
	}
}

// TestNoAnswer lets the search go on where nothing can answer.
func TestNoAnswer(t *testing.T) {
	b := explorertest.New()
	broken := errors.New("broken")
	b.Pace = func(_ context.Context, unit string) error {
		if unit == "load" {
			return broken
		}
		return nil
	}
	e := explorertest.Open(t, b, t.TempDir())
	explorertest.Do(t, e, explorer.StartSearch{Target: search.Ratio(0.7), Seed: 3, Prompt: "Hi"})
	if a := e.Snapshot().Answers; !strings.Contains(a.Err, "broken") || len(a.Best) > 0 || a.Busy {
		t.Errorf("answers %+v", a)
	}
	b = explorertest.New()
	b.NoRuntime = "no engine runs it"
	e = explorertest.Open(t, b, t.TempDir())
	if _, err := e.Do(t.Context(), explorertest.Owner, explorer.StartSearch{Target: search.Ratio(0.7), Prompt: "Hi"}); !errors.Is(err, explorer.ErrUnsupported) {
		t.Errorf("without an engine: %v", err)
	}
	explorertest.Do(t, e, explorer.StartSearch{Target: search.Ratio(0.7), Budget: explorer.Budget{Evaluations: 20}})
}
