package engine

import (
	"context"
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// Score implements [explorer.Scorer].
func (m *model) Score(ctx context.Context, s gguf.Subnet, r explorer.ScoreRequest, mon explorer.Monitor) (explorer.Measurement, error) {
	path, err := m.text(r.Text)
	if err != nil {
		return explorer.Measurement{}, err
	}
	t := take{windows: r.Windows, seq: orDefault(r.Seq, defaultSeq), fromEnd: r.HeldOut}
	if r.HeldOut {
		t.windows = orDefault(r.Windows, defaultHeldOut)
	}
	mon.Progress(0, 0, "tokens", "tokenising")
	p, err := m.passage(ctx, path, t)
	if err != nil {
		return explorer.Measurement{}, err
	}
	c := explorer.Conditions{Text: p.ref, Seq: t.seq, Windows: len(p.windows), BOS: p.bos, Engine: r.Engine, Ratio: "block parameters"}
	if c.Engine == "" {
		c.Engine = explorer.EngineDecoder
	}
	var nll float64
	if c.Engine == explorer.EngineLlama {
		if err := m.info.Runs(); err != nil {
			return explorer.Measurement{}, err
		}
		nll, c.Tokens, c.Type, err = m.scoreLlama(ctx, s, r, p, mon)
	} else {
		nll, c.Tokens, err = m.scoreDecoder(ctx, s, p, mon)
		c.Type = "F32 from " + m.Info().FileType
	}
	if err != nil {
		return explorer.Measurement{}, err
	}
	mean := nll / float64(c.Tokens)
	return explorer.Measurement{Conditions: c, NLL: mean, Perplexity: math.Exp(mean)}, nil
}

// defaultHeldOut is how many windows at the end of the calibration text are measured on where nothing else was said.
const defaultHeldOut = 2

// scoreDecoder scores a subnet with the graphs that search computes with.
func (m *model) scoreDecoder(ctx context.Context, s gguf.Subnet, p passage, mon explorer.Monitor) (nll float64, tokens int, err error) {
	dm, err := m.weights(ctx)
	if err != nil {
		return 0, 0, err
	}
	subnet, err := dm.Subnet(ctx, s)
	if err != nil {
		return 0, 0, err
	}
	defer subnet.Close()
	return m.score(ctx, dm, subnet, p, mon)
}

// score scores window after window, so that the work can be paused between them.
func (m *model) score(ctx context.Context, dm *decoder.Model, s *decoder.Subnet, p passage, mon explorer.Monitor) (nll float64, tokens int, err error) {
	total := len(p.windows) * len(p.windows[0])
	for i, w := range p.windows {
		if err := mon.Gate(ctx); err != nil {
			return 0, 0, err
		}
		mon.Progress(float64(i*len(w)), float64(total), "tokens", "scoring")
		got, err := dm.Score(ctx, s, [][]int32{w})
		if err != nil {
			return 0, 0, err
		}
		if math.IsNaN(got.NLL) || math.IsInf(got.NLL, 0) {
			return 0, 0, fmt.Errorf("window %d: the likelihood is no number", i)
		}
		nll, tokens = nll+got.NLL, tokens+got.Tokens
	}
	mon.Progress(float64(total), float64(total), "tokens", "scoring")
	return nll, tokens, nil
}

// scoreCut scores a file cut from the model with the graphs, as the model that it is.
func (m *model) scoreCut(ctx context.Context, path string, p passage, mon explorer.Monitor) (nll float64, tokens int, err error) {
	f, err := gguf.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.Close() }() // only read from
	whole, err := m.weights(ctx)
	if err != nil {
		return 0, 0, err
	}
	cut, err := m.bench.decode(ctx, whole.Backend(), f)
	if err != nil {
		return 0, 0, err
	}
	defer cut.Close()
	s := cut.Dense()
	defer s.Close()
	return m.score(ctx, cut, s, p, mon)
}
