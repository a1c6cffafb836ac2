package remote

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// TestWorkerRemembersSearches: a worker that has heard of many searches still hears of those that it knows, and those that have fallen silent make room
// for others. Announcements that it cannot read take no more memory than others.
func TestWorkerRemembersSearches(t *testing.T) {
	w := &worker{
		o: WorkerOptions{Log: func(string) {}}, t: Timing{Silence: time.Hour}, searches: map[string]announced{}, over: map[string]bool{}, wake: make(chan struct{}, 1),
	}
	hear := func(n int, data []byte) string {
		s := validSpec()
		s.Search = fmt.Sprintf("%016x", n)
		if data == nil {
			data = encoded(t, s)
		}
		w.heard(&nats.Msg{Subject: announceSubject(s.Search), Data: data})
		return s.Search
	}
	set := func(at time.Time) {
		for id, a := range w.searches {
			w.searches[id] = announced{a.spec, at}
		}
	}
	for n := range maxSearches {
		hear(n, nil)
	}
	before := time.Now().Add(-time.Minute)
	set(before)
	if id := hear(0, nil); !w.searches[id].at.After(before) {
		t.Error("a search that is known was not heard of again")
	}
	if id := hear(maxSearches, nil); w.searches[id].spec.Search != "" {
		t.Errorf("%d searches are remembered", len(w.searches))
	}
	set(time.Now().Add(-2 * w.t.Silence))
	id := hear(maxSearches, nil)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := w.next(over); err != nil || s.Search != id {
		t.Errorf("works for %q, not for %s: %v", s.Search, id, err)
	}
	for n := range 3 * maxSearches {
		hear(n, []byte("{}"))
	}
	if len(w.over) > maxSearches {
		t.Errorf("%d searches are remembered as over", len(w.over))
	}
}
