package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/internal/workspace"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/remote"
)

// scoreSettings are the settings of a perplexity that a worker measures. Its files are the passage, the subnet and, if Reference is set, a
// model file to compare with.
type scoreSettings struct {
	Engine, Type string
	Dense        bool // compare with the dense model
	Reference    bool
}

// storedPassage is what scoring needs of a passage.
type storedPassage struct {
	Windows [][]int32
	From    []int `json:",omitempty"`
	Kept    []int `json:",omitempty"`
}

// readPassage reads a file of a passage for a model.
func readPassage(path string, f *gguf.File) (passage, error) {
	data, err := readLimited(path)
	if err != nil {
		return passage{}, err
	}
	c, err := f.Config()
	if err != nil {
		return passage{}, err
	}
	p, err := parsePassage(data, c.Vocab)
	return passage{windows: p.Windows, from: p.From, kept: p.Kept}, err
}

// parsePassage reads a passage for a model with so many tokens.
func parsePassage(data []byte, vocab int) (storedPassage, error) {
	var p storedPassage
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("%w: its passage: %w", errPiece, err)
	}
	return p, p.check(vocab)
}

// check reports a passage that is none of a model with so many tokens.
func (p storedPassage) check(vocab int) error {
	if len(p.Windows) == 0 || p.From != nil && len(p.From) != len(p.Windows) {
		return fmt.Errorf("%w: Windows has %d, From %d", errPiece, len(p.Windows), len(p.From))
	}
	for i, id := range p.Kept {
		if id < 0 || id >= vocab || i > 0 && id <= p.Kept[i-1] {
			return fmt.Errorf("%w: Kept[%d] is %d of %d tokens", errPiece, i, id, vocab)
		}
	}
	if p.Kept != nil {
		vocab = len(p.Kept)
	}
	for i, w := range p.Windows {
		from := 1
		if len(p.From) > i {
			from = p.From[i]
		}
		if from < 1 || from >= len(w) {
			return fmt.Errorf("%w: Windows[%d] has %d tokens, From[%d] is %d", errPiece, i, len(w), i, from)
		}
		for k, token := range w {
			if token < 0 || int(token) >= vocab {
				return fmt.Errorf("%w: Windows[%d][%d] is %d of %d tokens", errPiece, i, k, token, vocab)
			}
		}
	}
	return nil
}

// loadSubnet reads the file of a subnet, which has any name.
func loadSubnet(ctx context.Context, path string, g *subnet.Geometry) (gguf.Subnet, error) {
	s, err := workspace.Weights{Path: filepath.Dir(path)}.Load(ctx, filepath.Base(path), g)
	if !slices.ContainsFunc(s.Refit, func(r gguf.Refit) bool { return !r.IsZero() }) {
		s.Refit = nil // as before it was stored
	}
	return s, err
}

// ScoreAll implements [explorer.Scorer].
func (m *model) ScoreAll(ctx context.Context, load func(context.Context, int) (gguf.Subnet, error), asked []explorer.ScoreRequest, on explorer.Machines, mon explorer.Monitor, done func(int, explorer.Measurement, error) error) error {
	device, err := m.engine.deviceName()
	if err != nil {
		return err
	}
	var h *handed
	err = mon.Persist(ctx, func() (err error) {
		h, err = m.engine.hand(ctx, on, "", mon, func(*scratch.Folder) (errand, error) {
			work, err := m.errand(ctx, device)
			work.with = m.engine.settings() // as without workers
			work.spec.Weights = work.with.weights()
			return work, err
		})
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		if failed := h.Close(); failed != nil {
			mon.Note("measuring: ending the work of others: " + failed.Error())
		}
	}()
	s := scoring{m: m, h: h, load: load, asked: asked, mon: mon, done: done, takes: make([]take, len(asked)), passages: make([]passage, len(asked)), files: map[string]remote.File{}}
	s.pieces = h.NewPieces(s.arrived, s.here)
	mon.Progress(0, float64(len(asked)), "measurements", "")
	for i := range asked {
		if err := mon.Persist(ctx, func() error { return s.add(ctx, i) }); err != nil { // it writes what workers need
			return err
		}
	}
	s.pieces.End()
	return s.pieces.Run(ctx)
}

// scoring is one ScoreAll.
type scoring struct {
	m        *model
	h        *handed
	load     func(context.Context, int) (gguf.Subnet, error)
	asked    []explorer.ScoreRequest
	mon      explorer.Monitor
	done     func(int, explorer.Measurement, error) error
	pieces   *remote.Pieces
	takes    []take
	passages []passage
	files    map[string]remote.File // offered, by their paths
	ended    int
}

// add hands a measurement out.
func (s *scoring) add(ctx context.Context, i int) error {
	r := s.asked[i]
	sub, err := s.load(ctx, i)
	if err != nil {
		return err
	}
	if s.passages[i], s.takes[i], err = s.m.passageOf(ctx, sub, r, s.mon); err != nil {
		return err
	}
	ask := scoreSettings{Engine: r.Engine, Type: r.Type, Dense: r.Against == explorer.AgainstDense}
	p := s.passages[i]
	data, err := json.Marshal(storedPassage{p.windows, p.from, p.kept})
	if err != nil {
		return err
	}
	text := s.h.folder.Join("passage-" + strconv.Itoa(i))
	if err := os.WriteFile(text, data, 0o600); err != nil {
		return err
	}
	dir := s.h.folder.Join("subnets")
	name, _, err := workspace.Weights{Path: dir}.Save(sub)
	if err != nil {
		return err
	}
	paths := []string{text, filepath.Join(dir, name)}
	if r.Against != "" && !ask.Dense {
		ask.Reference = true
		paths = append(paths, r.Against)
	}
	piece := remote.Piece{Kind: piecePerplexity}
	for _, path := range paths {
		f, err := s.offer(ctx, path)
		if err != nil {
			return err
		}
		piece.Files = append(piece.Files, f)
	}
	if piece.Settings, err = json.Marshal(ask); err != nil {
		return err
	}
	return s.pieces.Add(i, fmt.Sprintf("measurement %d", i+1), piece)
}

// offer makes a file available to workers.
func (s *scoring) offer(ctx context.Context, path string) (remote.File, error) {
	if f, known := s.files[path]; known {
		return f, nil
	}
	f, err := remote.HashFile(ctx, path)
	if err != nil {
		return f, err
	}
	if err := s.h.offer(errand{offers: map[string]remote.File{path: f}}); err != nil {
		return f, err
	}
	s.files[path] = f
	return f, nil
}

// arrived takes a measurement over.
func (s *scoring) arrived(ctx context.Context, i int, p remote.Product) error {
	var got scored
	if err := json.Unmarshal(p.Value, &got); err != nil {
		return fmt.Errorf("%w of %s: %w", remote.ErrProduct, p.Worker, err)
	}
	if !(got.Perplexity.Perplexity > 0) || got.Perplexity.Tokens < 1 || (got.Distance != nil) != (s.asked[i].Against != "") {
		return fmt.Errorf("%w of %s: perplexity %v on %d tokens", remote.ErrProduct, p.Worker, got.Perplexity.Perplexity, got.Perplexity.Tokens)
	}
	if err := s.mon.Gate(ctx); err != nil {
		return err
	}
	return s.measured(i, got, nil)
}

func (s *scoring) measured(i int, got scored, failed error) error {
	var of explorer.Measurement
	if failed == nil {
		of = s.m.measurement(s.asked[i], s.passages[i], s.takes[i], got)
		of.Seconds = got.Seconds
	}
	if err := s.done(i, of, failed); err != nil {
		return err
	}
	s.ended++
	s.mon.Progress(float64(s.ended), float64(len(s.asked)), "measurements", "")
	return nil
}

// here measures what no worker could.
func (s *scoring) here(ctx context.Context, i int, _ string) error {
	sub, err := s.load(ctx, i)
	if err != nil {
		return err
	}
	began := time.Now()
	got, err := withRoom(ctx, s.m, room{shared: true}, s.mon, func(bool) (scored, error) {
		return s.m.scorePassage(ctx, sub, s.asked[i], s.passages[i], s.mon)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	got.Seconds = time.Since(began).Seconds()
	return s.measured(i, got, err)
}

// deviceName is the kind of device that computes here.
func (e *Engine) deviceName() (string, error) {
	device, err := e.open(e.device())
	if err != nil {
		return "", err
	}
	defer device.Close()
	return device.Name(), nil
}
