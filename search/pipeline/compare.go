package pipeline

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lathe-llm/lathe/search"
)

// compare decides between the best subnet found and a one-shot allocation. Levels are fitted on little text, each by itself:
// which of several subnets is best is certain only once they are re-fitted as a whole, on text of the one kind, and scored on
// the other. These re-fits keep the units, use one ridge and a local target: choosing units, trying ridges and compensating
// for upstream error has the same effect on all subnets and takes three quarters of the time. Where there is too little time,
// the best subnet found wins: it is its best one-shot, or better than that by two standard errors.
func (r *run) compare(ctx context.Context, found search.Result) (search.Result, error) {
	if !r.plan.Compare {
		return found, nil
	}
	field, err := r.rivals(found)
	if err != nil || len(field) == 1 {
		return found, err
	}
	text := spread(r.fitting, compareWindows)
	fitness := make([]float64, len(field))
	var took time.Duration
	best := 0
	for i, c := range field {
		began := r.clock.elapsed()
		s, err := r.refitBriefly(ctx, text, c, func(done, total int) {
			r.progress(refitting, float64(i*total+done), float64(len(field)*total), "modules", "comparing the best subnet with a one-shot, both re-fitted")
		})
		if err != nil {
			return found, err
		}
		took += r.clock.elapsed() - began
		if err := r.gate(ctx); err != nil {
			return found, err
		}
		score, err := r.eval.Subnet(ctx, s)
		if err != nil {
			return found, err
		}
		if fitness[i] = score.Fitness; score.Fitness < fitness[best] {
			best = i
		}
	}
	r.pace = calibrated(r.pace, took/time.Duration(len(field)), len(text))
	winner := "best subnet"
	if best > 0 {
		winner = "one-shot"
		found.Best.Candidate = field[best]
	}
	r.Monitor.Note(fmt.Sprintf("re-fitted on %d windows, the best subnet has %s on text it was not fitted to, a one-shot %s: the %s is used",
		len(text), r.formatFitness(fitness[0]), r.formatFitness(fitness[1]), winner))
	return found, nil
}

// rivals returns the best subnet found, followed by the one-shot to compare it with, if there is another.
func (r *run) rivals(found search.Result) ([]search.Candidate, error) {
	field := []search.Candidate{found.Best.Candidate}
	if found.State.Ladder == nil {
		return field, nil
	}
	// The best subnet has beaten the first of two one-shots already, or is that.
	for _, c := range slices.Backward(found.State.Ladder.OneShots) {
		if c.Equal(found.Best.Choice) {
			continue
		}
		masks, err := r.store.Levels().Masks(c)
		if err != nil {
			return nil, err
		}
		return append(field, search.Candidate{Masks: masks, Choice: c}), nil
	}
	return field, nil
}
