package tui

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/explorer"
)

// TestNotesLikeEachOtherTakeOneRow shows one row for messages that differ in numbers alone.
func TestNotesLikeEachOtherTakeOneRow(t *testing.T) {
	l := newLoop(t, 120, 30, nil)
	l.press("esc")
	for layer := range 30 {
		l.m.note(explorer.Warning, fmt.Sprintf("layer %d mlp: 2048 tokens are few for 1152 columns", layer))
	}
	if s := l.screen(); strings.Count(s, "tokens are few") != 1 || !strings.Contains(s, "(29 like it) layer 29 mlp") {
		t.Errorf("thirty warnings:\n%s", s)
	}
	l.press("N")
	if s := l.screen(); !strings.Contains(s, "09:0") || strings.Count(s, "tokens are few") < 5 {
		t.Errorf("the list of messages has not all of them, with times:\n%s", s)
	}
}

// TestNotesFade shows a note until its time is over, and an error until it is dismissed.
func TestNotesFade(t *testing.T) {
	l := newLoop(t, 120, 30, nil)
	l.press("esc")
	l.m.note(explorer.Info, "the first is in the library")
	l.m.note(explorer.Failure, "the disk burns")
	if s := l.screen(); !strings.Contains(s, "in the library") || !strings.Contains(s, "burns") {
		t.Fatalf("notes:\n%s", s)
	}
	l.b.Clock.Advance(11 * time.Second)
	l.send(fadedMsg{})
	if s := l.screen(); strings.Contains(s, "in the library") || !strings.Contains(s, "burns") {
		t.Errorf("eleven seconds later:\n%s", s)
	}
	l.b.Clock.Advance(time.Hour)
	l.send(fadedMsg{})
	l.press("esc")
	if s := l.screen(); strings.Contains(s, "burns") {
		t.Errorf("after esc:\n%s", s)
	}
}
