package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/quality"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Score implements [explorer.Scorer].
func (m *model) Score(ctx context.Context, s gguf.Subnet, r explorer.ScoreRequest, mon explorer.Monitor) (explorer.Measurement, error) {
	path, err := m.text(r.Text)
	if err != nil {
		return explorer.Measurement{}, err
	}
	t := take{windows: r.Windows, seq: orDefault(r.Seq, defaultSeq), fromEnd: r.HeldOut, bos: r.BOS}
	if trained := m.Info().Context; trained > 0 && t.seq > trained {
		mon.Note(fmt.Sprintf("windows of %d tokens are longer than the %d that the model was trained on", t.seq, trained))
	}
	if r.HeldOut {
		t.windows = orDefault(r.Windows, defaultHeldOut)
	}
	mon.Progress(0, 0, "tokens", "tokenising")
	p, err := m.passage(ctx, path, t)
	if err != nil {
		return explorer.Measurement{}, err
	}
	c := explorer.Conditions{Text: p.ref, Seq: t.seq, Windows: len(p.windows), Engine: r.Engine, Ratio: "block parameters"}
	if c.BOS = p.start != explorer.BOSNone; p.start == explorer.BOSEvery {
		c.Starts = explorer.BOSEvery
	}
	if c.Engine == "" {
		c.Engine = explorer.EngineDecoder
	}
	var q quality.PerplexityResult
	if c.Engine == explorer.EngineLlama {
		if err := m.info.Runs(); err != nil {
			return explorer.Measurement{}, err
		}
		q, c.Type, err = m.scoreLlama(ctx, s, r, p, mon)
	} else {
		q, err = m.scoreDecoder(ctx, s, p, mon)
		c.Type = "F32 from " + m.info.Type()
	}
	if err != nil {
		return explorer.Measurement{}, err
	}
	c.Tokens = q.Tokens
	return explorer.Measurement{Conditions: c, NLL: q.NLL, Perplexity: q.Perplexity, StandardError: q.Err}, nil
}

// defaultHeldOut is the default number of windows at the end of the calibration text that are measured on.
const defaultHeldOut = 2

// scoreDecoder scores a subnet with the graphs that search computes with.
func (m *model) scoreDecoder(ctx context.Context, s gguf.Subnet, p passage, mon explorer.Monitor) (quality.PerplexityResult, error) {
	dm, err := m.weights(ctx)
	if err != nil {
		return quality.PerplexityResult{}, err
	}
	subnet, err := dm.Subnet(ctx, s)
	if err != nil {
		return quality.PerplexityResult{}, err
	}
	defer subnet.Close()
	return perplexity(ctx, p, graphScorer(dm, subnet), mon, "scoring")
}

// graphScorer scores windows with the graphs.
func graphScorer(dm *decoder.Model, s *decoder.Subnet) quality.Scorer {
	return func(ctx context.Context, w quality.Window, _ func(int)) ([]float32, error) {
		nll, err := dm.LogProbs(ctx, s, w.Tokens)
		if err != nil {
			return nil, err
		}
		for i := range nll {
			nll[i] = -nll[i]
		}
		return nll[w.From-1:], nil
	}
}

// perplexity scores a passage window by window, so that the work can be paused between them.
func perplexity(ctx context.Context, p passage, score quality.Scorer, mon explorer.Monitor, step string) (quality.PerplexityResult, error) {
	windows := make([]quality.Window, len(p.windows))
	for i, w := range p.windows {
		windows[i] = quality.Window{Tokens: w, From: 1}
	}
	return quality.Perplexity(ctx, windows, score, quality.PerplexityOptions{Gate: mon.Gate, Progress: func(q infer.Progress) {
		mon.Progress(float64(q.Done), float64(q.Total), "tokens", step)
	}})
}

// scoreCut scores a file that was cut from the model with the graphs, as a model of its own.
func (m *model) scoreCut(ctx context.Context, path string, p passage, mon explorer.Monitor) (quality.PerplexityResult, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return quality.PerplexityResult{}, err
	}
	defer func() { _ = f.Close() }() // only read from
	whole, err := m.weights(ctx)
	if err != nil {
		return quality.PerplexityResult{}, err
	}
	cut, err := m.engine.decode(ctx, whole.Device(), f)
	if err != nil {
		return quality.PerplexityResult{}, err
	}
	defer cut.Close()
	s := cut.Dense()
	defer s.Close()
	return perplexity(ctx, p, graphScorer(cut, s), mon, "scoring")
}

// scoreLlama scores a subnet with llama.cpp: the model's own file for the dense model as it is, a scratch file otherwise.
// typ is the tensor type of the scored file.
func (m *model) scoreLlama(ctx context.Context, s gguf.Subnet, r explorer.ScoreRequest, p passage, mon explorer.Monitor) (q quality.PerplexityResult, typ string, err error) {
	path, typ := m.file.Path(), m.info.Type()
	if !s.Masks.Equal(subnet.Dense(m.geometry())) || s.Refit != nil || r.Type != "" {
		dir, err := scratch.New(m.engine.options.Scratch, "score")
		if err != nil {
			return q, "", err
		}
		defer func() { err = errors.Join(err, dir.Remove()) }()
		path = dir.Join("subnet.gguf")
		report, err := m.Write(ctx, s, path, r.Type, mon)
		if err != nil {
			return q, "", err
		}
		if r.Type != "" {
			typ = r.Type
		}
		if n := len(report.Fallbacks); n > 0 {
			f := report.Fallbacks[0]
			mon.Note(fmt.Sprintf("%d tensors of the scored file have another type than %s, the first, %s, %s: %s", n, f.Want, f.Tensor, f.Got, f.Reason))
			if named := typeName(path); named != "" {
				typ = named
			}
		}
	}
	q, err = m.scoreFile(ctx, path, p, mon)
	return q, typ, err
}

// scoreFile scores a model file with llama.cpp, or with the graphs where llama.cpp does not run it.
func (m *model) scoreFile(ctx context.Context, path string, p passage, mon explorer.Monitor) (q quality.PerplexityResult, err error) {
	if m.info.NoRuntime != "" {
		return m.scoreCut(ctx, path, p, mon)
	}
	o := infer.Defaults(path)
	o.Context = len(p.windows[0])
	model, err := m.engine.runtime.Load(ctx, o, nil)
	if err != nil {
		return q, err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	q, err = perplexity(ctx, p, quality.ModelScorer(model), mon, "")
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return q, err
}

// typeName returns the name of the type of a file, "" where it has none.
func typeName(path string) string {
	f, err := gguf.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read from
	return f.TypeName()
}
