package workbench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/search/mask"
)

// Bounds of Verify.
const (
	verifySeq       = 512
	verifyTolerance = 5e-3 // relative difference of perplexities: engines round otherwise, and so do cut rows of quantised types
)

// Verify checks that a file is what it says: a subnet of the source, whole, of the shapes its masks promise, with the
// source's own rows, and that it computes what the source with these masks computes. Every check that could be made is
// returned; the error is for what could not.
func (b *Bench) Verify(ctx context.Context, path, source string, mon explorer.Monitor) (_ []Check, err error) {
	opened, err := b.Open(ctx, source)
	if err != nil {
		return nil, err
	}
	m := opened.(*model)
	defer func() { err = errors.Join(err, m.Close()) }()
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from

	checks := []Check{{Name: "source", State: Works, Found: source}}
	if err := m.madeFromThis(ctx, f); errors.Is(err, gguf.ErrMissing) {
		return nil, err
	} else if err != nil {
		return append(checks[:0], failed("source", err)), nil
	}
	s, err := m.Read(ctx, path)
	if err != nil {
		return append(checks, failed("shapes", err)), nil
	}
	checks = append(checks, m.verifyShapes(f, s.Masks))
	rows, err := m.verifyRows(ctx, f, s.Masks)
	if err != nil {
		return checks, err
	}
	checks = append(checks, rows)
	computes, err := m.verifyLogits(ctx, path, s, mon)
	return append(checks, computes), err
}

func failed(name string, err error) Check {
	return Check{Name: name, State: Broken, Found: err.Error()}
}

// verifyShapes compares the counts in a file's header with those that its masks lead to.
func (m *model) verifyShapes(f *gguf.File, masks mask.Masks) Check {
	config, err := f.Config()
	if err != nil {
		return failed("shapes", err)
	}
	cut := masks.Cut()
	if len(config.Layers) != len(cut.Layers) || config.HeadDim != cut.HeadDim {
		return failed("shapes", fmt.Errorf("%d layers with heads of %d, the masks lead to %d with heads of %d", len(config.Layers), config.HeadDim, len(cut.Layers), cut.HeadDim))
	}
	for i, l := range cut.Layers {
		want := mask.LayerGeometry{Heads: len(l.Heads), KVHeads: len(l.Groups), FFN: len(l.Channels)}
		if config.Layers[i] != want {
			return failed("shapes", fmt.Errorf("layer %d has %+v, the masks lead to %+v", i, config.Layers[i], want))
		}
	}
	return Check{Name: "shapes", State: Works, Found: fmt.Sprintf("%d layers, %.3f of the source's block parameters", len(cut.Layers), masks.Size().Ratio)}
}

// verifyRows compares rows that cutting copies, the MLP's gates, with the source's, where both are of one type.
func (m *model) verifyRows(ctx context.Context, f *gguf.File, masks mask.Masks) (Check, error) {
	compared := 0
	for i, l := range masks.Cut().Layers {
		if err := ctx.Err(); err != nil {
			return Check{}, err
		}
		name, of := fmt.Sprintf("blk.%d.ffn_gate.weight", i), fmt.Sprintf("blk.%d.ffn_gate.weight", l.Source)
		got, ok := f.Tensor(name)
		want, there := m.file.Tensor(of)
		if !ok || !there || got.Type != want.Type {
			continue
		}
		have, dims, err := f.Float32(name)
		if err != nil {
			return Check{}, err
		}
		own, _, err := m.file.Float32(of)
		if err != nil {
			return Check{}, err
		}
		width := dims[1]
		for j, c := range l.Channels {
			row := have[j*width : (j+1)*width]
			if c == mask.Zero {
				if slices.ContainsFunc(row, func(v float32) bool { return v != 0 }) {
					return failed("weights", fmt.Errorf("tensor %q: row %d is of no unit and not zero", name, j)), nil
				}
				continue
			}
			if !slices.Equal(row, own[c*width:(c+1)*width]) {
				return failed("weights", fmt.Errorf("tensor %q: row %d is not row %d of the source's %q", name, j, c, of)), nil
			}
			compared++
		}
	}
	if compared == 0 {
		return Check{Name: "weights", State: Absent, Found: "the file is of another type than the source, so rows cannot be compared"}, nil
	}
	return Check{Name: "weights", State: Works, Found: fmt.Sprintf("%d rows that cutting copies are those of the source", compared)}, nil
}

// verifyLogits compares the perplexity of the file in llama.cpp with that of the source with these masks and weights in
// the graphs that search computes with.
func (m *model) verifyLogits(ctx context.Context, path string, s gguf.Subnet, mon explorer.Monitor) (Check, error) {
	text, err := m.text("")
	if err != nil {
		return Check{Name: "computes", State: Absent, Found: strings.TrimSpace(err.Error())}, nil
	}
	seq := min(verifySeq, m.Info().Context)
	p, err := m.passage(ctx, text, take{windows: 1, seq: seq})
	if err != nil {
		return Check{}, err
	}
	want, err := m.perplexity(ctx, s, p, mon)
	if err != nil {
		return Check{}, err
	}
	nll, tokens, err := m.scoreFile(ctx, path, p, mon)
	if err != nil {
		return failed("computes", err), nil
	}
	got := math.Exp(nll / float64(tokens))
	found := fmt.Sprintf("perplexity %.4f in llama.cpp, %.4f of the source with these masks, on %d tokens", got, want, tokens)
	if !(math.Abs(got/want-1) <= verifyTolerance) {
		return Check{Name: "computes", State: Broken, Found: found}, nil
	}
	return Check{Name: "computes", State: Works, Found: found}, nil
}
