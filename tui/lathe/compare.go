package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
)

// compareResult is what `compare --json` writes.
type compareResult struct {
	Model     string                `json:"model"`
	Dense     explorer.Measurement  `json:"dense"`                // on the first text
	DenseAlso *explorer.Measurement `json:"dense_also,omitempty"` // on the second text
	Texts     []compareText         `json:"texts"`
	Tasks     *taskScores           `json:"tasks,omitempty"` // of the dense model
	Rows      []compareRow          `json:"rows"`
	Medians   []compareGroup        `json:"medians,omitempty"`   // over several seeds
	Published *publishedModel       `json:"published,omitempty"` // of a protocol, for the model
	Figure    string                `json:"figure,omitempty"`    // the file of --svg
	// Interrupted is whether rows are missing.
	Interrupted bool `json:"interrupted,omitempty"`
}

// compareText is a text with the dense model's measurement.
type compareText struct {
	Name  string               `json:"name"`
	Dense explorer.Measurement `json:"dense"`
}

// compareRow is one method at one ratio.
type compareRow struct {
	Method     string  `json:"method"`
	Ratio      float64 `json:"ratio"` // requested
	Share      float64 `json:"share"` // reached
	KVBytes    int64   `json:"kv_bytes_per_token"`
	Perplexity float64 `json:"perplexity"` // on the first text
	Relative   float64 `json:"relative"`   // to dense
	Seconds    float64 `json:"seconds"`    // to make it
	Bytes      int64   `json:"bytes"`
	// On the second text, if one was given.
	AlsoPerplexity float64     `json:"also_perplexity,omitempty"`
	AlsoRelative   float64     `json:"also_relative,omitempty"`
	On             []compareOn `json:"on,omitempty"`
	Tuned          bool        `json:"tuned,omitempty"` // by --tune
	Seed           uint64      `json:"seed,omitempty"`  // of several
	Kept           string      `json:"kept,omitempty"`  // the weights that were kept because the re-fit was worse on held-out text
	Tasks          *taskScores `json:"tasks,omitempty"` // of --task
	Err            string      `json:"error,omitempty"`
}

// name is the method as tables have it.
func (r compareRow) name() string {
	if r.Tuned {
		return r.Method + " tuned"
	}
	return r.Method
}

// compareOn is the measurement of a subnet on one text.
type compareOn struct {
	Text          string             `json:"text"` // its name
	Perplexity    float64            `json:"perplexity"`
	StandardError float64            `json:"standard_error,omitempty"`
	Relative      float64            `json:"relative"`
	Distance      *explorer.Distance `json:"distance,omitempty"` // from the dense model
}

func (a *app) compareCommand() *cobra.Command {
	var f compareFlags
	cmd := &cobra.Command{
		Use:   "compare [MODEL]",
		Short: "Compare one-shot methods and searches under equal conditions",
		Long: "Cuts the model with each method to each ratio, with the same calibration text and the same definition of the ratio, and\n" +
			"measures each result on one test text or several: perplexity, divergence from the dense model (KL, nats per token) and the\n" +
			"share of tokens where both find the same token most likely, with standard errors. Calibration helps most on text of its own\n" +
			"kind; test texts of other kinds show how much of that remains on them.\n\n" +
			"Methods are those of cut, and searches: search, or search:STRATEGY, each with --budget. --tune adds a row for each result after tuning.\n" +
			"--task adds zero-shot tasks, as lathe zeroshot takes them. With two ratios or more, charts show loss against ratio; --svg writes them to a file.\n\n" +
			"With workers, several subnets are measured on texts at the same time; this process makes them, one after another, and evaluates tasks.\n\n" +
			protocolHelp,
		Example: "  lathe compare --ratios 0.8,0.6 --methods flap,obs,allocated --test wiki.test.raw --test-windows 4\n" +
			"  lathe compare --ratios 0.8 --test wiki=wiki.test.raw --test web=web.txt --test code=src/ --format csv\n" +
			"  lathe compare --ratios 0.9,0.8,0.7 --methods allocated,search:ladder,search:paper-laptop --budget 20m --tune 40steps --svg loss.svg\n" +
			"  lathe compare --ratios 0.8 --methods allocated --task piqa --task arc_easy=test.parquet --limit 500\n" +
			"  lathe compare --ratios 0.8,0.6 --test wiki.test.raw --workers 2\n" +
			"  lathe compare llama-7b.gguf --protocol paper",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (failed error) {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			f.choose(cmd)
			ratios, err := f.check()
			if err != nil {
				return err
			}
			if f.opened, err = a.openTasks(cmd.Context(), f.tasks); err != nil {
				return err
			}
			remove, err := a.protocolTexts(cmd, &f)
			if err != nil {
				return err
			}
			defer func() { failed = errors.Join(failed, remove()) }()
			return a.with(cmd.Context(), model, inMemory, func(e exploration) error {
				r, err := a.compare(cmd.Context(), e, strings.Split(f.methods, ","), ratios, f)
				if r.Interrupted = cmd.Context().Err() != nil && len(r.Rows) > 0; err != nil && !r.Interrupted {
					return err
				}
				if f.seeds > 1 {
					r.Medians = r.groups()
				}
				if f.svg != "" {
					if err := r.writeFigure(f.svg); err != nil {
						return output{fmt.Errorf("--svg %s: %w", f.svg, err)}
					}
					r.Figure = f.svg
				}
				if f.format == "csv" && !a.json {
					return errors.Join(err, r.csv(a.stdout))
				}
				return errors.Join(err, a.result(r, r.words))
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) compare(ctx context.Context, e exploration, methods []string, ratios []float64, f compareFlags) (compareResult, error) {
	if len(f.texts.list) == 0 || f.texts.list[0].name == "also" && len(f.texts.list) == 1 {
		f.texts.list = append([]testText{{name: "default text"}}, f.texts.list...)
	}
	info := e.Snapshot().Model
	r := compareResult{Model: info.Path}
	if f.protocol == protocolPaper {
		r.Published = publishedFor(info.Geometry)
	}
	if len(f.opened) > 0 {
		if err := info.Runs(); err != nil {
			return r, fmt.Errorf("--task: %w", err)
		}
	}
	for i, t := range f.texts.list {
		c := f.test
		c.Text = t.path
		dense, err := a.measure(ctx, e, explorer.DenseID, c)
		if err != nil {
			return r, err
		}
		switch i {
		case 0:
			r.Dense = dense
		case 1:
			r.DenseAlso = &dense
		}
		r.Texts = append(r.Texts, compareText{t.name, dense})
	}
	var err error
	if r.Tasks, err = a.tasksOf(ctx, e, explorer.DenseID, f); err != nil {
		return r, err
	}
	var made []explorer.SubnetID
	for _, method := range methods {
		for _, ratio := range ratios {
			for k := range f.seeds {
				of := f
				of.cut.Seed += uint64(k)
				rows, ids := a.compareMake(ctx, e, method, ratio, of)
				for i := range rows {
					if f.seeds > 1 {
						rows[i].Seed = of.cut.Seed
					}
					if ctx.Err() == nil && rows[i].Err == "" && !f.on.On() {
						a.compareOn(ctx, e, &rows[i], ids[i], of, nil)
					}
				}
				if ctx.Err() != nil {
					return r, ctx.Err()
				}
				r.Rows, made = append(r.Rows, rows...), append(made, ids...)
			}
		}
	}
	if f.on.On() {
		return r, a.compareElsewhere(ctx, e, r, made, f)
	}
	return r, nil
}

// compareElsewhere has subnets measured by workers.
func (a *app) compareElsewhere(ctx context.Context, e exploration, r compareResult, made []explorer.SubnetID, f compareFlags) error {
	all := explorer.MeasureAll{Machines: f.on}
	for i, id := range made {
		if r.Rows[i].Err != "" {
			continue
		}
		for _, t := range f.texts.list {
			of := f.measure(t)
			of.Subnet = id
			all.Of = append(all.Of, of)
		}
	}
	if len(all.Of) == 0 {
		return nil
	}
	if _, err := a.start(ctx, e, all); err != nil {
		if ctx.Err() != nil || len(e.Snapshot().Subnets) == 0 {
			return err
		}
		a.note("workers: %v; what they have not measured is measured here", err)
	}
	for i, id := range made {
		if r.Rows[i].Err != "" {
			continue
		}
		a.compareOn(ctx, e, &r.Rows[i], id, f, r.Texts)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// measure is how subnets are measured on a text.
func (f compareFlags) measure(t testText) explorer.Measure {
	test := f.test
	test.Text = t.path
	if f.distance {
		test.Against = explorer.AgainstDense
	}
	return test
}

// compareMake makes a subnet, and with --tune another one of it. A row has the error of what failed, and its subnet is "".
func (a *app) compareMake(ctx context.Context, e exploration, method string, ratio float64, f compareFlags) ([]compareRow, []explorer.SubnetID) {
	began := time.Now()
	row := compareRow{Method: method, Ratio: ratio}
	job, err := a.start(ctx, e, f.makes(method, ratio))
	n, ok := e.Snapshot().Subnet(job.Result)
	if err == nil && !ok {
		err = errors.New("it found no subnet")
	}
	if err != nil {
		row.Err = firstLine(err)
		return []compareRow{row}, []explorer.SubnetID{""}
	}
	if row.Seconds = n.Method.Seconds; row.Seconds == 0 { // a search
		row.Seconds = time.Since(began).Seconds()
	}
	row.sized(n)
	if !f.tuning.On() {
		return []compareRow{row}, []explorer.SubnetID{n.ID}
	}
	began = time.Now()
	tuned := compareRow{Method: method, Ratio: ratio, Tuned: true}
	id, err := a.tune(ctx, e, n.ID, f.cut.Calibration, f.tuning)
	if err == nil && id == n.ID {
		err = errors.New("tuning gained nothing")
	}
	if err != nil {
		tuned.Err, id = firstLine(err), ""
	}
	if better, ok := e.Snapshot().Subnet(id); ok {
		tuned.sized(better)
	}
	tuned.Seconds = row.Seconds + time.Since(began).Seconds()
	return []compareRow{row, tuned}, []explorer.SubnetID{n.ID, id}
}

// sized sets the sizes of a row's subnet.
func (r *compareRow) sized(n explorer.Subnet) {
	r.Share, r.KVBytes, r.Bytes, r.Kept = n.Size.Ratio, n.Size.KVBytesPerToken, n.Bytes, n.Method.Kept
}

// compareOn measures a subnet on all texts and tasks. It takes over what was measured already under the conditions of measured, the
// dense model's.
func (a *app) compareOn(ctx context.Context, e exploration, row *compareRow, id explorer.SubnetID, f compareFlags, measured []compareText) {
	err := a.compareTexts(ctx, e, row, id, f, measured)
	if err == nil {
		row.Tasks, err = a.tasksOf(ctx, e, id, f)
	}
	if err != nil {
		row.Err = firstLine(err)
	}
}

// compareTexts is compareOn for texts.
func (a *app) compareTexts(ctx context.Context, e exploration, row *compareRow, id explorer.SubnetID, f compareFlags, measured []compareText) error {
	for i, t := range f.texts.list {
		var m explorer.Measurement
		found := false
		if n, ok := e.Snapshot().Subnet(id); ok && measured != nil {
			for _, of := range n.Measurements {
				if of.Conditions.Text.SHA256 == measured[i].Dense.Conditions.Text.SHA256 && of.Conditions.Text.Path == measured[i].Dense.Conditions.Text.Path {
					m, found = of, true
				}
			}
		}
		if !found {
			var err error
			if m, err = a.measure(ctx, e, id, f.measure(t)); err != nil {
				return err
			}
		}
		switch i {
		case 0:
			row.Perplexity, row.Relative = m.Perplexity, m.Relative()
		case 1:
			row.AlsoPerplexity, row.AlsoRelative = m.Perplexity, m.Relative()
		}
		row.On = append(row.On, compareOn{t.name, m.Perplexity, m.StandardError, m.Relative(), m.Distance})
	}
	return nil
}

// measure returns a new measurement of a subnet, or of the dense model.
func (a *app) measure(ctx context.Context, e exploration, id explorer.SubnetID, c explorer.Measure) (explorer.Measurement, error) {
	c.Subnet = id
	if _, err := a.start(ctx, e, c); err != nil {
		return explorer.Measurement{}, err
	}
	s := e.Snapshot()
	list := s.Model.Measurements
	if n, ok := s.Subnet(id); ok {
		list = n.Measurements
	}
	return list[0], nil // the newest
}
