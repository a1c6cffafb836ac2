package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/quality"
	"github.com/lathe-llm/lathe/search"
)

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
	seeds                   int
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
	flags.BoolVar(&f.distance, "distance", true, "also measure the divergence from the dense model, which takes as long again as the perplexity")
	flags.IntVar(&f.test.Seq, "test-seq", 2048, "tokens per window of the test texts")
	flags.IntVar(&f.test.Windows, "test-windows", 4, "windows of each test text")
	flags.StringVar(&f.test.BOS, "bos", explorer.BOSAuto, startUsage)
	choices(flags, "bos", startChoices()...)
	flags.StringArrayVar(&f.tasks, "task", nil, "task to answer zero-shot: TASK (from the hub), TASK=FILE or TASK=FILE,ANSWERS; may be repeated")
	flags.IntVar(&f.limit, "limit", 0, "questions of each task, from the start (default: all)")
	flags.StringVar(&f.svg, "svg", "", "file for a figure of loss against ratio, SVG")
	flags.BoolVar(&f.force, "force", false, "replace an existing file of --svg")
	flags.StringVar(&f.test.Engine, "engine", explorer.EngineDecoder, "what measures: decoder, or llama.cpp on temporary files")
	flags.StringVar(&f.test.Type, "type", "", "tensor type of the temporary files, with --engine llama.cpp (default: the source's)")
	flags.StringVar(&f.format, "format", "text", "output: text or csv")
	choices(flags, "methods", comparedMethods()...)
	choices(flags, "engine", explorer.EngineDecoder, explorer.EngineLlama)
	choices(flags, "type", gguf.WritableNames()...)
	choices(flags, "format", "text", "csv")
	flags.Uint64Var(&f.cut.Seed, "seed", 1, "random seed")
	flags.IntVar(&f.seeds, "seeds", 1, "number of seeds, from --seed on, that each method is run with; medians are shown, and drawn with the range")
	attentionFlag(cmd, &f.cut)
	granularityFlag(cmd, &f.cut.Granularity, "32")
	calibrationFlags(cmd, &f.cut.Calibration)
	cmd.Flags().Lookup("windows").Usage = fitWindowsUsage()
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

// maxSeeds bounds the seeds of a comparison.
const maxSeeds = 100

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
	if f.seeds < 1 || f.seeds > maxSeeds {
		return nil, usage(fmt.Errorf("--seeds %d: not from 1 to %d", f.seeds, maxSeeds))
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
