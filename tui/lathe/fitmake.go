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
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// fitPlan is what `fit -o` expects before it makes a file.
type fitPlan struct {
	Limit      int64   `json:"limit_bytes"`
	Context    int     `json:"context"`
	Working    int64   `json:"working_bytes"` // of the engine besides weights and KV cache
	Dense      int64   `json:"dense_bytes"`   // that the dense model needs
	Room       int64   `json:"room_bytes"`    // for weights and KV cache
	Speed      float64 `json:"speed,omitempty"`
	DenseSpeed float64 `json:"dense_speed,omitempty"` // measured, tokens per second
	Target     string  `json:"target,omitempty"`      // "" where the model itself fits
}

// fitMade is what `fit -o --json` writes.
type fitMade struct {
	Plan   fitPlan     `json:"plan"`
	Made   *madeResult `json:"made,omitempty"` // nil where the model itself fits
	Path   string      `json:"path"`
	Bytes  int64       `json:"bytes"`
	Memory int64       `json:"memory_bytes"`
	Speed  float64     `json:"speed,omitempty"` // measured, tokens per second
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

// leastWeights is the share of the weights below which no subnet is tried for a speed.
const leastWeights = 0.02

// fitTries is how often a file is made where the speed of the first is too low.
const fitTries = 3

// planFit plans a file for a memory, a context and a speed, 0 for any.
func (a *app) planFit(ctx context.Context, e exploration, limit int64, tokens int, speed float64) (fitPlan, error) {
	s := e.Snapshot()
	if limit <= 0 || tokens <= 0 || speed < 0 {
		return fitPlan{}, usage(fmt.Errorf("%d bytes of memory, %d tokens of context, %g tokens per second", limit, tokens, speed))
	}
	dense := subnet.Dense(s.Model.Geometry)
	p := fitPlan{Limit: limit, Context: tokens, Speed: speed, Working: report.WorkingBytes(s.Model), Dense: report.MemoryFor(s.Model, dense, tokens)}
	if p.Room = limit - p.Working; p.Room <= 0 {
		return p, usage(fmt.Errorf("--memory: the engine needs %s besides weights and KV cache, more than %s", format.Bytes(p.Working), format.Bytes(limit)))
	}
	weights, cache := s.Model.FileSize(dense, "").Tensors, dense.Size().KVBytes(tokens)
	if speed > 0 {
		var err error
		if p.DenseSpeed, err = a.speedOf(ctx, e, explorer.DenseID); err != nil {
			return p, err
		}
		if p.DenseSpeed < speed { // generating a token reads all weights once
			allowed := float64(weights) * p.DenseSpeed / speed
			if allowed < leastWeights*float64(weights) {
				return p, usage(fmt.Errorf("--speed: the model generates %.1f tokens per second; for %g its weights may take %s of %s, less than any subnet", p.DenseSpeed, speed,
					format.Bytes(int64(allowed)), format.Bytes(weights)))
			}
			p.Room = min(p.Room, int64(allowed)+cache)
		}
	}
	if p.Room < weights+cache {
		p.Target = search.Target{Measure: search.Memory, Value: float64(p.Room), Context: tokens}.Text()
	}
	return p, nil
}

// words writes what is expected.
func (p fitPlan) words(w io.Writer) {
	fmt.Fprintf(w, "the model needs %s with %d tokens of context, of which the engine takes %s besides weights and KV cache; %s are allowed\n",
		format.Bytes(p.Dense), p.Context, format.Bytes(p.Working), format.Bytes(p.Limit))
	if p.DenseSpeed > 0 {
		fmt.Fprintf(w, "it generates %.1f tokens per second here; %.1f are asked for\n", p.DenseSpeed, p.Speed)
	}
	if p.Target == "" {
		fmt.Fprintln(w, "expected: the model itself fits and is written as it is")
		return
	}
	fmt.Fprintf(w, "expected: widths and types are chosen for %s of weights and KV cache, %.0f %% of what they take now; that measures what cuts and types\n"+
		"cost, re-fits once, and takes some minutes for each 100 million parameters on two cores\n", format.Bytes(p.Room), 100*float64(p.Room)/float64(p.Dense-p.Working))
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
func (a *app) fitMake(ctx context.Context, e exploration, c explorer.Quantize, p fitPlan, out outFlags) error {
	if p.Target == "" {
		p.words(a.stderr)
		x, err := a.export(ctx, e, explorer.DenseID, out)
		if err != nil {
			return err
		}
		return a.fitResult(fitMade{Plan: p, Path: x.Path, Bytes: x.Bytes, Memory: p.Dense, Speed: p.DenseSpeed})
	}
	room := float64(p.Room)
	for try := 1; ; try++ {
		began := time.Now()
		c.Target = search.Target{Measure: search.Memory, Value: room, Context: p.Context}
		receipt, err := e.Do(ctx, a.actor(), c)
		if err != nil {
			return fmt.Errorf("--memory: for weights and KV cache: %w; the engine needs %s besides", err, format.Bytes(p.Working))
		}
		if try == 1 {
			p.words(a.stderr)
		}
		job, err := a.follow(ctx, e, receipt.Job, nil)
		if err != nil {
			return err
		}
		s := e.Snapshot()
		n, ok := s.Subnet(job.Result)
		if !ok {
			return fmt.Errorf("%s made no subnet", job.Title)
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
				room *= 0.98 * r.Speed / p.Speed
				continue
			}
		}
		made := newMade(s, n)
		if made.Export, err = a.export(ctx, e, n.ID, out); err != nil {
			return a.keep(ctx, e, n, err)
		}
		made.Seconds = time.Since(began).Seconds()
		r.Made, r.Path, r.Bytes = &made, made.Export.Path, made.Export.Bytes
		return a.fitResult(r)
	}
}

// fitResult writes what was made.
func (a *app) fitResult(r fitMade) error {
	return a.result(r, func(w io.Writer) {
		if r.Made != nil {
			r.Made.words(w)
		}
		fmt.Fprintf(w, "%s: %s, %s with %d tokens of context", r.Path, format.Bytes(r.Bytes), format.Bytes(r.Memory), r.Plan.Context)
		if r.Speed > 0 {
			fmt.Fprintf(w, ", %.1f tokens per second", r.Speed)
		}
		fmt.Fprintln(w)
	})
}
