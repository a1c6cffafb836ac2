package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/quality"
)

// taskScores are the results of zero-shot tasks. nil is none.
type taskScores struct {
	Results []quality.EvalResult `json:"results"`
	Mean    float64              `json:"mean"` // of the accuracies that tables show
	MeanErr float64              `json:"mean_stderr"`
}

func newTaskScores(results []quality.EvalResult) *taskScores {
	s := &taskScores{Results: results}
	squares := 0.0
	for _, r := range results {
		acc, err := shownAccuracy(r)
		s.Mean, squares = s.Mean+acc/float64(len(results)), squares+err*err
	}
	s.MeanErr = math.Sqrt(squares) / float64(len(results))
	return s
}

// shownAccuracy is the one of a task's accuracies that tables show and that the mean is of: per character where the task has it.
func shownAccuracy(r quality.EvalResult) (acc, err float64) {
	if r.AccNorm != nil {
		return *r.AccNorm, *r.AccNormErr
	}
	return r.Acc, r.AccErr
}

func (s *taskScores) list() []quality.EvalResult {
	if s == nil {
		return nil
	}
	return s.Results
}

// columns are the heads of cells.
func (s *taskScores) columns() []string {
	var names []string
	for _, r := range s.list() {
		name := r.Task
		if r.AccNorm != nil {
			name += " (norm)"
		}
		names = append(names, name)
	}
	if len(names) > 1 {
		names = append(names, "mean")
	}
	return names
}

// cells are the accuracies in percent.
func (s *taskScores) cells() []string {
	var cells []string
	percent := func(acc, err float64) string { return fmt.Sprintf("%.1f ±%.1f", 100*acc, 100*err) }
	for _, r := range s.list() {
		cells = append(cells, percent(shownAccuracy(r)))
	}
	if len(cells) > 1 {
		cells = append(cells, percent(s.Mean, s.MeanErr))
	}
	return cells
}

// questions describes how many questions were asked.
func (s *taskScores) questions() string {
	least, most := s.Results[0].Questions, s.Results[0].Questions
	for _, r := range s.Results {
		least, most = min(least, r.Questions), max(most, r.Questions)
	}
	if least == most {
		return format.Counted(least, "question") + " each"
	}
	return fmt.Sprintf("%d to %d questions", least, most)
}

// csv are the numbers of one row.
func (s *taskScores) csv(number func(float64) string) []string {
	var cells []string
	for _, r := range s.list() {
		cells = append(cells, number(r.Acc), number(r.AccErr))
		if r.AccNorm == nil {
			cells = append(cells, "", "")
			continue
		}
		cells = append(cells, number(*r.AccNorm), number(*r.AccNormErr))
	}
	if s != nil {
		cells = append(cells, number(s.Mean), number(s.MeanErr))
	}
	return cells
}

// tasksOf evaluates a subnet on the tasks, by way of a temporary file. The dense model is its own file, unless another type is asked for.
func (a *app) tasksOf(ctx context.Context, e exploration, id explorer.SubnetID, f compareFlags) (_ *taskScores, err error) {
	if len(f.opened) == 0 {
		return nil, nil
	}
	model := e.Snapshot().Model.Path
	path := model
	if id != explorer.DenseID || f.test.Type != "" {
		dir, failed := a.scratch("compare")
		if failed != nil {
			return nil, failed
		}
		defer func() { err = errors.Join(err, dir.Remove()) }()
		path = dir.Join("subnet.gguf")
		if _, err := a.start(ctx, e, explorer.Export{Subnet: id, Path: path, Type: f.test.Type}); err != nil {
			return nil, err
		}
	}
	results, err := a.evaluate(ctx, model, path, f.opened, quality.EvalOptions{Limit: f.limit})
	if err != nil {
		return nil, err
	}
	return newTaskScores(results), nil
}
