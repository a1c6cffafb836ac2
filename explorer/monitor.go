package explorer

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/explorer/draft"
)

// publishEvery bounds how often progress alone makes a new snapshot.
const publishEvery = 50 * time.Millisecond

// monitor is the Monitor and the Orders of a task.
type monitor struct {
	s *scheduler
	t *task

	mu       sync.Mutex
	began    time.Time     // when the phase that the task is in began
	from     float64       // what was done by then
	stood    time.Duration // time it stood still
	since    time.Time     // when it came to the gate; zero while it computes
	last     time.Time     // when progress was last published
	progress Progress
}

func (m *monitor) Progress(done, total float64, unit, step string) {
	now := m.s.e.now()
	m.mu.Lock()
	p := Progress{Done: done, Total: total, Unit: unit, Step: step}
	if unit != m.progress.Unit || done < m.progress.Done { // another phase: its rate is counted from here
		m.began, m.stood, m.from = now, 0, done
	} else if busy := now.Sub(m.began) - m.stood; busy > 0 && done > m.from {
		p.Rate = (done - m.from) / busy.Seconds()
		if total > done {
			p.Left = time.Duration((total - done) / p.Rate * float64(time.Second))
		}
	}
	news := p.Step != m.progress.Step || p.Unit != m.progress.Unit || (total > 0 && done >= total) || now.Sub(m.last) >= publishEvery
	m.progress = p
	if news {
		m.last = now
	}
	m.mu.Unlock()
	if news {
		m.s.e.job(m.t.id, func(j *Job) { j.Progress = p })
	}
}

func (m *monitor) Layer(l LayerProgress) {
	m.s.e.update(SectionReform, func(s *Snapshot) {
		if s.Reform.Job != m.t.id || l.Layer < 0 || l.Layer >= s.Model.Layers {
			return
		}
		layers := slices.Clone(s.Reform.Layers)
		if len(layers) < s.Model.Layers {
			layers = append(layers, make([]LayerReform, s.Model.Layers-len(layers))...)
		}
		if l.Module == draft.Attention {
			layers[l.Layer].Attention = &l
		} else {
			layers[l.Layer].MLP = &l
		}
		s.Reform.Layers = layers
	})
}

func (m *monitor) Note(text string) { m.s.e.say(Warning, "", text) }

func (m *monitor) Gate(ctx context.Context) error { return m.s.gate(ctx, m) }

// stand shows that the task stands still, or goes on when state is "".
func (m *monitor) stand(state JobState) {
	now := m.s.e.now()
	m.mu.Lock()
	if state != "" && m.since.IsZero() {
		m.since = now
	}
	if state == "" && !m.since.IsZero() {
		m.stood += now.Sub(m.since)
		m.since = time.Time{}
	}
	m.mu.Unlock()
	if state == "" {
		state = Running
	}
	if j, ok := m.s.e.Snapshot().Job(m.t.id); ok && j.State != state {
		m.s.e.job(m.t.id, func(j *Job) { j.State = state })
	}
}

// paused reports whether a person holds the task back.
func (m *monitor) paused() bool {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	return m.t.paused
}

// Publish is Orders.Publish.
func (m *monitor) Publish(search Search) {
	m.s.e.update(SectionSearch, func(s *Snapshot) {
		search.Job = m.t.id
		s.Search = search
	})
}

// Next is Orders.Next.
func (m *monitor) Next() (Order, bool) {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	if len(m.t.orders) == 0 {
		return nil, false
	}
	o := m.t.orders[0]
	m.t.orders = m.t.orders[1:]
	return o, true
}
