package explorer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/explorer/draft"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/explorer/internal/jobs"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// publishEvery bounds how often progress alone makes a new snapshot.
const publishEvery = 50 * time.Millisecond

// monitor shows a job in snapshots while it runs: it is the scheduler's job, the backend's Monitor and a search's Orders.
type monitor struct {
	e   *Exploration
	id  JobID // set when it is queued
	job Job   // as it is queued
	run func(ctx context.Context, m *monitor) error

	task *jobs.Task // set before run is called

	answers *answering // of a search; set by run, used by Next

	noWait bool          // fail where the disk is full; set by run
	layers []LayerReform // of the re-fit of a search; used by Layer alone

	mu       sync.Mutex
	meter    jobs.Meter
	last     time.Time // when progress was last published
	progress Progress
	phase    Phase
	closing  bool          // the last phase: others that are reported are steps of it
	expected time.Duration // of the whole job, 0 where it is not known
	kept     int           // generation of the search that was written last; used by Publish alone
	unkept   bool          // it could not be written
	step     string        // what goes before the steps that are reported, "" for nothing
	blocked  string        // why the job cannot continue, "" while it can
	orders   []Order
}

var (
	_ jobs.Job = (*monitor)(nil)
	_ Monitor  = (*monitor)(nil)
	_ Orders   = (*monitor)(nil)
)

// start queues a job.
func (e *Exploration) start(l jobs.Lane, j Job, run func(context.Context, *monitor) error) (JobID, error) {
	id, err := e.jobs.Start(l, &monitor{e: e, job: j, run: run})
	return JobID(id), err
}

// order gives an order to the running search.
func (e *Exploration) order(o Order) error {
	m, ok := e.jobs.Running(jobs.Background).(*monitor)
	if !ok {
		return fmt.Errorf("search: %w: none is running", ErrNotFound)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.orders = append(m.orders, o)
	return nil
}

// Queued implements [jobs.Job].
func (m *monitor) Queued(id string) {
	m.id = JobID(id)
	j := m.job
	j.ID, j.State, j.Created = m.id, Queued, m.e.now()
	m.e.update(SectionJobs, func(s *Snapshot) { s.Jobs = arrange(append(slices.Clone(s.Jobs), j)) })
}

// Started implements [jobs.Job].
func (m *monitor) Started() {
	now := m.e.now()
	m.mu.Lock()
	m.meter.Start(now)
	m.mu.Unlock()
	m.show(func(j *Job) { j.State, j.Started = Running, now })
}

// Run implements [jobs.Job].
func (m *monitor) Run(ctx context.Context, t *jobs.Task) error {
	m.task = t
	return m.run(ctx, m)
}

// Held implements [jobs.Job].
func (m *monitor) Held(h jobs.Hold) {
	now := m.e.now()
	m.mu.Lock()
	m.meter.Hold(now, h != jobs.Not)
	m.mu.Unlock()
	m.mu.Lock()
	reason := m.blocked
	m.mu.Unlock()
	state := map[jobs.Hold]JobState{jobs.Not: Running, jobs.Paused: Paused, jobs.Blocked: Paused, jobs.Yielded: Yielded}[h]
	if h == jobs.Not && reason != "" {
		state = Paused // it tries again
	}
	if j, ok := m.e.Snapshot().Job(m.id); ok && (j.State != state || j.Reason != reason) {
		m.show(func(j *Job) { j.State, j.Reason = state, reason })
	}
}

// Ended implements [jobs.Job].
func (m *monitor) Ended(outcome jobs.Outcome, err error) {
	m.show(func(j *Job) {
		j.Ended = m.e.now()
		j.Progress.Left, j.Reason = 0, ""
		switch outcome {
		case jobs.Done:
			j.State = Done
			if j.Progress.Total > 0 {
				j.Progress.Done = j.Progress.Total
			}
		case jobs.Stopped:
			j.State = Stopped
		case jobs.Failed:
			j.State, j.Err, j.Cause = Failed, oneLine(format.Error(err)), err
		}
	})
	if outcome == jobs.Failed {
		m.e.notify(Failure, m.job.Author, fmt.Sprintf("%s failed: %s", m.job.Title, oneLine(format.Error(err))))
	}
}

// Progress implements [Monitor].
func (m *monitor) Progress(done, total float64, unit, step string) {
	now := m.e.now()
	p := Progress{Done: done, Total: total, Unit: unit, Step: step}
	m.mu.Lock()
	if m.step != "" {
		p.Step = strings.TrimSuffix(m.step+", "+step, ", ")
	}
	p.Rate, p.Left = m.meter.Count(now, done, total, unit)
	p.Phase, p.At, p.Spent = m.phase, now, m.meter.Spent(now)
	switch {
	case p.Phase.Left > 0:
		p.Left = max(p.Left, p.Phase.Left)
	case p.Phase.Last():
	case p.Phase.After > 0 && p.Left > 0:
		p.Left += p.Phase.After
	case m.expected-p.Spent > p.Left:
		p.Left = m.expected - p.Spent
	default: // the rate does not include the phases that follow
		p.Left, p.PhaseLeft = 0, p.Left
	}
	news := p.Phase.Number != m.progress.Phase.Number || p.Step != m.progress.Step || p.Unit != m.progress.Unit || (total > 0 && done >= total) || now.Sub(m.last) >= publishEvery
	m.progress = p
	if news {
		m.last = now
	}
	m.mu.Unlock()
	if news {
		m.show(func(j *Job) { j.Progress = p })
	}
}

// name names the part of the job that follows.
func (m *monitor) name(step string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.step = step
}

// Phase implements [Monitor].
func (m *monitor) Phase(p Phase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closing {
		m.phase = p
	}
}

// close begins the last phase of a job that has several.
func (m *monitor) close(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.phase, m.closing = Phase{Number: m.phase.Of, Of: m.phase.Of, Name: name}, true
}

// expect sets how long the job takes as one took that was made alike.
func (m *monitor) expect(c Command) {
	if p, ok := m.e.Snapshot().Precedent(c); ok {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.expected = p.Time + p.Tuning
	}
}

// Layer implements [Monitor].
func (m *monitor) Layer(l LayerProgress) {
	m.e.update(SectionReform, func(s *Snapshot) {
		if l.Layer < 0 || l.Layer >= s.Model.Layers {
			return
		}
		if m.job.Kind == JobSearch { // its last part is a re-fit, which shows itself with the first module, and again where another one came between
			if s.Reform.Job != m.id {
				s.Reform = Reform{Job: m.id, Method: Method{Preset: s.Search.Strategy}}
			}
			s.Reform.Layers = m.layers
		}
		if s.Reform.Job != m.id {
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
		s.Reform.Layers, m.layers = layers, layers
	})
}

// Note implements [Monitor].
func (m *monitor) Note(text string) { m.e.notify(Warning, "", text) }

// Gate implements [Monitor].
func (m *monitor) Gate(ctx context.Context) error { return m.task.Gate(ctx) }

// retryAfter is how soon a write to a full disk is tried again.
const retryAfter = 2 * time.Second

// Persist implements [Monitor].
func (m *monitor) Persist(ctx context.Context, write func() error) error {
	err := write()
	if !durable.IsFull(err) || ctx.Err() != nil || m.noWait {
		return err
	}
	m.Note(fmt.Sprintf("%s is paused until there is room: %s", m.job.Title, format.Error(err)))
	for durable.IsFull(err) {
		m.block(err)
		if blocked := m.task.Block(ctx, retryAfter); blocked != nil {
			m.block(nil)
			return errors.Join(blocked, err)
		}
		err = write()
	}
	m.block(nil)
	m.Held(jobs.Not)
	m.e.notify(Info, "", m.job.Title+" continues: there is room again")
	return err
}

// record records what a job has done, also when it was stopped meanwhile. On a full disk it waits as Persist does.
func (m *monitor) record(ctx context.Context, a Actor, make func(*Snapshot) ([]record, error)) error {
	return m.Persist(ctx, func() error { return m.e.record(context.WithoutCancel(ctx), a, make) })
}

// block records why the job cannot continue, nil once it can. It is shown when the job is held.
func (m *monitor) block(reason error) {
	text := ""
	if reason != nil {
		text = oneLine(format.Error(reason))
	}
	m.mu.Lock()
	m.blocked = text
	m.mu.Unlock()
	m.e.setPaused(text)
}

// Publish implements [Orders].
func (m *monitor) Publish(search Search) {
	if search.Generation != m.kept { // what has been shown outlives the process
		m.kept = search.Generation
		m.keepSearch(search)
	}
	m.e.update(SectionSearch, func(s *Snapshot) {
		search.Job = m.id
		s.Search = search
	})
}

// Prepare implements [Orders].
func (m *monitor) Prepare(module int, p Prepared) {
	m.e.update(SectionSearch, func(s *Snapshot) {
		now := s.Preparation
		if now.Job != m.id {
			now = Preparation{Job: m.id, Modules: make([]Prepared, subnet.Modules*s.Model.Layers)}
		}
		if module < 0 || module >= len(now.Modules) {
			return
		}
		now.Modules = slices.Clone(now.Modules)
		now.Modules[module], now.Last = p, module
		s.Preparation = now
	})
}

// keepSearch writes the search into the workspace. A failure is reported once.
func (m *monitor) keepSearch(s Search) {
	if err := m.e.keepSearch(s); err != nil && !durable.IsFull(err) { // on a full disk the checkpoint pauses the search
		m.unkeptNote(err)
	}
}

func (m *monitor) unkeptNote(err error) {
	if !m.unkept {
		m.unkept = true
		m.Note(fmt.Sprintf("the view of the search could not be written: %v", err))
	}
}

// Next implements [Orders].
func (m *monitor) Next() (Order, bool) {
	var o Order
	m.mu.Lock()
	if len(m.orders) > 0 {
		o, m.orders = m.orders[0], m.orders[1:]
	}
	m.mu.Unlock()
	if m.answers != nil {
		r, ok := o.(Retarget)
		m.answers.measures(ok && r.Target.Timed())
	}
	return o, o != nil
}

// show publishes the job changed by change.
func (m *monitor) show(change func(*Job)) {
	m.e.update(SectionJobs, func(s *Snapshot) {
		i := slices.IndexFunc(s.Jobs, func(j Job) bool { return j.ID == m.id })
		if i < 0 {
			return
		}
		s.Jobs = slices.Clone(s.Jobs)
		change(&s.Jobs[i])
		s.Jobs = arrange(s.Jobs)
	})
}

// arrange orders jobs as the snapshot documents it, and forgets superseded measurements and all but the last few jobs that ended. It owns the
// slice.
func arrange(jobs []Job) []Job {
	const remembered = 20
	rank := func(j Job) int {
		switch {
		case j.State == Queued:
			return 1
		case j.State.Ended():
			return 2
		}
		return 0
	}
	slices.SortStableFunc(jobs, func(a, b Job) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		if a.State.Ended() {
			return b.Ended.Compare(a.Ended)
		}
		return 0
	})
	followed := false // of the measurements that follow the draft, an earlier one that ended is superseded by any later one
	jobs = slices.DeleteFunc(jobs, func(j Job) bool {
		superseded := j.Follows && j.State.Ended() && followed
		followed = followed || j.Follows
		return superseded
	})
	for ended, i := 0, 0; i < len(jobs); i++ {
		if jobs[i].State.Ended() {
			if ended++; ended > remembered {
				return jobs[:i]
			}
		}
	}
	return jobs
}
