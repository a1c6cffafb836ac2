package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/quality"
	"github.com/lathe-llm/lathe/search"
)

// compareResult is what `compare --json` writes.
type compareResult struct {
	Model     string                `json:"model"`
	Dense     explorer.Measurement  `json:"dense"`                // on the first text
	DenseAlso *explorer.Measurement `json:"dense_also,omitempty"` // on the second text
	Texts     []compareText         `json:"texts"`
	Tasks     *taskScores           `json:"tasks,omitempty"` // of the dense model
	Rows      []compareRow          `json:"rows"`
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

// compareFlags are the flags of `compare`.
type compareFlags struct {
	ratios, methods, format string
	texts                   testTexts
	distance                bool
	test                    explorer.Measure
	cut                     explorer.Cut
	on                      explorer.Machines
	budget, set             string // of searches
	tuning                  explorer.Tuning
	tasks                   []string
	limit                   int
	svg                     string
	force                   bool
	protocol                string

	search explorer.Budget
	opened []quality.Task
}

// testTexts are named texts to measure on.
type testTexts struct{ list []testText }

// testText is one of them; path "" is the end of the default text.
type testText struct{ name, path string }

// testValue is the value of a flag that adds a text, as NAME=FILE or FILE.
type testValue struct {
	to   *testTexts
	name string // of a text without one; "" for that of the file
}

// String returns the paths of the texts.
func (v *testValue) String() string {
	var paths []string
	if v.to != nil {
		for _, t := range v.to.list {
			paths = append(paths, t.path)
		}
	}
	return strings.Join(paths, ", ")
}

// Set adds a text.
func (v *testValue) Set(text string) error {
	if name, path, named := strings.Cut(text, "="); named && path != "" && explorer.IsTextName(name) {
		return v.to.add(testText{name, path})
	}
	if text == "" {
		return errors.New("no text is named")
	}
	name := v.name
	if name == "" {
		name = filepath.Base(text)
	}
	return v.to.add(testText{name, text})
}

// Type names the values in the documentation.
func (v *testValue) Type() string { return "string" }

func (t *testTexts) add(text testText) error {
	if slices.ContainsFunc(t.list, func(o testText) bool { return o.name == text.name }) {
		return fmt.Errorf("two texts are named %s: name them NAME=FILE", text.name)
	}
	t.list = append(t.list, text)
	return nil
}

func (a *app) compareCommand() *cobra.Command {
	var f compareFlags
	cmd := &cobra.Command{
		Use:   "compare [MODEL]",
		Short: "Compare one-shot methods and searches under equal conditions",
		Long: "Cuts the model with each method to each ratio, with the same calibration text and the same definition of the ratio, and\n" +
			"measures each result on one test text or several: perplexity, divergence from the dense model (KL, nats per token) and the\n" +
			"share of tokens where both find the same token most likely, with standard errors. Calibration helps most on text of its own\n" +
			"kind; texts of other kinds show how much of that remains elsewhere.\n\n" +
			"Methods are those of cut, and searches: search, or search:STRATEGY, each with --budget. --tune adds a row for each result, tuned.\n" +
			"--task adds zero-shot tasks, as lathe zeroshot takes them. Two ratios or more are drawn, loss against ratio; --svg draws them to a file.\n\n" +
			"Workers measure the subnets on texts, several at the same time; the process itself makes them, one after another, and evaluates tasks.\n\n" +
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

func (f *compareFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.ratios, "ratios", "0.9,0.8,0.7,0.6,0.5", "ratios of the block parameters to keep")
	flags.StringVar(&f.methods, "methods", strings.Join(explorer.Presets(), ","), "methods to compare: presets of cut, search or search:STRATEGY")
	flags.StringVar(&f.budget, "budget", "10m", "limit of each search: a duration such as 20m, evals=N, tokens=N, or several separated by commas; none for no limit")
	flags.StringVar(&f.set, "set", "", "settings of the searches' strategy, as name=value,name=value")
	flags.StringVar(&f.protocol, "protocol", "", "settings of published figures: paper, those of arXiv 2409.17372")
	choices(flags, "protocol", protocolPaper)
	flags.Var(&testValue{to: &f.texts}, "test", "text to measure on, as FILE or NAME=FILE; may be given several times (default: the end of the Wikipedia text that `make setup` downloads, which is not used for calibration)")
	flags.Var(&testValue{to: &f.texts, name: "also"}, "also", "another text to measure on, as --test also=FILE")
	flags.BoolVar(&f.distance, "distance", true, "measure the divergence from the dense model too, which takes as long as the perplexity once more")
	flags.IntVar(&f.test.Seq, "test-seq", 2048, "tokens per window of the test texts")
	flags.IntVar(&f.test.Windows, "test-windows", 4, "windows of each test text")
	flags.StringVar(&f.test.BOS, "bos", explorer.BOSAuto, startUsage)
	choices(flags, "bos", startChoices()...)
	flags.StringArrayVar(&f.tasks, "task", nil, "zero-shot task: TASK (from the hub), TASK=FILE or TASK=FILE,ANSWERS; may be repeated")
	flags.IntVar(&f.limit, "limit", 0, "limit of questions per task, from the start (default: all)")
	flags.StringVar(&f.svg, "svg", "", "file to draw loss against ratio to")
	flags.BoolVar(&f.force, "force", false, "replace an existing file of --svg")
	flags.StringVar(&f.test.Engine, "engine", explorer.EngineDecoder, "what measures: decoder, or llama.cpp on temporary files")
	flags.StringVar(&f.test.Type, "type", "", "tensor type of those files (default: the source's)")
	flags.StringVar(&f.format, "format", "text", "output: text or csv")
	choices(flags, "methods", comparedMethods()...)
	choices(flags, "engine", explorer.EngineDecoder, explorer.EngineLlama)
	choices(flags, "type", gguf.WritableNames()...)
	choices(flags, "format", "text", "csv")
	flags.Uint64Var(&f.cut.Seed, "seed", 1, "random seed")
	attentionFlag(cmd, &f.cut)
	granularityFlag(cmd, &f.cut.Granularity, "32")
	calibrationFlags(cmd, &f.cut.Calibration)
	cmd.Flags().Lookup("windows").Usage = fitWindowsUsage
	reformFlags(cmd, &f.cut.Reform)
	upFlag(cmd, &f.cut.Reform.Up, "the method's own")
	piecesFlags(flags, &f.on, "measure")
	tuneFlag(cmd, &f.tuning)
	cmd.Flags().Lookup("tune").Usage = "add a row for each result, tuned for a duration such as 10m or a number of steps such as 60steps (see lathe tune)"
}

// searchPrefix begins the name of a strategy among methods; alone, without its colon, it is the default strategy.
const searchPrefix = "search:"

// comparedMethods returns the methods that can be compared.
func comparedMethods() []string {
	list := append(explorer.Presets(), "search")
	for _, name := range search.Names() {
		list = append(list, searchPrefix+name)
	}
	return list
}

// strategyOf returns the strategy that a method names, if it is a search.
func strategyOf(method string) (string, bool) {
	if method == "search" {
		return "", true
	}
	return strings.CutPrefix(method, searchPrefix)
}

// check returns the ratios, and the errors of flags that are known before the work.
func (f *compareFlags) check() ([]float64, error) {
	ratios, err := parseRatios(f.ratios)
	if err != nil {
		return nil, usage(fmt.Errorf("--ratios: %w", err))
	}
	if f.format != "text" && f.format != "csv" {
		return nil, usage(fmt.Errorf("--format %q: not text or csv", f.format))
	}
	for _, m := range strings.Split(f.methods, ",") {
		if !slices.Contains(comparedMethods(), m) {
			return nil, usage(fmt.Errorf("--methods: %q is not one of %s", m, strings.Join(comparedMethods(), ", ")))
		}
	}
	if f.budget != "none" {
		if f.search, err = parseBudget(f.budget); err != nil {
			return nil, usage(err)
		}
	}
	if f.limit < 0 {
		return nil, usage(fmt.Errorf("--limit %d", f.limit))
	}
	if f.svg == "" {
		return ratios, nil
	}
	switch info, err := os.Stat(f.svg); {
	case err == nil && info.IsDir():
		return nil, usage(fmt.Errorf("--svg %s: is a directory", f.svg))
	case err == nil && !f.force:
		return nil, usage(fmt.Errorf("--svg %s: file exists (--force replaces it)", f.svg))
	}
	probe, err := durable.Create(filepath.Clean(f.svg), 0o600)
	if err != nil {
		return nil, output{fmt.Errorf("--svg %s: cannot write there: %w", f.svg, err)}
	}
	return ratios, probe.Close()
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
			rows, ids := a.compareMake(ctx, e, method, ratio, f)
			for i := range rows {
				if ctx.Err() == nil && rows[i].Err == "" && !f.on.On() {
					a.compareOn(ctx, e, &rows[i], ids[i], f, nil)
				}
			}
			if ctx.Err() != nil {
				return r, ctx.Err()
			}
			r.Rows, made = append(r.Rows, rows...), append(made, ids...)
		}
	}
	if f.on.On() {
		return r, a.compareElsewhere(ctx, e, r, made, f)
	}
	return r, nil
}

// makes returns the command that makes a subnet by a method.
func (f *compareFlags) makes(method string, ratio float64) explorer.Command {
	c := f.cut
	if strategy, ok := strategyOf(method); ok {
		s := explorer.StartSearch{
			Strategy: strategy, Target: search.Ratio(ratio), Budget: f.search, Calibration: c.Calibration, Seed: c.Seed, Set: f.set,
			Granularity: c.Granularity, Reform: c.Reform, Up: c.Reform.Up,
		}
		s.Reform.Up = nil
		return s
	}
	c.Preset, c.Target = method, ratio
	return c
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
	if _, err := a.start(ctx, e, all); err != nil && (ctx.Err() != nil || len(e.Snapshot().Subnets) == 0) {
		return err
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
	r.Share, r.KVBytes, r.Bytes = n.Size.Ratio, n.Size.KVBytesPerToken, n.Bytes
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
