package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/score"
	"github.com/lathe-llm/lathe/search/space"
)

// Prepared is what was measured of a module before the search.
type Prepared struct {
	Slot     int     // as that of levels: modules of all layers, attention before MLP
	Levels   int     // how many it has
	Lost     float64 // share of its output energy that the middle level loses
	Rise     float64 // of the loss at the middle level, in nats per token, if Measured
	Measured bool
}

// A Phase is a part of a run.
type Phase struct {
	Number, Of int // from 1
	Name       string
	Left       time.Duration // of the run's time limit, 0 without one
	After      time.Duration // that the phases after this one are expected to take; 0 where that is unknown
}

// The phases of a run. A strategy without levels has the last two.
const (
	makingLevels = iota
	measuringSensitivity
	searching
	refitting
)

// A Result is what a run has found.
type Result struct {
	Subnet   gguf.Subnet
	Strategy string
	Target   search.Target // at the end of the search
	Windows  int           // of text for the last re-fit
	Seq      int           // tokens per window
	// Recipe and Report are those of the last re-fit, nil where it did not take place.
	Recipe *reform.Recipe
	Report *reform.Report
	Size   *oneshot.SizeReport // where types were searched
	Plain  []search.Plain      // the dense model in plain types, where types were searched
}

// run is a run in progress.
type run struct {
	Config
	strategy search.Strategy
	clock    *clock
	hold     hold
	plan     Plan
	prices   search.Prices // nil for ratios

	text      Text
	tuning    [][]int32 // windows that candidates are scored on
	fitting   [][]int32 // windows that levels are made from
	levelText int       // the most of them
	model     *decoder.Model
	store     *levels.Store   // nil for strategies without levels
	scratch   *scratch.Folder // of levels that are not kept, nil for none
	eval      *score.Evaluator
	handed    Handed      // nil where candidates are scored here
	identity  string      // of the model, "" before it is known
	pace      levels.Pace // at which levels were made, zero while unknown
	dense     float64     // perplexity of the dense model
	plain     []search.Plain
	// bytesPerToken are those of the text that candidates are scored on in full, 0 where types are not searched.
	bytesPerToken float64
	predicted     float64 // loss of the best choice, where levels have types
	asItIs        bool    // the result has modules of a subnet made by hand, whose units stay
	full          error   // why the search was stopped: the device's memory is full, or the model is closed; nil otherwise
}

// Running is a search that runs.
type Running struct {
	*search.Job
	run *run
}

// Inject adds a subnet made by hand to the next generation, with its re-fitted weights where the strategy has levels.
func (r Running) Inject(s gguf.Subnet, name string) error {
	if r.run.Types != nil {
		return fmt.Errorf("%w: a search over types of matrices takes no subnets made by hand", search.ErrConfig)
	}
	b := space.Base{Masks: s.Masks}
	if r.run.store != nil {
		var err error
		if b.Weights, err = r.run.store.KeepBase(s); err != nil {
			return err
		}
	}
	return r.Job.Inject(b, name)
}

// Run searches for a subnet and re-fits it. Where the search was stopped or an error ended it, the result is the best subnet
// so far with the weights of its levels; it is empty where there is none.
func Run(ctx context.Context, c Config) (Result, error) {
	r := &run{Config: c, clock: newClock(c.Now)}
	defer r.close()
	if err := r.check(ctx); err != nil {
		return Result{}, err
	}
	if err := r.prepare(ctx); err != nil {
		return Result{}, err
	}
	job, err := r.job(ctx)
	if err != nil {
		return Result{}, err
	}
	stop := r.superviseJob(ctx, job)
	found, err := job.Run(ctx)
	stop()
	r.show(job.Snapshot())
	r.takeBack()
	if r.full != nil {
		err = r.full
	}
	if found.Best.ID == 0 {
		return Result{}, err
	}
	result := r.result(found)
	if err != nil {
		result.Subnet, _ = r.subnet(found.Best.Candidate) // the masks alone where the levels cannot be read
		if errors.Is(err, search.ErrStopped) {
			err = nil
		}
		return result, err
	}
	if r.Types != nil {
		r.predicted = r.store.Levels().Loss(found.Best.Choice)
	} else if found, err = r.compare(ctx, found); err != nil {
		return result, err
	}
	r.asItIs = found.Best.Base != nil
	result = r.result(found)
	if r.Types != nil {
		result.Subnet.Types = r.store.Levels().Types(found.Best.Choice)
	}
	return r.refit(ctx, result)
}

// check rejects what the strategy cannot work with or reach, before anything takes long.
func (r *run) check(ctx context.Context) error {
	r.useUniformIfRequired()
	var err error
	if r.strategy, err = search.New(r.Strategy); err != nil {
		return refused(err)
	}
	if err := r.Geometry.CheckGranularity(r.Granularity); err != nil {
		return refused(err)
	}
	paper, ok := r.strategy.(*search.Paper)
	if ok {
		paper.Granularity = cmp.Or(r.Granularity, paper.Granularity)
		r.Fitness = cmp.Or(r.Fitness, score.Perplexity)
	}
	if err := search.Set(r.strategy, r.Set); err != nil {
		return refused(err)
	}
	if _, err := r.recipe(); err != nil {
		return refused(err)
	}
	if !r.Geometry.Limits().PerLayer && r.Strategy != uniform {
		return refused(fmt.Errorf("files of %s models have the same widths in all layers, which the strategy %s does not search: use %s", r.Geometry.Arch, r.Strategy, uniform))
	}
	if r.UpSteps == nil && !r.Geometry.LinearInUp() {
		r.UpSteps = new(int) // steps would change nothing
	}
	if r.UpSteps != nil && *r.UpSteps < 0 {
		return refused(fmt.Errorf("%d steps of re-fitting W_U", *r.UpSteps))
	}
	p := &search.Problem{Geometry: r.Geometry, Target: r.Target}
	if r.strategy.UsesLevels() {
		o := levels.Options{Granularity: r.Granularity, MaxBytes: r.LevelsSpace}
		if err := levels.CheckSpace(p.Geometry, o); err != nil {
			return refused(fmt.Errorf("%w: allow more (--levels-space), or make room", err))
		}
		p.Levels = levels.Bare(p.Geometry, o)
	}
	if r.Types != nil {
		if !r.strategy.UsesLevels() || r.Strategy == uniform {
			return refused(fmt.Errorf("types of matrices and the vocabulary are searched by the strategies %s and random, not by %s", ladder, r.Strategy))
		}
		if r.HandOut != nil {
			return refused(errors.New("types of matrices and the vocabulary are searched by this process alone, without workers"))
		}
	}
	targets := []search.Target{r.Target}
	if r.Resume && r.Dir != "" {
		found, ok, err := search.CheckpointTarget(search.FileStore(r.checkpoint()))
		if err == nil && ok { // a checkpoint that cannot be read is reported when the search resumes from it
			targets = append(targets, found)
		}
	}
	if r.Retarget != (search.Target{}) {
		targets = append(targets, r.Retarget)
	}
	// Options are checked before a target in time is measured, which takes a while.
	if r.Types == nil {
		if err := r.strategy.Check(p, search.Ratio(1)); err != nil {
			return refused(err)
		}
	}
	for _, t := range targets {
		if err := t.Check(); err != nil {
			return refused(err)
		}
		if r.Prices == nil {
			continue
		}
		if r.prices, err = r.Prices(ctx, t); err != nil {
			return err
		}
	}
	p.Prices = r.prices
	if r.Types != nil {
		if p.Levels, err = r.bareTypes(p.Levels); err != nil {
			return refused(err)
		}
	}
	return refused(r.strategy.Check(p, targets[len(targets)-1]))
}

// The strategies that a run chooses by itself.
const (
	ladder  = "ladder"
	uniform = "uniform"
)

// useUniformIfRequired resolves the default strategy.
func (r *run) useUniformIfRequired() {
	r.Strategy = cmp.Or(r.Strategy, ladder)
	if r.Strategy == ladder && !r.Geometry.Limits().PerLayer {
		r.Strategy = uniform
		r.Monitor.Note(fmt.Sprintf("files of %s models have the same widths in all layers, so those are searched", r.Geometry.Arch))
	}
}

// basis returns what a plan is made from now.
func (r *run) basis() Basis {
	return Basis{
		Limit: r.Budget.Time, Spent: r.clock.elapsed(), Pace: r.pace, Windows: len(r.text.Windows), Given: r.Windows > 0,
		UpSteps: r.UpSteps, NoLevels: !r.strategy.UsesLevels(),
	}
}

// prepare reads the text, loads the model and makes what the strategy needs.
func (r *run) prepare(ctx context.Context) error {
	if r.Dir != "" && !r.Resume {
		// Interrupted before its first checkpoint, this run must not resume from that of another.
		if err := os.RemoveAll(r.checkpoint()); err != nil {
			return err
		}
	}
	r.plan = NewPlan(r.basis())
	err := r.readText(ctx)
	if err != nil {
		return err
	}
	r.progress(makingLevels, 0, 0, "tokens", "loading the model")
	if r.model, err = r.Model(ctx); err != nil {
		return err
	}
	if r.strategy.UsesLevels() {
		if r.store, err = r.makeLevels(ctx); err != nil {
			return err
		}
	}
	r.eval, err = score.New(r.model, r.store, r.tuning, r.Fitness)
	if errors.Is(err, search.ErrConfig) {
		return refused(err)
	}
	if err == nil && r.HandOut != nil {
		err = r.handOut(ctx)
	}
	if err == nil && r.store != nil {
		err = r.predictLosses(ctx)
	}
	if err == nil && r.Types != nil {
		err = r.typeLevels(ctx)
	}
	return err
}

// job makes the search itself and plans its time.
func (r *run) job(ctx context.Context) (*search.Job, error) {
	tokens := r.strategy.LimitText(r.eval.Tokens())
	if err := r.measureDense(ctx, tokens); err != nil {
		return nil, err
	}
	if r.Types != nil {
		if err := r.measurePlain(ctx, tokens); err != nil {
			return nil, err
		}
	}
	o := search.Options{
		Strategy: r.strategy, Evaluator: r.eval, Resume: r.Resume, Budget: r.Budget, Gate: r.gate, Persist: r.persist, Now: r.Now,
		Problem: search.Problem{Geometry: r.Geometry, Target: r.Target, Seed: r.Seed, Prices: r.prices},
	}
	var err error
	if o.Problem.Model, err = r.identify(ctx); err != nil {
		return nil, err
	}
	if r.handed != nil {
		o.Evaluator = r.handed
	}
	r.plan = NewPlan(r.basis())
	o.Budget.Time = r.plan.Search
	if r.store != nil {
		o.Problem.Levels = r.store.Levels()
	} else if o.Problem.Start, err = oneshot.Start(ctx, r.model, r.fitting, r.gate); err != nil {
		return nil, err
	}
	if r.Dir != "" {
		o.Store = search.FileStore(r.checkpoint())
	}
	job, err := search.NewJob(o)
	if err == nil && r.Resume && r.Retarget != (search.Target{}) && job.Snapshot().Target != r.Retarget {
		err = job.Retarget(r.Retarget)
	}
	if errors.Is(err, search.ErrTarget) || errors.Is(err, search.ErrConfig) {
		err = refused(err)
	}
	return job, err
}

// measureDense measures the dense model's perplexity on as much text as candidates are scored on in full.
func (r *run) measureDense(ctx context.Context, tokens int) error {
	return r.eval.Evaluate(ctx, []search.Candidate{r.denseCandidate()}, search.Tier{Tokens: tokens}, func(_ int, s search.Score) {
		if r.Types != nil { // of the largest vocabulary that there is to choose
			s = s.Plus(-r.store.Levels().Heads[0].Loss)
		}
		r.dense = s.Perplexity()
	})
}

// denseCandidate returns the dense model as a candidate.
func (r *run) denseCandidate() search.Candidate {
	dense := search.Candidate{Masks: subnet.Dense(r.Geometry)}
	if r.store != nil {
		dense.Choice = r.store.Levels().Dense()
	}
	return dense
}

// subnet returns a candidate with the re-fitted weights of its levels, if it has any.
func (r *run) subnet(c search.Candidate) (gguf.Subnet, error) {
	if c.Choice == nil {
		s := gguf.Subnet{Masks: c.Masks}
		var err error
		if c.Base != nil && r.store != nil {
			s.Refit, err = r.store.Refit(nil, c.Base)
		}
		return s, err
	}
	s, err := r.store.Subnet(c.Choice, c.Base)
	if err != nil {
		return gguf.Subnet{Masks: c.Masks}, err
	}
	return s, nil
}

func (r *run) result(found search.Result) Result {
	return Result{
		Subnet: gguf.Subnet{Masks: found.Best.Masks}, Strategy: r.Strategy, Target: found.State.Target,
		Windows: r.plan.Refit, Seq: len(r.text.Windows[0]), Plain: r.plain,
	}
}

// checkpoint is the file of the search's checkpoint.
func (r *run) checkpoint() string { return filepath.Join(r.Dir, "checkpoint") }

func (r *run) close() {
	r.takeBack()
	if r.scratch != nil {
		_ = r.scratch.Remove() // open files can still be read
	}
	if r.eval != nil {
		r.eval.Close()
	}
}
