package engine

import (
	"cmp"
	"context"
	"errors"
	"math"
	"os"
	"slices"
	"strconv"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/memory"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

const (
	timedMost    = 128  // tokens generated at a time
	timedRepeats = 6    // times of a round
	timedSeconds = 0.04 // about how long one time takes; longer ones would more often contain other work
	firstTokens  = 4    // generated to find how many there are in a second
)

// measureTimes measures the times per token with matrices of a type.
func measureTimes(ctx context.Context, m *model, typ string, mon explorer.Monitor) (_ search.Times, err error) {
	folder, err := scratch.New(m.engine.options.Scratch, "times")
	if err != nil {
		return search.Times{}, err
	}
	all := timedModels{m: m, typ: typ, folder: folder, free: memory.Free() / 2}
	defer func() { err = errors.Join(err, all.close(), folder.Remove()) }()
	mon.Progress(0, 0, "rounds", "times per token: the dense model")
	perSecond := 0.0
	run := func(ctx context.Context, s subnet.Masks) ([]float64, error) {
		if err := mon.Gate(ctx); err != nil {
			return nil, err
		}
		loaded, err := all.load(ctx, s, mon)
		if err != nil {
			return nil, err
		}
		if perSecond == 0 {
			first, err := perToken(ctx, loaded, firstTokens, 1)
			if err != nil {
				return nil, err
			}
			perSecond = 1 / first[0]
		}
		return perToken(ctx, loaded, int(min(max(timedSeconds*perSecond, 2), timedMost)), timedRepeats)
	}
	return search.MeasureTimes(ctx, m.geometry(), run, func(round, rounds int) {
		mon.Progress(float64(round), float64(rounds), "rounds", "times per token of cuts")
	})
}

// timedModels are the models that are timed, as files and where memory allows loaded, so that each can generate in turn.
type timedModels struct {
	m      *model
	typ    string
	folder *scratch.Folder
	free   int64         // bytes that loaded models may have; 0 where that is unknown
	list   []*timedModel // the one that was used last at the end
	next   int           // of file names
}

type timedModel struct {
	masks  subnet.Masks
	path   string // "" where there is no file
	bytes  int64
	gpu    bool
	loaded infer.Model // nil where it is not
}

// load returns the loaded model of masks, which later calls may close.
func (a *timedModels) load(ctx context.Context, s subnet.Masks, mon explorer.Monitor) (infer.Model, error) {
	i := slices.IndexFunc(a.list, func(t *timedModel) bool { return t.masks.Equal(s) })
	t := &timedModel{masks: s}
	if i >= 0 {
		t = a.list[i]
		a.list = slices.Delete(a.list, i, i+1)
	}
	a.list = append(a.list, t)
	if t.loaded != nil {
		return t.loaded, nil
	}
	if t.path == "" {
		if err := a.write(ctx, t, mon); err != nil {
			return nil, err
		}
	}
	if err := a.unload(t.bytes); err != nil {
		return nil, err
	}
	o := infer.Defaults(t.path)
	o.Context = 2 * timedMost
	loaded, err := a.m.engine.runtime.Load(ctx, o, nil)
	if err != nil {
		return nil, err
	}
	t.loaded, t.gpu = loaded, loaded.Info().GPULayers > 0
	return loaded, nil
}

// write writes the file of the last model. Where the disk is full, the files of others make room.
func (a *timedModels) write(ctx context.Context, t *timedModel, mon explorer.Monitor) error {
	a.next++
	path := a.folder.Join("cut" + strconv.Itoa(a.next) + ".gguf")
	write := func() error {
		report, err := gguf.WriteSubnet(ctx, a.m.file, path, gguf.Subnet{Masks: t.masks}, gguf.WriteOptions{Type: a.typ})
		t.bytes = report.Bytes
		return err
	}
	err := write()
	if durable.IsFull(err) {
		if err := a.clear(a.list[:len(a.list)-1]); err != nil {
			return err
		}
		err = mon.Persist(ctx, write)
	}
	if err == nil {
		t.path = path
	}
	return err
}

// unload closes the models that were used longest ago until another of so many bytes has room. Models on a GPU are timed one at a
// time, since fewer layers of a second one may fit in its memory.
func (a *timedModels) unload(bytes int64) error {
	var held int64
	gpu := false
	for _, t := range a.list {
		if t.loaded != nil {
			held, gpu = held+t.bytes, gpu || t.gpu
		}
	}
	for _, t := range a.list {
		if limit := cmp.Or(a.free, math.MaxInt64); t.loaded == nil || !gpu && held+bytes <= limit {
			continue
		}
		held -= t.bytes
		if err := t.close(); err != nil {
			return err
		}
	}
	return nil
}

// clear closes models and removes their files.
func (a *timedModels) clear(list []*timedModel) error {
	var err error
	for _, t := range list {
		err = errors.Join(err, t.close())
		if t.path != "" {
			err = errors.Join(err, os.Remove(t.path))
			t.path = ""
		}
	}
	return err
}

func (a *timedModels) close() error { return a.clear(a.list) }

func (t *timedModel) close() error {
	if t.loaded == nil {
		return nil
	}
	err := t.loaded.Close()
	t.loaded = nil
	return err
}

// perToken returns the seconds in which a model generates one of so many tokens, some times over.
func perToken(ctx context.Context, m infer.Model, tokens, repeats int) ([]float64, error) {
	r, err := m.Bench(ctx, infer.BenchOptions{Gen: []int{tokens}, Repeats: repeats})
	if err != nil {
		return nil, err
	}
	if len(r.Rows) == 0 || len(r.Rows[0].Samples) == 0 {
		return nil, errors.New("the engine measured no speed")
	}
	seconds := make([]float64, len(r.Rows[0].Samples))
	for i, speed := range r.Rows[0].Samples {
		seconds[i] = 1 / speed
	}
	return seconds, nil
}
