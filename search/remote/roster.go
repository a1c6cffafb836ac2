package remote

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// maxRoster bounds how many workers are listed.
const maxRoster = 4096

// roster is what the workers of a search have reported.
type roster struct {
	lost time.Duration // after which a worker that is not heard of is lost
	now  func() time.Time

	mu   sync.Mutex
	list map[string]listed
}

type listed struct {
	Worker
	at time.Time
}

func newRoster(lost time.Duration, now func() time.Time) *roster {
	return &roster{lost: lost, now: now, list: map[string]listed{}}
}

// heard records a report, and returns what was known before.
func (r *roster) heard(w Worker) (before Worker, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, known := r.list[w.ID]
	if !known && len(r.list) >= maxRoster {
		return Worker{}, true
	}
	r.list[w.ID] = listed{w, r.now()}
	return old.Worker, known
}

// workers lists the workers by their identities.
func (r *roster) workers() []Worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Worker, 0, len(r.list))
	for _, l := range r.list {
		w := l.Worker
		if w.State != Gone && w.State != Refused && r.now().Sub(l.at) > r.lost {
			w.State = Lost
		}
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b Worker) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// crew is what the distribution of tasks depends on.
type crew struct {
	ready, idle int     // workers that take tasks, and those of them that have none
	seconds     float64 // per candidate, the mean of those who know it; 0 if nobody does
}

func (r *roster) crew() crew {
	var c crew
	known := 0
	for _, w := range r.workers() {
		if w.State != Idle && w.State != Scoring {
			continue
		}
		c.ready++
		if w.State == Idle {
			c.idle++
		}
		if w.Seconds > 0 {
			known++
			c.seconds += w.Seconds
		}
	}
	c.seconds /= float64(max(1, known))
	return c
}

// Limits of the size of tasks.
const (
	taskSeconds = 4 // of work in a task
	taskAhead   = 2 // tasks for each worker: one that it scores, one that waits for it
)

// batchSize returns how many of the candidates left the next task has: about taskSeconds of work, and near the end so few that all
// workers have some.
func (c crew) batchSize(left int) int {
	workers := max(1, c.ready)
	n := 1
	if c.seconds > 0 {
		n = int(min(taskSeconds/c.seconds, maxCandidates))
	}
	share := (left + taskAhead*workers - 1) / (taskAhead * workers)
	return max(1, min(n, share, left, maxCandidates))
}
