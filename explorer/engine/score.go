package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/quality"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Score implements [explorer.Scorer].
func (m *model) Score(ctx context.Context, s gguf.Subnet, r explorer.ScoreRequest, mon explorer.Monitor) (explorer.Measurement, error) {
	return withRoom(ctx, m, room{shared: true}, mon, func(bool) (explorer.Measurement, error) { return m.scoreOnce(ctx, s, r, mon) })
}

func (m *model) scoreOnce(ctx context.Context, s gguf.Subnet, r explorer.ScoreRequest, mon explorer.Monitor) (explorer.Measurement, error) {
	p, t, err := m.passageOf(ctx, s, r, mon)
	if err != nil {
		return explorer.Measurement{}, err
	}
	got, err := m.scorePassage(ctx, s, r, p, mon)
	if err != nil {
		return explorer.Measurement{}, err
	}
	return m.measurement(r, p, t, got), nil
}

// passageOf returns the passage of a request.
func (m *model) passageOf(ctx context.Context, s gguf.Subnet, r explorer.ScoreRequest, mon explorer.Monitor) (passage, take, error) {
	path, err := m.text(r.Text)
	if err != nil {
		return passage{}, take{}, err
	}
	t := take{windows: r.Windows, seq: orDefault(r.Seq, defaultSeq), stride: r.Stride, fromEnd: r.HeldOut, bos: r.BOS, kept: keptOf(s.Masks), span: r.Span}
	if trained := m.Info().Context; trained > 0 && t.seq > trained {
		mon.Note(fmt.Sprintf("windows of %d tokens are longer than the %d that the model was trained on", t.seq, trained))
	}
	if r.HeldOut {
		t.windows = orDefault(r.Windows, defaultHeldOut)
	}
	mon.Progress(0, 0, "tokens", "tokenising")
	p, err := m.passage(ctx, path, t)
	return p, t, err
}

// scored is what was measured of a passage.
type scored struct {
	Perplexity quality.PerplexityResult
	Distance   *quality.Comparison `json:",omitempty"`
	Type       string              // of the tensors
	Half       bool                `json:",omitempty"` // computed with weights as explorer.HalfFloats
	Seconds    float64             `json:",omitempty"` // that a worker took
}

// scorePassage scores a subnet on a passage. Of r it needs what scores, the type and the reference.
func (m *model) scorePassage(ctx context.Context, s gguf.Subnet, r explorer.ScoreRequest, p passage, mon explorer.Monitor) (got scored, err error) {
	if r.Engine == explorer.EngineLlama {
		if err := m.info.Runs(); err != nil {
			return got, err
		}
		got.Perplexity, got.Distance, got.Type, err = m.scoreLlama(ctx, s, r, p, mon)
		return got, err
	}
	got.Perplexity, got.Distance, err = m.scoreDecoder(ctx, s, r.Against, p, mon)
	got.Type, got.Half = m.typeOfScore(s), m.loadedWith().half
	return got, err
}

// measurement describes what was measured.
func (m *model) measurement(r explorer.ScoreRequest, p passage, t take, of scored) explorer.Measurement {
	c := explorer.Conditions{Text: p.ref, Seq: t.seq, Windows: len(p.windows), Engine: r.Engine, Ratio: "block parameters"}
	if p.from != nil {
		c.Stride = r.Stride
	}
	if c.BOS = p.start != explorer.BOSNone; p.start == explorer.BOSEvery {
		c.Starts = explorer.BOSEvery
	}
	if c.Engine == "" {
		c.Engine = explorer.EngineDecoder
	}
	if of.Half {
		c.ComputeType = explorer.HalfFloats
	}
	q := of.Perplexity
	c.Type, c.Tokens, c.Vocab = of.Type, q.Tokens, len(p.kept)
	got := explorer.Measurement{Conditions: c, NLL: q.NLL, Perplexity: q.Perplexity, StandardError: q.Err, Bytes: m.textBytes(p)}
	if d := of.Distance; d != nil {
		got.Distance = &explorer.Distance{
			From: r.Against, KL: d.KL, KLError: d.KLErr, Agreement: d.Agreement, AgreementError: d.AgreementErr,
			Reference: d.Reference.Perplexity, Relative: d.Relative, RelativeError: d.RelativeErr,
		}
		if r.Against == explorer.AgainstDense && r.Type == "" {
			got.Dense = d.Reference.Perplexity
		}
	}
	return got
}

// defaultHeldOut is the default number of windows at the end of the calibration text that are measured on.
const defaultHeldOut = 2

// scoreDecoder scores a subnet with the graphs that search computes with, and measures its distance from what against names.
func (m *model) scoreDecoder(ctx context.Context, s gguf.Subnet, against string, p passage, mon explorer.Monitor) (q quality.PerplexityResult, d *quality.Comparison, err error) {
	err = m.withSubnet(ctx, s, p.kept, mon, func(own *decoder.Model, subnet *decoder.Subnet) error {
		switch against {
		case "":
			score := graphScorer(own, subnet)
			if p.kept != nil && s.Types == nil { // a file has the kept vocabulary
				score = predictionScorer(keptPredictor(own, subnet, p.kept))
			}
			q, err = perplexity(ctx, p, score, mon, "scoring")
			return err
		case explorer.AgainstDense:
			dm, err := m.weights(ctx)
			if err != nil {
				return err
			}
			dense := dm.Dense()
			defer dense.Close()
			q, d, err = distance(ctx, p, graphPredictor(dm, dense), graphPredictor(own, subnet), mon)
			return err
		}
		return m.withCut(ctx, against, nil, func(reference *decoder.Model, dense *decoder.Subnet) error {
			q, d, err = distance(ctx, p, graphPredictor(reference, dense), graphPredictor(own, subnet), mon)
			return err
		})
	})
	return q, d, err
}

// graphPredictor predicts with the graphs.
func graphPredictor(dm *decoder.Model, s *decoder.Subnet) quality.Predictor {
	return quality.LogitPredictor(dm.Config().Vocab, func(ctx context.Context, window []int32, visit func(int, []float32) error) error {
		return dm.EachLogits(ctx, s, window, visit)
	})
}

// keptPredictor predicts tokens of a smaller vocabulary with the graphs: over its entries, which are kept of the model's vocabulary.
func keptPredictor(dm *decoder.Model, s *decoder.Subnet, kept []int) quality.Predictor {
	if kept == nil {
		return graphPredictor(dm, s)
	}
	all := dm.Config().Vocab
	return quality.LogitPredictor(len(kept), func(ctx context.Context, window []int32, visit func(int, []float32) error) error {
		ids := make([]int32, len(window))
		for i, token := range window {
			if token < 0 || int(token) >= len(kept) {
				return fmt.Errorf("token %d of %d: %w", token, len(kept), infer.ErrBadToken)
			}
			ids[i] = int32(kept[token])
		}
		return dm.EachLogits(ctx, s, ids, func(first int, part []float32) error {
			own := make([]float32, 0, len(part)/all*len(kept))
			for row := range slices.Chunk(part, all) {
				for _, id := range kept {
					own = append(own, row[id])
				}
			}
			return visit(first, own)
		})
	})
}

// predictionScorer scores windows with a predictor.
func predictionScorer(predict quality.Predictor) quality.Scorer {
	return func(ctx context.Context, w quality.Window, progress func(int)) ([]float32, error) {
		positions, err := predict(ctx, w, quality.Ask{}, progress)
		if err != nil {
			return nil, err
		}
		nll := make([]float32, len(positions))
		for i, p := range positions {
			nll[i] = p.NLL
		}
		return nll, nil
	}
}

// distance compares the distributions of two models on a passage.
func distance(ctx context.Context, p passage, reference, model quality.Predictor, mon explorer.Monitor) (quality.PerplexityResult, *quality.Comparison, error) {
	d, err := quality.Compare(ctx, p.scored(), reference, model, following(mon, "comparing"))
	return d.Model, &d, err
}

// following reports a measurement to a monitor, which can pause it between windows.
func following(mon explorer.Monitor, step string) quality.PerplexityOptions {
	return quality.PerplexityOptions{Gate: mon.Gate, Progress: func(q infer.Progress) {
		mon.Progress(float64(q.Done), float64(q.Total), "tokens", step)
	}}
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
	return quality.Perplexity(ctx, p.scored(), score, following(mon, step))
}

// scoreCut scores a file that was cut from the model with the graphs, as a model of its own.
func (m *model) scoreCut(ctx context.Context, path string, p passage, mon explorer.Monitor) (q quality.PerplexityResult, err error) {
	err = m.withCut(ctx, path, p.kept, func(dm *decoder.Model, s *decoder.Subnet) error {
		q, err = perplexity(ctx, p, graphScorer(dm, s), mon, "scoring")
		return err
	})
	return q, err
}

// withCut calls use with another model file, loaded for computing. Its vocabulary must be that of the model, or the kept entries of it.
func (m *model) withCut(ctx context.Context, path string, kept []int, use func(*decoder.Model, *decoder.Subnet) error) error {
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read from
	if err := sameVocabulary(m.file, f, kept); err != nil {
		return err
	}
	whole, err := m.weights(ctx)
	if err != nil {
		return err
	}
	cut, err := m.decode(ctx, whole.Device(), f)
	if err != nil {
		return err
	}
	defer cut.Close()
	s := cut.Dense()
	defer s.Close()
	return use(cut, s)
}

// sameVocabulary returns an error unless the tokens of b are those of a, or the kept ones of them where kept is not nil.
func sameVocabulary(a, b *gguf.File, kept []int) error {
	const key = "tokenizer.ggml.tokens"
	x, _ := a.KV().Strings(key)
	y, _ := b.KV().Strings(key)
	if kept != nil {
		own := make([]string, 0, len(kept))
		for _, id := range kept {
			if id < len(x) {
				own = append(own, x[id])
			}
		}
		x = own
	}
	if !slices.Equal(x, y) {
		return fmt.Errorf("%w: %s and %s have different vocabularies: their distributions do not compare", explorer.ErrUnsupported, a.Path(), b.Path())
	}
	return nil
}

// scoreLlama scores a subnet with llama.cpp: the model's own file for the dense model as it is, a scratch file otherwise. It
// measures the distance from what r.Against names. typ is the tensor type of the scored file.
func (m *model) scoreLlama(ctx context.Context, s gguf.Subnet, r explorer.ScoreRequest, p passage, mon explorer.Monitor) (q quality.PerplexityResult, d *quality.Comparison, typ string, err error) {
	path, typ := m.file.Path(), m.info.Type()
	if !s.Masks.Equal(subnet.Dense(m.geometry())) || s.Refit != nil || s.Types != nil || r.Type != "" {
		dir, failed := scratch.New(m.engine.options.Scratch, "score")
		if failed != nil {
			return q, nil, "", failed
		}
		defer func() { err = errors.Join(err, dir.Remove()) }()
		path = dir.Join("subnet.gguf")
		report, failed := m.Write(ctx, s, path, r.Type, mon)
		if failed != nil {
			return q, nil, "", failed
		}
		switch {
		case r.Type != "":
			typ = r.Type
		case s.Types != nil:
			typ = explorer.MixedTypes
		}
		if n := len(report.Fallbacks); n > 0 {
			f := report.Fallbacks[0]
			mon.Note(fmt.Sprintf("%s of the scored file have not the type %s, the first, %s, %s: %s", format.Counted(n, "tensor"), f.Want, f.Tensor, f.Got, f.Reason))
			if named := typeName(path); named != "" {
				typ = named
			}
		}
	}
	switch r.Against {
	case "":
		q, err = m.scoreFile(ctx, path, p, mon)
	case explorer.AgainstDense:
		q, d, err = m.compareFiles(ctx, m.file.Path(), path, p, mon)
	default:
		q, d, err = m.compareFiles(ctx, r.Against, path, p, mon)
	}
	return q, d, typ, err
}

// compareFiles compares a model file with a reference, both in llama.cpp.
func (m *model) compareFiles(ctx context.Context, reference, path string, p passage, mon explorer.Monitor) (q quality.PerplexityResult, d *quality.Comparison, err error) {
	f, err := gguf.Open(reference)
	if err != nil {
		return q, nil, err
	}
	err = errors.Join(sameVocabulary(m.file, f, p.kept), f.Close())
	if err != nil {
		return q, nil, err
	}
	err = m.withFile(ctx, reference, p, mon, func(reference infer.Model) error {
		return m.withFile(ctx, path, p, mon, func(model infer.Model) error {
			q, d, err = distance(ctx, p, quality.ModelPredictor(reference), quality.ModelPredictor(model), mon)
			return err
		})
	})
	return q, d, err
}

// withFile calls use with a model file loaded in llama.cpp, with a context for the windows of a passage.
func (m *model) withFile(ctx context.Context, path string, p passage, mon explorer.Monitor, use func(infer.Model) error) (err error) {
	o := infer.Defaults(path)
	o.Context = len(p.windows[0])
	model, err := m.engine.run(ctx, m.engine.runtime, o, nil)
	if err != nil {
		return err
	}
	if m.engine.runner != m.engine.runtime {
		mon.Note("llama-server computes no log-probabilities of texts: the built-in llama.cpp computes them")
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	err = use(model)
	if fallback := model.Info().Fallback; fallback != "" {
		mon.Note("without the GPU: " + fallback)
	}
	return err
}

// scoreFile scores a model file with llama.cpp, or with the graphs where llama.cpp does not run it.
func (m *model) scoreFile(ctx context.Context, path string, p passage, mon explorer.Monitor) (q quality.PerplexityResult, err error) {
	if m.info.NoRuntime != "" {
		return m.scoreCut(ctx, path, p, mon)
	}
	err = m.withFile(ctx, path, p, mon, func(model infer.Model) error {
		if q, err = perplexity(ctx, p, quality.ModelScorer(model), mon, ""); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
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
