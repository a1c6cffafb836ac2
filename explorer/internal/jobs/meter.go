package jobs

import "time"

// A Meter computes the rate of a phase of work and the time that is left, pauses taken out. A phase ends when the unit
// changes or the count falls. The zero Meter is ready; it is not safe for concurrent use.
type Meter struct {
	began  time.Time     // when the phase began
	from   float64       // the count at that moment
	paused time.Duration // within the phase
	since  time.Time     // when the job came to its gate; zero while it computes
	unit   string
	done   float64

	started time.Time     // the job, not the phase
	idle    time.Duration // pauses of the job
}

// Start begins to measure.
func (m *Meter) Start(now time.Time) { m.began, m.started = now, now }

// Spent returns how long the job has computed.
func (m *Meter) Spent(now time.Time) time.Duration {
	if m.started.IsZero() {
		return 0
	}
	if !m.since.IsZero() {
		now = m.since
	}
	return now.Sub(m.started) - m.idle
}

// Hold stops the clock, and with held false starts it again.
func (m *Meter) Hold(now time.Time, held bool) {
	switch {
	case held && m.since.IsZero():
		m.since = now
	case !held && !m.since.IsZero():
		m.paused += now.Sub(m.since)
		m.idle += now.Sub(m.since)
		m.since = time.Time{}
	}
}

// Count takes in done of total units, 0 when unknown. rate is in units per second; rate and left are 0 while unknown.
func (m *Meter) Count(now time.Time, done, total float64, unit string) (rate float64, left time.Duration) {
	if unit != m.unit || done < m.done {
		m.began, m.paused, m.from = now, 0, done
	} else if busy := now.Sub(m.began) - m.paused; busy > 0 && done > m.from {
		rate = (done - m.from) / busy.Seconds()
		if total > done {
			left = time.Duration((total - done) / rate * float64(time.Second))
		}
	}
	m.unit, m.done = unit, done
	return rate, left
}
