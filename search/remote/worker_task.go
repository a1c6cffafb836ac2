package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lathe-llm/lathe/search"
)

// fetchWait is how long one request for a task waits for one.
const fetchWait = 2 * time.Second

// work takes tasks until the search is over or the worker is drained.
func (w *worker) work(ctx context.Context, s Spec, scorer Scorer) error {
	results, err := w.js.Stream(ctx, resultsName(s.Search))
	if err != nil {
		return err
	}
	w.o.Log(fmt.Sprintf("works for search %s", s.Search))
	w.report(func(s *Worker) {
		if s.State != Draining {
			s.State = Idle
		}
	})
	if h := w.held; h != nil {
		w.held = nil
		w.task(ctx, s, scorer, results, h.m)
		h.release()
	}
	var queue jetstream.Consumer
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if w.draining() {
			return errDrained
		}
		if w.isPast(s) {
			return errPhase
		}
		if queue == nil {
			if queue, err = w.js.Consumer(ctx, tasksName(s.Search), consumerName); err != nil {
				queue = nil // the server is away, or has lost the stream, which the search makes again
				if pause(ctx, 200*time.Millisecond) != nil {
					return ctx.Err()
				}
				continue
			}
		}
		batch, err := queue.Fetch(1, jetstream.FetchMaxWait(fetchWait))
		if err != nil {
			queue = nil
			continue
		}
		for m := range batch.Messages() {
			w.task(ctx, s, scorer, results, m)
		}
		if w.held != nil {
			return errPhase
		}
		if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, jetstream.ErrNoMessages) {
			queue = nil
			if pause(ctx, 200*time.Millisecond) != nil {
				return ctx.Err()
			}
		}
	}
}

func (w *worker) draining() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.State == Draining
}

// task scores the candidates of a task, or does its piece of work. One of a phase that follows is held until then.
func (w *worker) task(ctx context.Context, s Spec, scorer Scorer, results jetstream.Stream, m jetstream.Msg) {
	t, err := decodeTask(m.Data())
	if err == nil && t.Phase > s.Phase {
		w.held = &held{m, t.Phase, w.beat(context.WithoutCancel(ctx), m)}
		return
	}
	if err == nil && t.Phase < s.Phase {
		_ = m.Term() // nobody waits for it
		return
	}
	var candidates []search.Candidate
	if err == nil && t.Piece == nil && s.Fitness == "" {
		err = fmt.Errorf("%w: candidates, and the search has none", errMessage)
	}
	if err == nil && t.Piece == nil {
		candidates, err = t.candidates(scorer.Geometry(), scorer.Levels())
	}
	if err != nil {
		w.o.Log(err.Error())
		w.report(func(s *Worker) { s.Failed, s.Error = s.Failed+1, line(err.Error()) })
		_ = m.TermWithReason(line(err.Error())) // the search finds that it is gone
		return
	}
	stop := w.beat(ctx, m)
	defer stop()
	doing := "candidates"
	if t.Piece != nil {
		doing = t.Piece.Kind
	}
	w.report(func(s *Worker) {
		s.Doing = doing
		if s.State != Draining {
			s.State = Scoring
		}
	})
	defer w.report(func(s *Worker) {
		if s.State != Draining {
			s.State = Idle
		}
	})
	if t.Piece != nil {
		w.piece(ctx, s, scorer, *t.Piece, m)
		return
	}
	w.scoreAll(ctx, s, t, candidates, scorer, results, m)
}

// scoreAll scores the candidates of a task and acknowledges it, unless it is to be delivered again.
func (w *worker) scoreAll(ctx context.Context, s Spec, t task, candidates []search.Candidate, scorer Scorer, results jetstream.Stream, m jetstream.Msg) {
	again := true
	if meta, err := m.Metadata(); err == nil {
		again = meta.NumDelivered > 1
	}
	var pending []jetstream.PubAckFuture
	for i, c := range candidates {
		key := keyOf(s.identity(), c, t.Tier)
		if again {
			if _, err := results.GetLastMsgForSubject(ctx, resultSubject(s.Search, key)); err == nil {
				continue // whoever had the task before
			}
		}
		score, err := w.score(ctx, s, t, i, c, scorer)
		if ctx.Err() != nil {
			_ = m.Nak() // to another worker, at once
			return
		}
		if err != nil {
			w.fail(s, key, err)
			continue
		}
		future, err := w.publish(s, key, score)
		if err != nil {
			return // the task is delivered again
		}
		pending = append(pending, future)
	}
	for _, p := range pending {
		select {
		case <-p.Ok():
		case err := <-p.Err(): // what led the stream has gone, perhaps without having stored it
			if err != nil && w.keep(ctx, p.Msg().Subject, p.Msg().Data) != nil {
				return // the same
			}
		case <-ctx.Done():
			return
		}
	}
	_ = m.DoubleAck(ctx) // the same
}

// score scores one candidate and measures how long it takes.
func (w *worker) score(ctx context.Context, s Spec, t task, i int, c search.Candidate, scorer Scorer) (search.Score, error) {
	if n := t.Candidates[i].Base; n > 0 && t.Bases[n-1].File != nil {
		path, err := w.o.Files.get(ctx, w.o.Conn, w.js, s.Search, *t.Bases[n-1].File, func(int64) {})
		if err == nil {
			err = scorer.AddBase(t.Bases[n-1].Weights, path)
		}
		if err != nil {
			return search.Score{}, err
		}
	}
	began := time.Now()
	var got *search.Score
	err := scorer.Evaluate(ctx, []search.Candidate{c}, t.Tier, func(_ int, s search.Score) { got = &s })
	if err == nil && got == nil {
		err = errors.New("the evaluator left out the candidate")
	}
	if err != nil {
		return search.Score{}, err
	}
	w.took(time.Since(began), scorer)
	return *got, nil
}

// took counts something that was done.
func (w *worker) took(d time.Duration, scorer Scorer) {
	const weight = 0.2 // of the newest in the mean
	seconds := d.Seconds()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state.Seconds > 0 {
		seconds = (1-weight)*w.state.Seconds + weight*seconds
	}
	w.state.Seconds, w.state.Reused = seconds, scorer.Reused()
	w.state.Scored++
}

// publishTries is how often a result is published, each time for the connection's timeout, before its task is left to be delivered again.
const publishTries = 5

// keep publishes a result until the server has stored it.
func (w *worker) keep(ctx context.Context, subject string, data []byte) error {
	for tries := 1; ; tries++ {
		_, err := w.js.Publish(ctx, subject, data)
		if err == nil || ctx.Err() != nil || tries == publishTries {
			return err
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
}

// publish publishes a score without waiting until it is stored.
func (w *worker) publish(s Spec, key string, score search.Score) (jetstream.PubAckFuture, error) {
	data, err := json.Marshal(newResult(w.o.ID, score))
	if err != nil {
		return nil, err
	}
	return w.js.PublishAsync(resultSubject(s.Search, key), data)
}

// fail reports that a candidate could not be scored, or a piece of work not be done.
func (w *worker) fail(s Spec, key string, err error) {
	w.o.Log(fmt.Sprintf("task %.8s: %v", key, err))
	w.report(func(s *Worker) { s.Failed, s.Error = s.Failed+1, line(err.Error()) })
	if data, err := json.Marshal(failure{w.o.ID, key, line(err.Error())}); err == nil {
		_ = w.o.Conn.Publish(failedSubject(s.Search), data) // lost, the candidate is handed out again
	}
}

// beat reports to the server that a task is under way, until stop is called.
func (w *worker) beat(ctx context.Context, m jetstream.Msg) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var beats sync.WaitGroup
	beats.Go(func() {
		for pause(ctx, w.t.Heartbeat) == nil {
			_ = m.InProgress() // the next follows
		}
	})
	return func() {
		cancel()
		beats.Wait()
	}
}
