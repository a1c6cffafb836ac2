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
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
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
	Log      func(text string)
}

// Work scores candidates of searches of other processes until ctx ends or the worker is drained.
func (e *Engine) Work(ctx context.Context, r WorkRequest) (remote.Done, error) {
	device, err := e.open(e.device())
	if err != nil {
		return remote.Done{}, err
	}
	defer device.Close()
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	o := remote.WorkerOptions{
		ID: r.Name, Host: host, Version: e.version(), Device: device.Name(), Compute: device.Description(), Search: r.Search, Once: r.Once, Log: r.Log,
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
		return e.openScorer(ctx, device, s, files)
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

// scorer scores candidates of one search in a worker.
type scorer struct {
	*score.Evaluator
	file   *gguf.File
	model  *decoder.Model
	store  *levels.Store // nil for strategies without levels
	folder *scratch.Folder
}

// openScorer loads the files of a search.
func (e *Engine) openScorer(ctx context.Context, device *decoder.Device, s remote.Spec, files remote.Opened) (_ remote.Scorer, err error) {
	sc := &scorer{}
	defer func() {
		if err != nil {
			sc.Close()
		}
	}()
	if sc.file, err = gguf.Open(files.Model); err != nil {
		return nil, err
	}
	if sc.model, err = e.decode(ctx, device, sc.file); err != nil {
		return nil, err
	}
	g := sc.model.Geometry()
	if len(files.Levels) > 0 {
		if sc.folder, err = scratch.New(e.options.Scratch, "levels"); err != nil {
			return nil, err
		}
		if sc.store, err = levels.Link(sc.folder.Path(), files.Levels, g); err != nil {
			return nil, err
		}
	}
	data, err := os.ReadFile(files.Text)
	if err != nil {
		return nil, err
	}
	windows, err := remote.DecodeWindows(data, g.Vocab)
	if err != nil {
		return nil, err
	}
	sc.Evaluator, err = score.New(sc.model, sc.store, windows, score.Fitness(s.Fitness))
	return sc, err
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
