package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/score"
)

const (
	// searchShare is the share of the calibration windows that candidates are scored on, searchWindows the most of them;
	// the levels are made from levelWindows of the others, so that no candidate is scored on what it was fitted to.
	searchShare   = 0.25
	searchWindows = 8
	levelWindows  = 16
	// hastyLevels is that where the time is limited to less than hastyLimit: a third of twenty minutes would go into levels.
	hastyLevels = 8
	hastyLimit  = 30 * time.Minute
	// refitWindows is how much text what is found is re-fitted on at most, where only the time is limited: more text is
	// worth more there than the same time in the search.
	refitWindows = 128
	// tuningSeq is the length of the windows that candidates are scored on: short ones cost less attention and are more
	// diverse.
	tuningSeq = 1024
	// probeTexts is on how many texts predicted losses are measured.
	probeTexts = 4
	// pollEvery is how often a search is looked at and orders are passed on to it.
	pollEvery = 100 * time.Millisecond
	// retries is how often a search goes on by itself after an error, such as a full disk, and retryAfter how soon.
	retries    = 3
	retryAfter = 10 * time.Second
)

// hunt is one search under way.
type hunt struct {
	m         *model
	request   explorer.StartSearch
	dir       string
	mon       explorer.Monitor
	work      work
	tuning    [][]int32 // windows that candidates are scored on
	fitting   [][]int32 // windows that levels are made from
	levelText int       // the most of them
	eval      *score.Evaluator
	bytes     map[int]int64 // by candidate, see explorer.Candidate
	scratch   string        // folder of levels that nobody keeps, "" for none
	refits    int           // windows that what is found is re-fitted on
	up        int           // steps by which its W_U is re-fitted
	started   time.Time
	time      time.Duration // that candidates are scored for, where the time is limited
	pace      levels.Pace   // at which levels were made, zero when unknown
	dense     float64       // perplexity of the dense model on tuning
}

// Search implements [explorer.Searcher]. Levels and the checkpoint stay in dir; what is found is re-fitted on all of the
// calibration text in the end.
func (m *model) Search(ctx context.Context, r explorer.StartSearch, dir string, o explorer.Orders, mon explorer.Monitor) (explorer.Made, error) {
	h := &hunt{m: m, request: r, dir: dir, mon: mon, bytes: make(map[int]int64), started: time.Now()}
	defer h.close()
	if err := h.even(); err != nil {
		return explorer.Made{}, err
	}
	if err := h.prepare(ctx); err != nil {
		return explorer.Made{}, err
	}
	job, err := h.job(ctx)
	if err != nil {
		return explorer.Made{}, err
	}
	stop := h.attend(ctx, job, o)
	result, err := job.Run(ctx)
	stop()
	o.Publish(h.shown(job.Snapshot()))
	if result.Best.ID == 0 {
		return explorer.Made{}, err
	}
	made := h.made(result)
	if err != nil {
		// Ended by a person or by an error: what was found is kept as its levels are.
		made.Subnet, _ = h.subnet(result.Best.Candidate)
		if errors.Is(err, search.ErrStopped) {
			err = nil
		}
		return made, err
	}
	if result, err = h.settle(ctx, result); err != nil {
		return made, translate(err)
	}
	return h.refit(ctx, h.made(result))
}

// even has a model whose files hold equal widths searched for those.
func (h *hunt) even() error {
	g := h.m.geometry()
	switch h.request.Strategy {
	case "uniform":
	case "", "ladder":
		if !g.Limits().PerLayer {
			h.request.Strategy = "uniform"
			h.mon.Note(fmt.Sprintf("files of %s models have the same widths in all layers, so those are searched", g.Arch))
		}
	default:
		if !g.Limits().PerLayer {
			return fmt.Errorf("%w: files of %s models have the same widths in all layers, which the strategy %s does not search: use uniform", explorer.ErrInvalid, g.Arch, h.request.Strategy)
		}
	}
	return nil
}

// check refuses what the strategy cannot work with or reach, before anything takes long.
func (h *hunt) check() error {
	strategy, err := search.New(h.request.Strategy)
	if h.request.Up == nil && !h.m.geometry().LinearInUp() {
		h.request.Up = new(int) // it would take its time and change nothing
	}
	if up := h.request.Up; err == nil && up != nil {
		if h.up = *up; h.up < 0 {
			err = fmt.Errorf("%d steps of re-fitting W_U", h.up)
		}
	}
	if err == nil {
		p := &search.Problem{Geometry: h.m.geometry(), Target: search.Ratio(h.request.Target)}
		if h.usesLevels() {
			p.Levels = levels.Bare(p.Geometry, levels.Options{})
		}
		err = strategy.Check(p, p.Target)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", explorer.ErrInvalid, err)
	}
	return nil
}

// prepare reads the text, loads the model and makes what the strategy needs.
func (h *hunt) prepare(ctx context.Context) error {
	err := h.check()
	if err == nil && h.dir != "" && !h.request.Resume {
		// Interrupted before its first checkpoint, this search must not go on from that of another.
		err = os.RemoveAll(h.checkpoint())
	}
	if err != nil {
		return err
	}
	h.mon.Progress(0, 0, "tokens", "tokenising")
	if h.work.text, err = h.text(ctx); err != nil {
		return err
	}
	windows := h.work.text.windows
	h.refits = len(windows)
	if len(windows) < 2 {
		return fmt.Errorf("%w: a search needs two windows of text at least, one to fit and one to score on", explorer.ErrText)
	}
	held := min(max(1, int(searchShare*float64(len(windows)))), searchWindows)
	h.fitting = spread(windows[:len(windows)-held], h.levelText)
	for _, w := range windows[len(windows)-held:] {
		for part := range slices.Chunk(w, min(tuningSeq, len(w))) {
			if len(part) == min(tuningSeq, len(w)) {
				h.tuning = append(h.tuning, part)
			}
		}
	}
	h.mon.Progress(0, 0, "tokens", "loading the model")
	if h.work.dm, err = h.m.weights(ctx); err != nil {
		return err
	}
	var store *levels.Store
	if h.usesLevels() {
		if store, err = h.levels(ctx); err != nil {
			return err
		}
	}
	h.eval, err = score.New(h.work.dm, store, h.tuning, score.Options{Fitness: score.Fitness(h.request.Fitness), Gate: h.mon.Gate})
	if errors.Is(err, search.ErrConfig) {
		err = fmt.Errorf("%w: %w", explorer.ErrInvalid, err)
	}
	if err == nil && store != nil {
		err = h.predict(ctx, store)
	}
	return err
}

// measureDense takes the dense model's perplexity on as much text as candidates are scored on in full.
func (h *hunt) measureDense(ctx context.Context, tokens int) error {
	dense := search.Candidate{Masks: subnet.Dense(h.work.dm.Geometry())}
	if h.usesLevels() {
		dense.Choice = h.m.levels.Levels().Dense()
	}
	tier := search.Tier{Tokens: tokens}
	return h.eval.Evaluate(ctx, []search.Candidate{dense}, tier, func(_ int, s search.Score) { h.dense = s.Perplexity() })
}

// taken says how much text a search took, and its levels at most, so that it goes on with as much whatever its budget is then.
type taken struct{ Windows, Levels int }

// text reads the calibration text: where nobody said how much of it, what a limited time can be spent on.
func (h *hunt) text(ctx context.Context) (passage, error) {
	c, path := h.request.Calibration, filepath.Join(h.dir, "text.json")
	h.levelText = levelWindows
	if whole := h.limit(); whole > 0 && whole < hastyLimit && h.usesLevels() {
		h.levelText = hastyLevels
	}
	if data, err := os.ReadFile(path); err == nil && h.dir != "" && h.request.Resume {
		var before taken
		if json.Unmarshal(data, &before) == nil {
			if c.Windows == 0 {
				c.Windows = max(before.Windows, 0)
			}
			h.levelText = cmp.Or(max(before.Levels, 0), levelWindows)
		}
	}
	read := h.m.calibration
	if c.Windows == 0 && h.request.Budget.Seconds > 0 {
		read = func(ctx context.Context, c explorer.Calibration) (passage, error) {
			return h.m.upTo(ctx, c, refitWindows)
		}
	}
	text, err := read(ctx, c)
	if err != nil || h.dir == "" {
		return text, err
	}
	data, err := json.Marshal(taken{len(text.windows), h.levelText})
	if err == nil {
		err = durable.MkdirAll(h.dir, 0o755)
	}
	if err != nil {
		return text, err
	}
	return text, search.FileStore(path).Save(data)
}

// checkpoint is the file of the search's checkpoint.
func (h *hunt) checkpoint() string { return filepath.Join(h.dir, "checkpoint") }

// spread returns at most n of the windows, evenly spaced.
func spread(windows [][]int32, n int) [][]int32 {
	if len(windows) <= n {
		return windows
	}
	out := make([][]int32, n)
	for i := range out {
		out[i] = windows[i*len(windows)/n]
	}
	return out
}

func (h *hunt) close() {
	if h.scratch != "" {
		_ = os.RemoveAll(h.scratch) // open files can still be read
		h.scratch = ""
	}
	if h.eval != nil {
		h.eval.Close()
		h.eval = nil
	}
}

// usesLevels says whether the strategy chooses among levels.
func (h *hunt) usesLevels() bool {
	switch h.request.Strategy {
	case "paper", "paper-laptop":
		return false
	}
	return true
}

// job makes the search itself.
func (h *hunt) job(ctx context.Context) (*search.Job, error) {
	strategy, err := search.New(h.request.Strategy)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", explorer.ErrInvalid, err)
	}
	if err := h.measureDense(ctx, h.fit(strategy)); err != nil {
		return nil, err
	}
	hash, err := h.m.SHA256(ctx)
	if err != nil {
		return nil, err
	}
	o := search.Options{
		Strategy: strategy, Evaluator: h.eval, Resume: h.request.Resume,
		Budget: search.Budget{Evaluations: h.request.Budget.Evaluations, Tokens: h.request.Budget.Tokens},
		Problem: search.Problem{
			Model: hash, Geometry: h.work.dm.Geometry(), Target: search.Ratio(h.request.Target), Seed: h.request.Seed,
		},
	}
	if whole := h.limit(); whole > 0 {
		gone := time.Since(h.started)
		h.time = max(whole-gone-h.reserve(whole, gone), whole/10)
		o.Budget.Time = h.time
	}
	if h.usesLevels() {
		o.Problem.Levels = h.m.levels.Levels()
	} else {
		o.Problem.Start, err = score.Start(ctx, h.work.dm, h.fitting, h.mon.Gate)
		if err != nil {
			return nil, err
		}
	}
	if h.dir != "" {
		o.Store = search.FileStore(h.checkpoint())
	}
	job, err := search.NewJob(o)
	if errors.Is(err, search.ErrTarget) || errors.Is(err, search.ErrConfig) {
		err = fmt.Errorf("%w: %w", explorer.ErrInvalid, err)
	}
	return job, err
}

// limit is the time that the search may take with all that belongs to it, 0 for any.
func (h *hunt) limit() time.Duration {
	return time.Duration(h.request.Budget.Seconds * float64(time.Second))
}

// fit bounds the tiers of a strategy by the text there is, and returns the tokens of the last.
func (h *hunt) fit(s search.Strategy) int {
	most := h.eval.Tokens()
	switch s := s.(type) {
	case *search.Ladder:
		for len(s.Tiers) > 1 && s.Tiers[len(s.Tiers)-2] >= most {
			s.Tiers = s.Tiers[:len(s.Tiers)-1]
		}
		last := &s.Tiers[len(s.Tiers)-1]
		*last = min(*last, most)
		return *last
	case *search.Random:
		s.Tokens = min(s.Tokens, most)
		return s.Tokens
	case *search.Uniform:
		s.Tokens = min(s.Tokens, most)
		return s.Tokens
	case *search.Paper:
		s.Tokens = min(s.Tokens, most)
		return s.Tokens
	}
	return most
}

// attend shows the search while it runs and passes orders on to it, until the function returned is called.
func (h *hunt) attend(ctx context.Context, job *search.Job, o explorer.Orders) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(pollEvery)
		defer tick.Stop()
		var shown uint64
		var failed time.Time
		tries := 0
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for order, ok := o.Next(); ok; order, ok = o.Next() {
				h.obey(job, order)
			}
			s := job.Snapshot()
			if s.Revision != shown {
				shown = s.Revision
				o.Publish(h.shown(s))
				h.tell(s)
			}
			switch {
			case s.Status != search.Paused || s.Err == nil:
				failed = time.Time{}
			case failed.IsZero():
				failed = time.Now()
				if tries++; tries > retries {
					h.mon.Note(fmt.Sprintf("search: %v: it ends here; what was found is kept", s.Err))
					job.Stop()
					continue
				}
				h.mon.Note(fmt.Sprintf("search: %v: it stands still and tries again", s.Err))
			case time.Since(failed) > retryAfter:
				job.Resume()
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// obey carries out an order given to the running search.
func (h *hunt) obey(job *search.Job, order explorer.Order) {
	var err error
	switch order := order.(type) {
	case explorer.Retarget:
		err = job.Retarget(search.Ratio(order.Target))
	case explorer.Injection:
		err = job.Inject(order.Subnet.Masks, order.Name)
	}
	if err != nil {
		h.mon.Note(err.Error())
	}
}

// tell reports how far the search is.
func (h *hunt) tell(s *search.Snapshot) {
	step := fmt.Sprintf("generation %d, %d candidates", s.State.Generation, s.Spent.Evaluations)
	if best, ok := s.Best(); ok {
		step += ", " + h.fitness(best.Score.Fitness)
	}
	switch b := h.request.Budget; {
	case b.Tokens > 0:
		h.mon.Progress(float64(s.Spent.Tokens), float64(b.Tokens), "tokens", step)
	case b.Evaluations > 0:
		h.mon.Progress(float64(s.Spent.Evaluations), float64(b.Evaluations), "candidates", step)
	case b.Seconds > 0:
		h.mon.Progress(min(s.Elapsed, h.time).Seconds(), h.time.Seconds(), "seconds", step)
	default:
		h.mon.Progress(float64(s.Spent.Evaluations), 0, "candidates", step)
	}
}

// fitness writes a value of the fitness of candidates for people: what it is of, and the perplexity for its logarithm.
func (h *hunt) fitness(v float64) string {
	if h.eval.Fitness() == score.Perplexity {
		return fmt.Sprintf("perplexity %.2f", math.Exp(v))
	}
	return fmt.Sprintf("KL %.4f", v)
}

// subnet gives a candidate the re-fitted weights of its levels, where it has any.
func (h *hunt) subnet(c search.Candidate) (gguf.Subnet, error) {
	if c.Choice == nil {
		return gguf.Subnet{Masks: c.Masks}, nil
	}
	return h.m.levels.Subnet(c.Choice)
}

// made describes a result.
func (h *hunt) made(r search.Result) explorer.Made {
	text := h.work.text
	return explorer.Made{
		Subnet: gguf.Subnet{Masks: r.Best.Masks},
		Method: explorer.Method{
			Preset: h.strategy(), Target: r.State.Target.Value, Seed: h.request.Seed, Text: text.ref,
			Windows: h.refits, Seq: len(text.windows[0]), Backend: h.m.Info().Compute,
		},
	}
}

func (h *hunt) strategy() string {
	if h.request.Strategy == "" {
		return "ladder"
	}
	return h.request.Strategy
}

// Assemble implements [explorer.Searcher].
func (m *model) Assemble(_ context.Context, c explorer.Candidate, _ string) (gguf.Subnet, error) {
	m.mu.Lock()
	store := m.levels
	m.mu.Unlock()
	if store == nil {
		return gguf.Subnet{Masks: c.Masks}, nil
	}
	choice := store.Levels().Nearest(c.Masks)
	sub, err := store.Subnet(choice)
	if err != nil || !sub.Masks.Equal(c.Masks) {
		return gguf.Subnet{Masks: c.Masks}, nil // masks alone, or of other levels
	}
	return sub, nil
}
