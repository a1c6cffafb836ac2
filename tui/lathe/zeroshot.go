package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/engine"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/quality"
)

// zeroShotResult is what `zeroshot --json` writes.
type zeroShotResult struct {
	Model   string               `json:"model"`
	Subnet  string               `json:"subnet,omitempty"`
	Tasks   []quality.EvalResult `json:"tasks"`
	Seconds float64              `json:"seconds,omitempty"` // not of a subnet that workers have evaluated with others
}

func (a *app) zeroShotCommand() *cobra.Command {
	var (
		tasks   []string
		subnets []string
		o       quality.EvalOptions
		on      explorer.Machines
	)
	cmd := &cobra.Command{
		Use:   "zeroshot [MODEL]",
		Short: "Evaluate a model on multiple-choice tasks, as lm-evaluation-harness does",
		Long: "Tasks are " + strings.Join(quality.Tasks(), ", ") + ".\n" +
			"Questions are the datasets' own files, parquet or JSON lines; if the answers are in a file of their own, it follows after\n" +
			"a comma. A task without a file is taken from the Hugging Face hub, or from its cache: the parquet file of the split that the\n" +
			"harness evaluates (HF_* variables apply as for models). acc is the accuracy of the most likely choice, acc_norm that of the most likely choice per character.\n\n" +
			"Without --bos the figures are those of the harness's hf model with its defaults, with --bos those of add_bos_token=True, and with\n" +
			"--bos=none those of add_bos_token=False. Where tokenizer.json has the start token among its added tokens alone, transformers 5 gives\n" +
			"it another number under add_bos_token=True; the harness then scores other texts.\n\n" +
			"Several subnets are evaluated one after another, or by workers at the same time, each task by one of them: the figures are the same.",
		Example: "  lathe zeroshot small.gguf --task piqa --task winogrande --limit 200\n  lathe zeroshot small.gguf --task arc_easy=test.parquet --task piqa=valid.jsonl,valid-labels.lst\n" +
			"  lathe zeroshot model.gguf --subnet dense --subnet s1 --subnet s2 --task piqa --task arc_easy --workers 2",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			if err := distinct(subnets); err != nil {
				return err
			}
			if err := on.Check(); err != nil {
				return usage(err)
			}
			list, err := a.openTasks(cmd.Context(), tasks)
			if err != nil {
				return err
			}
			if o.Limit < 0 {
				return usage(fmt.Errorf("--limit %d", o.Limit))
			}
			if !slices.Contains([]string{quality.BOSAuto, quality.BOSEvery, quality.BOSNone}, o.BOS) {
				return usage(fmt.Errorf("--bos %q: not auto, every or none", o.BOS))
			}
			return a.zeroShot(cmd.Context(), model, subnets, list, o, on)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&tasks, "task", nil, "task: TASK (from the hub), TASK=FILE or TASK=FILE,ANSWERS; may be repeated")
	flags.IntVar(&o.Limit, "limit", 0, "questions of each task, from the start (default: all)")
	flags.StringVar(&o.BOS, "bos", quality.BOSAuto, "texts that begin with the start token: every or none (auto, as in the harness: every if the tokenizer adds it)")
	choices(flags, "bos", quality.BOSAuto, quality.BOSEvery, quality.BOSNone)
	flags.Lookup("bos").NoOptDefVal = quality.BOSEvery
	flags.StringArrayVar(&subnets, "subnet", []string{string(explorer.DenseID)}, "subnet of the workspace to evaluate: an id, a name, draft or dense; may be given several times")
	piecesFlags(flags, &on, "evaluate")
	if err := cmd.MarkFlagRequired("task"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// openTasks reads the questions of all tasks, before a model is loaded.
func (a *app) openTasks(ctx context.Context, list []string) ([]quality.Task, error) {
	var tasks []quality.Task
	for _, text := range list { // before anything is downloaded
		name, files, named := strings.Cut(text, "=")
		if path, _, _ := strings.Cut(files, ","); named && path == "" {
			return nil, usage(fmt.Errorf("--task %q: not TASK or TASK=FILE", text))
		}
		if !slices.Contains(quality.Tasks(), name) {
			return nil, usage(fmt.Errorf("--task %q: unknown task %q: not one of %s%s", text, name, strings.Join(quality.Tasks(), ", "), orNearest(name, quality.Tasks())))
		}
	}
	for _, text := range list {
		name, files, named := strings.Cut(text, "=")
		path, answers, _ := strings.Cut(files, ",")
		if !named {
			var err error
			if path, err = a.dataset(ctx, name); err != nil {
				return nil, err
			}
		}
		t, err := quality.OpenTask(name, path, answers)
		if err != nil {
			return nil, input(err)
		}
		tasks = append(tasks, t)
	}
	return tasks, nil
}

// dataset returns the file with the questions of a task, from the hub or its cache.
func (a *app) dataset(ctx context.Context, task string) (string, error) {
	d, ok := quality.DatasetOf(task)
	if !ok {
		return "", usage(fmt.Errorf("--task %s: no dataset is known: name its file, as --task %s=FILE", task, task))
	}
	file, err := a.dataFile(ctx, d)
	if err != nil {
		return "", fmt.Errorf("%s: %w; with the file at hand: --task %s=FILE", task, err, task)
	}
	return file, nil
}

// zeroShotResults is what `zeroshot --json` writes of several subnets.
type zeroShotResults struct {
	Subnets []zeroShotResult `json:"subnets"`
	Seconds float64          `json:"seconds"`
}

func (r zeroShotResults) words(w io.Writer) {
	rows := [][]string{{"subnet", "task", "questions", "acc", "acc_norm"}}
	for _, of := range r.Subnets {
		name := of.Subnet
		if name == "" {
			name = string(explorer.DenseID)
		}
		for _, row := range of.rows()[1:] {
			rows = append(rows, append([]string{name}, row...))
		}
	}
	table(w, rows...)
}

func (a *app) zeroShot(ctx context.Context, model string, subnets []string, tasks []quality.Task, o quality.EvalOptions, on explorer.Machines) (err error) {
	began := time.Now()
	named := model
	if model, err = a.local(ctx, model); err != nil {
		return err
	}
	dir, err := a.scratch("zeroshot")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Remove()) }()
	all, paths := make([]zeroShotResult, len(subnets)), make([]string, len(subnets))
	for i, subnet := range subnets {
		all[i], paths[i] = zeroShotResult{Model: named, Tasks: make([]quality.EvalResult, len(tasks))}, model
		if subnet == string(explorer.DenseID) {
			continue
		}
		paths[i] = dir.Join(fmt.Sprintf("subnet-%d.gguf", i))
		if all[i].Subnet, err = a.writeSubnet(ctx, model, subnet, paths[i]); err != nil {
			return err
		}
	}
	if on.On() {
		watch := a.watch("zeroshot")
		err = a.evaluateElsewhere(ctx, a.compute, engine.ZeroShotRequest{
			Files: paths, Tasks: tasks, Options: o, On: on, Monitor: watch,
			Done: func(file, task int, r quality.EvalResult) error {
				all[file].Tasks[task] = r
				return nil
			},
		})
		watch.clear()
		if err != nil {
			return err
		}
	} else {
		for i, path := range paths {
			one := time.Now()
			if all[i].Tasks, err = a.evaluate(ctx, model, path, tasks, o); err != nil {
				return err
			}
			all[i].Seconds = time.Since(one).Seconds()
		}
	}
	if len(all) == 1 {
		all[0].Seconds = time.Since(began).Seconds()
		return a.result(all[0], all[0].words)
	}
	r := zeroShotResults{all, time.Since(began).Seconds()}
	return a.result(r, r.words)
}

// writeSubnet writes a subnet of the workspace to a file that llama.cpp runs, and returns its id.
func (a *app) writeSubnet(ctx context.Context, model, subnet, path string) (id string, err error) {
	err = a.with(ctx, model, readOnly, func(e exploration) error {
		found, err := find(e.Snapshot(), subnet)
		if err != nil {
			return err
		}
		id = string(found)
		if err := e.Snapshot().Model.Runs(); err != nil {
			return err
		}
		_, err = a.start(ctx, e, explorer.Export{Subnet: found, Path: path})
		return err
	})
	return id, err
}

// evaluate loads a file and evaluates it on all tasks.
func (a *app) evaluate(ctx context.Context, model, path string, tasks []quality.Task, o quality.EvalOptions) (_ []quality.EvalResult, err error) {
	backend, err := a.backend(a.compute)
	if err != nil {
		return nil, err
	}
	opened, err := backend.Open(ctx, model)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	loaded, err := opened.Load(ctx, infer.Defaults(path), nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, loaded.Close()) }()
	p := progress{w: a.stderr, live: a.animates(), now: time.Now}
	defer p.clear()
	var results []quality.EvalResult
	for _, t := range tasks {
		began := time.Now()
		o.Progress = func(q infer.Progress) {
			now := explorer.Progress{Done: float64(q.Done), Total: float64(q.Total), Unit: "questions"}
			if spent := time.Since(began).Seconds(); q.Done > 0 && spent > 0 {
				now.Rate = now.Done / spent
				now.Left = time.Duration((now.Total - now.Done) / now.Rate * float64(time.Second))
			}
			p.show(explorer.Job{Title: t.Name, State: explorer.Running, Progress: now})
		}
		r, err := quality.Evaluate(ctx, loaded, t, o)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	p.clear()
	a.warnFallback(loaded.Info())
	return results, nil
}

func (r zeroShotResult) words(w io.Writer) { table(w, r.rows()...) }

func (r zeroShotResult) rows() [][]string {
	rows := [][]string{{"task", "questions", "acc", "acc_norm"}}
	for _, t := range r.Tasks {
		norm := ""
		if t.AccNorm != nil {
			norm = fmt.Sprintf("%.4f ± %.4f", *t.AccNorm, *t.AccNormErr)
		}
		rows = append(rows, []string{t.Task, fmt.Sprint(t.Questions), fmt.Sprintf("%.4f ± %.4f", t.Acc, t.AccErr), norm})
	}
	return rows
}
