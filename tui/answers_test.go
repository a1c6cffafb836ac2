package tui

import (
	"context"
	"fmt"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/exp/golden"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

// answeredSearch is a search in the middle, each of whose best candidates has answered its prompt.
func answeredSearch(t *testing.T) (*explorertest.Backend, *explorer.Exploration) {
	t.Helper()
	const candidates = 60
	b := explorertest.New()
	var ex *explorer.Exploration
	ready := make(chan struct{})
	b.Pace = func(ctx context.Context, unit string) error {
		if unit != "candidates" {
			return nil
		}
		<-ready
		s, err := ex.Until(ctx, func(s *explorer.Snapshot) bool {
			a, ok := s.Answers.Latest()
			return s.Search.Best == nil || s.Answers.Busy || ok && a.Candidate == s.Search.Best.ID
		})
		if err == nil && s.Search.Best != nil && s.Search.Evaluated >= candidates {
			<-ctx.Done()
			err = ctx.Err()
		}
		return err
	}
	ex = explorertest.Open(t, b, "")
	if _, err := ex.Do(t.Context(), explorertest.Owner, explorer.StartSearch{Target: search.Ratio(0.8), Seed: 1, Prompt: explorer.DefaultPrompt}); err != nil {
		t.Fatal(err)
	}
	close(ready)
	explorertest.Until(t, ex, "the answers, and the search after them", func(s *explorer.Snapshot) bool {
		a, ok := s.Answers.Latest()
		return ok && !s.Answers.Busy && s.Search.Evaluated >= candidates && a.Candidate == s.Search.Best.ID && s.Jobs[0].State == explorer.Running
	})
	return b, ex
}

// TestAnswersOfBestCandidates compares the screen of a search whose best candidates answer a prompt, and changes the prompt.
func TestAnswersOfBestCandidates(t *testing.T) {
	b, ex := answeredSearch(t)
	l := newLoopOver(t, ex, b, 80, 24, nil)
	l.press("esc")
	a := ex.Snapshot().Answers
	if len(a.Best) < 3 {
		t.Fatalf("%d answers", len(a.Best))
	}
	for _, s := range goldenSizes() {
		t.Run(fmt.Sprintf("%dx%d", s[0], s[1]), func(t *testing.T) {
			l.send(tea.WindowSizeMsg{Width: s[0], Height: s[1]})
			if s[0] == 60 {
				l.press("shift+tab", "shift+tab", "shift+tab") // the panes take turns
			}
			golden.RequireEqual(t, l.screen()+"\n")
			if s[0] == 60 {
				l.press("tab", "tab", "tab")
			}
			for _, want := range []string{"answers", explorer.DefaultPrompt, fmt.Sprintf("#%d", a.Best[len(a.Best)-1].Candidate)} {
				if s[0] > 60 && !strings.Contains(l.screen(), want) {
					t.Errorf("%q is not on the screen", want)
				}
			}
		})
	}
	l.press("p", "ctrl+u")
	l.write("Why?")
	l.press("enter")
	l.sees("new best candidates answer: Why?")
	l.until("the other prompt", func() bool { return l.m.snap.Answers.Prompt == "Why?" })
	l.press("esc", "p", "ctrl+u", "enter")
	l.sees("no candidate answers a prompt any more")
	if s := l.screen(); strings.Contains(s, "╭ answers ") {
		t.Errorf("answers of no prompt take room:\n%s", s)
	}
}
