package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/explorer/report"
)

// fitMade is what `fit -o --json` writes.
type fitMade struct {
	Plan   report.FitPlan `json:"plan"`
	Made   *madeResult    `json:"made,omitempty"` // nil where the model itself fits
	Path   string         `json:"path"`
	Bytes  int64          `json:"bytes"`
	Memory int64          `json:"memory_bytes"`
	Speed  float64        `json:"speed,omitempty"` // measured, tokens per second
}

// makes checks the flags of what makes a file.
func makes(memory string, speed float64, adopt bool, out outFlags) error {
	switch {
	case out.path == "" && speed != 0:
		return usage(errors.New("--speed needs -o FILE: without it nothing is measured"))
	case out.path == "":
		return nil
	case memory == "":
		return usage(errors.New("-o: a file is made for --memory; `lathe quantize` and `lathe cut --target` make one for a size"))
	case adopt:
		return usage(errors.New("--adopt and -o: give one of them"))
	}
	return out.check()
}

// fitTries is how often a file is made where the speed of the first is too low.
const fitTries = 3

// planFit plans a file, and measures the speed of the model where one is asked for.
func (a *app) planFit(ctx context.Context, e exploration, asked report.FitAsked) (report.FitPlan, error) {
	s := e.Snapshot()
	p, err := report.PlanFit(s, asked, 0)
	if err != nil {
		return p, fmt.Errorf("--memory: %w", err)
	}
	if asked.Speed == 0 {
		return p, nil
	}
	speed, err := a.speedOf(ctx, e, explorer.DenseID)
	if err != nil {
		return p, err
	}
	if p, err = report.PlanFit(s, asked, speed); err != nil {
		err = fmt.Errorf("--speed: %w", err)
	}
	return p, err
}

// speedOf measures how many tokens a subnet generates per second.
func (a *app) speedOf(ctx context.Context, e exploration, id explorer.SubnetID) (float64, error) {
	receipt, err := e.Do(ctx, a.actor(), explorer.StartBench{Settings: explorer.BenchSettings{Subnets: []explorer.SubnetID{id}, Prompt: []int{32}, Generate: 48, Repeats: 3, GPULayers: -1}})
	if err != nil {
		return 0, err
	}
	if _, err := a.follow(ctx, e, receipt.Job, nil); err != nil {
		return 0, err
	}
	b, _ := e.Snapshot().Bench(receipt.Bench)
	for _, row := range b.Rows {
		if row.Generate > 0 && row.Speed.Mean > 0 {
			return row.Speed.Mean, nil
		}
		if row.Err != "" {
			return 0, errors.New(row.Err)
		}
	}
	return 0, errors.New("the benchmark measured no speed")
}

// fitMake plans, writes the plan, and makes one file within it.
func (a *app) fitMake(ctx context.Context, e exploration, own explorer.Quantize, p report.FitPlan, out outFlags) error {
	expect := func() {
		for _, line := range p.Words() {
			fmt.Fprintln(a.stderr, line)
		}
	}
	if p.Target == "" {
		expect()
		if own.Vocab.On() && !own.Vocab.Auto {
			return a.fitTrimmed(ctx, e, own, p, out)
		}
		x, err := a.export(ctx, e, explorer.DenseID, out)
		if err != nil {
			return err
		}
		return a.fitResult(fitMade{Plan: p, Path: x.Path, Bytes: x.Bytes, Memory: p.Dense, Speed: p.DenseSpeed})
	}
	share := 1.0
	for try := 1; ; try++ {
		began := time.Now()
		c := p.Command(share)
		c.Calibration, c.Seed = own.Calibration, own.Seed
		if own.Name != "" {
			c.Name = own.Name
		}
		receipt, err := e.Do(ctx, a.actor(), c)
		if err != nil {
			return fmt.Errorf("--memory: for what a model of its own takes: %w; the engine needs %s besides", err, format.Bytes(p.Besides()))
		}
		if try == 1 {
			expect()
		}
		job, err := a.follow(ctx, e, receipt.Job, nil)
		if err != nil {
			return err
		}
		s := e.Snapshot()
		n, err := madeBy(s, job)
		if err != nil {
			return err
		}
		r := fitMade{Plan: p, Memory: report.MemoryOf(s.Model, n, p.Context)}
		if p.Speed > 0 {
			if r.Speed, err = a.speedOf(ctx, e, n.ID); err != nil {
				return err
			}
			if r.Speed < p.Speed {
				if try == fitTries {
					return fmt.Errorf("%w: the subnet of %s generates %.1f tokens per second, %.1f are asked for; it stays in the workspace as %s", explorer.ErrUnsupported,
						format.Bytes(n.Bytes), r.Speed, p.Speed, n.ID)
				}
				fmt.Fprintf(a.stderr, "lathe: %s generates %.1f tokens per second: a smaller one is made\n", n.Name, r.Speed)
				share *= 0.98 * r.Speed / p.Speed
				continue
			}
		}
		if err := a.fitWrite(ctx, e, n, out, began, &r); err != nil {
			return err
		}
		return a.fitResult(r)
	}
}

// fitWrite writes the file of a subnet that was made since began, and records both in r.
func (a *app) fitWrite(ctx context.Context, e exploration, n explorer.Subnet, out outFlags, began time.Time, r *fitMade) (err error) {
	made := newMade(e.Snapshot(), n)
	if made.Export, err = a.export(ctx, e, n.ID, out); err != nil {
		return a.keep(ctx, e, n, err)
	}
	made.Seconds = time.Since(began).Seconds()
	r.Made, r.Path, r.Bytes = &made, made.Export.Path, made.Export.Bytes
	return nil
}

// fitTrimmed writes the model itself with a smaller vocabulary.
func (a *app) fitTrimmed(ctx context.Context, e exploration, own explorer.Quantize, p report.FitPlan, out outFlags) error {
	began := time.Now()
	job, err := a.start(ctx, e, explorer.TrimVocab{Subnet: explorer.DenseID, Vocab: own.Vocab, Calibration: own.Calibration, Name: own.Name})
	if err != nil {
		return err
	}
	s := e.Snapshot()
	n, err := madeBy(s, job)
	if err != nil {
		return err
	}
	r := fitMade{Plan: p, Memory: report.MemoryOf(s.Model, n, p.Context)}
	if err := a.fitWrite(ctx, e, n, out, began, &r); err != nil {
		return err
	}
	if p.Speed > 0 {
		if r.Speed, err = a.speedOf(ctx, e, n.ID); err != nil {
			return err
		}
	}
	return a.fitResult(r)
}

// fitResult writes what was made.
func (a *app) fitResult(r fitMade) error {
	return a.result(r, func(w io.Writer) {
		if r.Made != nil {
			r.Made.words(w)
			if r.Plan.Vocab == explorer.AutoTypeName && r.Made.Method.Vocab == nil {
				fmt.Fprintln(w, "all tokens of the vocabulary are kept: dropping some loses more than their bytes gain")
			}
		}
		fmt.Fprintf(w, "%s: %s, %s with %d tokens of context", r.Path, format.Bytes(r.Bytes), format.Bytes(r.Memory), r.Plan.Context)
		if r.Speed > 0 {
			fmt.Fprintf(w, ", %.1f tokens per second", r.Speed)
		}
		fmt.Fprintln(w)
	})
}
