package remote

import (
	"testing"
	"time"
)

// TestBatchSize checks how many candidates a task has.
func TestBatchSize(t *testing.T) {
	for _, test := range []struct {
		name string
		c    crew
		left int
		want int
	}{
		{"nobody has measured a speed", crew{ready: 2}, 100, 1},
		{"slow candidates go alone", crew{ready: 2, seconds: 10}, 100, 1},
		{"four seconds of work", crew{ready: 2, seconds: 0.5}, 100, 8},
		{"near the end everybody has some", crew{ready: 2, seconds: 0.01}, 16, 4},
		{"fewer candidates than workers", crew{ready: 8, seconds: 0.01}, 3, 1},
		{"no worker yet", crew{}, 10, 1},
		{"as many as a task may have", crew{ready: 1, seconds: 1e-6}, 10000, maxCandidates},
	} {
		if got := test.c.batchSize(test.left); got != test.want {
			t.Errorf("%s: %d candidates, want %d", test.name, got, test.want)
		}
	}
}

// TestRoster lists workers, those that are not heard of as lost, and takes the mean speed of those that work.
func TestRoster(t *testing.T) {
	now := time.Unix(0, 0)
	r := newRoster(time.Minute, func() time.Time { return now })
	for _, w := range []Worker{{ID: "b", State: Scoring, Seconds: 2}, {ID: "a", State: Idle, Seconds: 4}, {ID: "c", State: Gone, Seconds: 100}} {
		r.heard(w)
	}
	if c := r.crew(); c != (crew{ready: 2, idle: 1, seconds: 3}) {
		t.Errorf("crew %+v", c)
	}
	now = now.Add(time.Hour)
	r.heard(Worker{ID: "b", State: Idle, Seconds: 1})
	if c := r.crew(); c != (crew{ready: 1, idle: 1, seconds: 1}) {
		t.Errorf("crew %+v", c)
	}
	if all := r.workers(); len(all) != 3 || all[0].State != Lost || all[1].State != Idle || all[2].State != Gone {
		t.Errorf("workers %+v", all)
	}
	for i := range 2 * maxRoster {
		r.heard(Worker{ID: string(rune('d' + i)), State: Idle})
	}
	if n := len(r.workers()); n != maxRoster {
		t.Errorf("%d workers are listed", n)
	}
}
