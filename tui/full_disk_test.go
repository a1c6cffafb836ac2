package tui

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

// TestSearchShowsWhyItIsPaused has the disk full during a search, and resumes it by its key.
func TestSearchShowsWhyItIsPaused(t *testing.T) {
	l := newLoop(t, 120, 40, nil)
	full := true
	var mu sync.Mutex
	l.b.Write = func() error {
		mu.Lock()
		defer mu.Unlock()
		if full {
			return fmt.Errorf("search: checkpoint: %w", syscall.ENOSPC)
		}
		return nil
	}
	l.press("1")
	if _, err := l.ex.Do(t.Context(), explorertest.Owner, explorer.StartSearch{Target: search.Ratio(0.8), Budget: explorer.Budget{Evaluations: 60}}); err != nil {
		t.Fatal(err)
	}
	l.sees("Paused: search: checkpoint")
	mu.Lock()
	full = false
	mu.Unlock()
	l.press("space")
	l.until("its end", func() bool { return l.m.snap.Unfinished == nil && !strings.Contains(l.screen(), "Paused: search") })
}
