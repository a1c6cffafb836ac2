package explorertest

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
)

func (m *model) Score(ctx context.Context, s gguf.Subnet, r explorer.ScoreRequest, mon explorer.Monitor) (explorer.Measurement, error) {
	text, err := m.text(r.Text)
	if err != nil {
		return explorer.Measurement{}, err
	}
	seq, windows := cmp.Or(r.Seq, 128), cmp.Or(r.Windows, 4)
	for i := range windows {
		if err := m.step(ctx, mon, i, windows, "windows", ""); err != nil {
			return explorer.Measurement{}, err
		}
	}
	loss := Loss(s.Masks)
	nll := denseNLL + loss
	if r.Stride > 0 {
		nll -= 0.1 // more context
	}
	got := explorer.Measurement{NLL: nll, Perplexity: math.Exp(nll), StandardError: 0.01 * math.Exp(nll), Conditions: explorer.Conditions{
		Text: text, Seq: seq, Windows: windows, Tokens: windows * (seq - 1), Engine: cmp.Or(r.Engine, explorer.EngineDecoder), Type: "F32", Ratio: "block parameters", Stride: r.Stride,
	}}
	if r.Span > 0 {
		got.Conditions.Tokens = int(float64(r.Span) / bytesPerToken)
	}
	got.Bytes = int64(bytesPerToken * float64(got.Conditions.Tokens))
	if s.Masks.TrimsVocab() {
		got.Conditions.Vocab = s.Masks.VocabLen()
		got.Bytes -= got.Bytes / 50 // of shorter tokens
	}
	if r.Against != "" {
		got.Distance = &explorer.Distance{
			From: r.Against, KL: loss, KLError: loss / 50, Agreement: 1 / (1 + loss), AgreementError: 0.005,
			Reference: math.Exp(denseNLL), Relative: math.Exp(loss), RelativeError: 0.002,
		}
	}
	return got, nil
}

// ScoreAll scores one after another, as if by workers.
func (m *model) ScoreAll(ctx context.Context, load func(context.Context, int) (gguf.Subnet, error), r []explorer.ScoreRequest, on explorer.Machines, mon explorer.Monitor, done func(int, explorer.Measurement, error) error) error {
	defer m.hire(on, mon)()
	for i, ask := range r {
		s, err := load(ctx, i)
		if err != nil {
			return err
		}
		got, err := m.Score(ctx, s, ask, mon)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := done(i, got, err); err != nil {
			return err
		}
	}
	return nil
}

// hire shows fake workers until its result is called. One that is drained has gone.
func (m *model) hire(on explorer.Machines, mon explorer.Monitor) (dismiss func()) {
	if !on.On() {
		return func() {}
	}
	var mu sync.Mutex
	list := workers(on)
	crew := explorer.Crew{Workers: slices.Clone(list), Queued: 2}
	crew.Drain = func(worker string) error {
		mu.Lock()
		defer mu.Unlock()
		for i := range list {
			if list[i].ID == worker {
				list[i].State = "gone"
			}
		}
		now := crew
		now.Workers = slices.Clone(list)
		mon.Workers(now)
		return nil
	}
	mon.Workers(crew)
	return func() { mon.Workers(explorer.Crew{}) }
}
