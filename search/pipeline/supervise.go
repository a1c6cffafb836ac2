package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/score"
)

const (
	// pollEvery is how often the search is shown and commanded.
	pollEvery = 100 * time.Millisecond
	// maxRetries is how often a search is resumed by itself after an error, such as a full disk, and retryAfter how soon.
	maxRetries = 3
	retryAfter = 10 * time.Second
)

// superviseJob shows the search while it runs, passes commands on and resumes it after errors, until stop is called.
func (r *run) superviseJob(ctx context.Context, job *search.Job) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(ended)
		tick := time.NewTicker(pollEvery)
		defer tick.Stop()
		var shown, heard uint64
		var retries retries
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if r.Command != nil {
				r.Command(ctx, Running{job, r}, r.hold.take)
			}
			s := job.Snapshot()
			if others := r.handedRevision(); s.Revision != shown || others != heard {
				shown, heard = s.Revision, others
				r.show(s)
				r.report(s)
			}
			if errors.Is(s.Err, decoder.ErrMemory) || errors.Is(s.Err, decoder.ErrClosed) { // waiting brings neither back
				r.full = s.Err
				job.Stop()
				return
			}
			switch retries.next(s, time.Now()) {
			case failing:
				r.Monitor.Note(fmt.Sprintf("search: %v: paused, and tried again soon", s.Err))
			case retrying:
				job.Resume()
			case givingUp:
				r.Monitor.Note(fmt.Sprintf("search: %v: the search ends here and keeps what it has found", s.Err))
				job.Stop()
			default: // nothing for the others
			}
		}
	}()
	return func() {
		close(done)
		cancel()
		<-ended
	}
}

// retries decides when a search that an error has paused is resumed.
type retries struct {
	failed time.Time // when the present error was seen, zero without one
	count  int
}

// A retry is the response to an error.
type retry int

const (
	nothing  retry = iota
	failing        // the error is new
	retrying       // resume
	givingUp
)

func (r *retries) next(s *search.Snapshot, now time.Time) retry {
	switch {
	case s.Status != search.Paused || s.Err == nil:
		r.failed = time.Time{}
	case r.failed.IsZero():
		r.failed = now
		if r.count++; r.count > maxRetries {
			return givingUp
		}
		return failing
	case now.Sub(r.failed) > retryAfter:
		return retrying
	}
	return nothing
}

// show passes a snapshot on.
func (r *run) show(s *search.Snapshot) {
	if r.Show != nil {
		v := View{Snapshot: s, Strategy: r.Strategy, Fitness: r.eval.Fitness(), DensePerplexity: r.dense, Reused: r.eval.Reused(), Plain: r.plain, BytesPerToken: r.bytesPerToken}
		if r.store != nil {
			v.LevelsBytes = r.store.Bytes()
		}
		r.Show(v)
	}
}

// report reports the progress of the search in the unit of its budget.
func (r *run) report(s *search.Snapshot) {
	step := fmt.Sprintf("generation %d, %d candidates", s.State.Generation, s.Spent.Evaluations)
	if best, ok := s.Best(); ok {
		step += ", " + r.formatFitness(best.Score.Fitness)
	}
	switch b := r.Budget; {
	case b.Tokens > 0:
		r.progress(searching, float64(min(s.Spent.Tokens, b.Tokens)), float64(b.Tokens), "tokens", step)
	case b.Evaluations > 0:
		r.progress(searching, float64(min(s.Spent.Evaluations, b.Evaluations)), float64(b.Evaluations), "candidates", step)
	case b.Time > 0:
		r.progress(searching, min(s.Elapsed, r.plan.Search).Seconds(), r.plan.Search.Seconds(), "seconds", step)
	default:
		r.progress(searching, float64(s.Spent.Evaluations), 0, "candidates", step)
	}
}

// progress reports the progress of a phase.
func (r *run) progress(phase int, done, total float64, unit, step string) {
	r.enter(phase)
	r.Monitor.Progress(done, total, unit, step)
}

// enter reports a phase, and the time that is left.
func (r *run) enter(phase int) {
	if r.Phase == nil {
		return
	}
	p := Phase{Number: phase + 1, Of: refitting + 1, Name: [...]string{"levels", "sensitivity", "search", "re-fit"}[phase]}
	if r.strategy != nil && !r.strategy.UsesLevels() {
		p.Number, p.Of = max(phase-searching, 0)+1, 2
		if phase < searching {
			p.Name = "search"
		}
	}
	if r.Budget.Time > 0 && !r.Resume { // the limit of a resumed run includes time of earlier ones
		p.Left = max(r.Budget.Time-r.clock.elapsed(), 0)
	}
	if phase == searching {
		p.After = r.plan.after(r.pace)
	}
	r.Phase(p)
}

// formatFitness formats a fitness for people: a divergence, or the perplexity of a negative log-likelihood.
func (r *run) formatFitness(v float64) string {
	if r.eval.Fitness() == score.Perplexity {
		return fmt.Sprintf("perplexity %.2f", math.Exp(v))
	}
	return fmt.Sprintf("KL %.4f", v)
}
