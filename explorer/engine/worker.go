package engine

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/algebra"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/remote"
	"github.com/lathe-llm/lathe/search/score"
	"github.com/lathe-llm/lathe/search/space"
)

// A WorkRequest is what [Engine.Work] works for.
type WorkRequest struct {
	Machines explorer.Machines // address of the server, and the shared folder
	Name     string            // "" is the name of the host and the number of the process
	Models   []string          // files to score for; all models if there are none
	Files    string            // folder for downloads
	Search   string            // identity of the only search to work for, "" for any
	Once     bool              // end with the search
	Threads  int               // of models in llama.cpp, 0 leaves them to it
	Log      func(text string)
}

// Work works for searches and other jobs of other processes until ctx ends or the worker is drained.
func (e *Engine) Work(ctx context.Context, r WorkRequest) (remote.Done, error) {
	e.threads.Store(int64(r.Threads))
	device, err := e.openDevice(e.device())
	if err != nil {
		return remote.Done{}, err
	}
	defer device.Close()
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	o := remote.WorkerOptions{
		Scratch: e.options.Scratch,
		ID:      r.Name, Host: host, Version: e.version(), Device: device.Name(), Compute: device.Description(),
		Weights: e.settings().weights(), Algebra: algebra.Of(device).Name(), Runner: e.runnerName(), Search: r.Search, Once: r.Once, Log: r.Log,
		Files: remote.Files{Dir: r.Files, Known: map[string]string{}},
	}
	if o.ID == "" {
		o.ID = fmt.Sprintf("%.40s-%d", strings.Map(wordRune, host), os.Getpid())
	}
	if r.Machines.Shared != "" {
		o.Files.Shared = []string{r.Machines.Shared}
	}
	for _, path := range r.Models {
		f, err := remote.HashFile(ctx, path)
		if err != nil {
			return remote.Done{}, err
		}
		o.Files.Known[f.SHA256] = path
		o.Models = append(o.Models, f.SHA256)
	}
	o.Open = func(ctx context.Context, s remote.Spec, files remote.Opened) (remote.Scorer, error) {
		return e.openScorer(ctx, device, s, files, r.Log)
	}
	if o.Conn, err = remote.Dial(ctx, e.address(r.Machines), "lathe worker "+o.ID, r.Log); err != nil {
		return remote.Done{}, err
	}
	defer o.Conn.Close()
	return remote.Work(ctx, o)
}

// wordRune replaces what names of workers do not have.
func wordRune(r rune) rune {
	if r < 128 && (r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-') {
		return r
	}
	return '-'
}

// scorer works for one phase of a search in a worker. What it needs for pieces of work is loaded when it is first needed.
type scorer struct {
	*score.Evaluator // nil where there are no candidates
	engine           *Engine
	device           *decoder.Device
	path             string // of the model
	file             *gguf.File
	model            *decoder.Model         // nil before it is needed
	store            *levels.Store          // nil for strategies without levels
	windows          [][]int32              // nil where there is no text
	layers           *oneshot.LayerGatherer // nil before statistics are gathered
	whole            *model                 // nil before a subnet is measured
	folder           *scratch.Folder
	log              func(string)
}

// openScorer loads the files of a search.
func (e *Engine) openScorer(ctx context.Context, device *decoder.Device, s remote.Spec, files remote.Opened, log func(string)) (_ remote.Scorer, err error) {
	sc := &scorer{engine: e, device: device, path: files.Model, log: log}
	if log == nil {
		sc.log = func(string) {}
	}
	defer func() {
		if err != nil {
			sc.Close()
		}
	}()
	if sc.file, err = gguf.Open(files.Model); err != nil || files.Text == "" {
		return sc, err
	}
	dm, err := sc.decoder(ctx)
	if err != nil {
		return nil, err
	}
	g := dm.Geometry()
	if len(files.Levels) > 0 {
		if sc.folder, err = scratch.New(e.options.Scratch, "levels"); err != nil {
			return nil, err
		}
		if sc.store, err = levels.Link(sc.folder.Path(), files.Levels, g); err != nil {
			return nil, err
		}
	}
	data, err := readLimited(files.Text)
	if err != nil {
		return nil, err
	}
	if sc.windows, err = remote.DecodeWindows(data, g.Vocab); err != nil {
		return nil, err
	}
	fitness := score.Fitness(s.Fitness)
	if fitness == "" { // the reference is all that is scored
		fitness = score.Perplexity
	}
	sc.Evaluator, err = score.New(dm, sc.store, sc.windows, fitness)
	return sc, err
}

// decoder returns the model for computing.
func (s *scorer) decoder(ctx context.Context) (*decoder.Model, error) {
	if s.model == nil {
		var err error
		if s.model, err = s.engine.decode(ctx, s.device, s.file, s.engine.settings().options(ctx, s.device)...); err != nil {
			return nil, err
		}
	}
	return s.model, nil
}

// opened returns the model as a backend has it.
func (s *scorer) opened(ctx context.Context) (*model, error) {
	if s.whole == nil {
		m, err := s.engine.Open(ctx, s.path)
		if err != nil {
			return nil, err
		}
		s.whole = m.(*model)
	}
	return s.whole, nil
}

func (s *scorer) monitor() explorer.Monitor { return unseen{s.log} }

// Evaluate implements [search.Evaluator].
func (s *scorer) Evaluate(ctx context.Context, batch []search.Candidate, t search.Tier, done func(int, search.Score)) error {
	if s.Evaluator == nil {
		return fmt.Errorf("%w: there is no text to score on", errPiece)
	}
	return s.Evaluator.Evaluate(ctx, batch, t, done)
}

// Reused implements [remote.Scorer].
func (s *scorer) Reused() float64 {
	if s.Evaluator == nil {
		return 0
	}
	return s.Evaluator.Reused()
}

// Geometry implements [remote.Scorer].
func (s *scorer) Geometry() *subnet.Geometry { return s.model.Geometry() }

// Levels implements [remote.Scorer].
func (s *scorer) Levels() *space.Levels {
	if s.store == nil {
		return nil
	}
	return s.store.Levels()
}

// Dense implements [remote.Scorer].
func (s *scorer) Dense() search.Candidate {
	dense := search.Candidate{Masks: subnet.Dense(s.Geometry())}
	if s.store != nil {
		dense.Choice = s.store.Levels().Dense()
	}
	return dense
}

// AddBase implements [remote.Scorer].
func (s *scorer) AddBase(weights, path string) error {
	if s.store == nil {
		return fmt.Errorf("%w: weights of a subnet made by hand, in a search without levels", levels.ErrDamaged)
	}
	return s.store.LinkBase(weights, path)
}

// Close implements [remote.Scorer].
func (s *scorer) Close() {
	if s.layers != nil {
		s.layers.Close()
	}
	if s.whole != nil {
		_ = s.whole.Close() // only read from
	}
	if s.Evaluator != nil {
		s.Evaluator.Close()
	}
	if s.store != nil {
		_ = s.store.Close() // only read from
	}
	if s.model != nil {
		s.model.Close()
	}
	if s.file != nil {
		_ = s.file.Close() // only read from
	}
	if s.folder != nil {
		_ = s.folder.Remove() // links
	}
}
