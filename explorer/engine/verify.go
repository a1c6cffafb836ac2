package engine

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Bounds of Verify.
const (
	verifySeq       = 512
	verifyTolerance = 5e-3 // relative difference of perplexities: engines round otherwise, and so do cut rows of quantised types
)

// Verify checks that a file is the subnet of the source that its metadata describes, tensor by tensor, and that it computes, in
// llama.cpp where that runs it, what the source with the same masks and weights computes in the graphs that search works with. See
// [gguf.Verify]; texts and engines that are not there leave the last check out.
func (e *Engine) Verify(ctx context.Context, path, source string, mon explorer.Monitor) (_ gguf.Verification, err error) {
	opened, err := e.Open(ctx, source)
	if err != nil {
		return gguf.Verification{}, err
	}
	m := opened.(*model)
	defer func() { err = errors.Join(err, m.Close()) }()
	f, err := gguf.Open(path)
	if err != nil {
		return gguf.Verification{}, err
	}
	defer func() { _ = f.Close() }() // only read from
	o := gguf.VerifyOptions{Source: m.file, Tolerance: verifyTolerance, Progress: func(done, total int64) {
		mon.Progress(float64(done), float64(total), "bytes", "comparing")
	}}
	if text, err := m.text(""); err == nil {
		o.Logits = func(ctx context.Context, _ subnet.Masks) (float64, string, error) {
			return m.compare(ctx, path, text, mon)
		}
	}
	return gguf.Verify(ctx, f, o)
}

// compare takes the perplexity of a file and of the subnet that it holds, and returns their relative difference.
func (m *model) compare(ctx context.Context, path, text string, mon explorer.Monitor) (difference float64, compared string, err error) {
	s, err := m.Read(ctx, path)
	if err != nil {
		return 0, "", err
	}
	p, err := m.passage(ctx, text, take{windows: 1, seq: min(verifySeq, m.Info().Context)})
	if err != nil {
		return 0, "", err
	}
	want, err := m.perplexity(ctx, s, p, mon)
	if err != nil {
		return 0, "", err
	}
	got, err := m.scoreFile(ctx, path, p, mon)
	if err != nil {
		return 0, "", err
	}
	engine := "llama.cpp"
	if m.info.NoRuntime != "" {
		engine = "lathe's graphs"
	}
	return math.Abs(got.Perplexity/want - 1), fmt.Sprintf("perplexity %.4f in %s, %.4f of the source with these masks, on %d tokens", got.Perplexity, engine, want, got.Tokens), nil
}
