package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/quality"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// verifySeq is the number of tokens that Verify compares distributions on.
const verifySeq = 512

// The largest mean divergences that Verify accepts, in nats per token, where both sides compute from the same numbers: in the same
// graphs, and in llama.cpp, which rounds activations, keys and values to 16 bits, and activations to eight bits before it multiplies
// them by quantised matrices. On SmolLM2-135M they are 2e-11, 2e-5 and 3e-3.
const (
	verifyGraphs    = 1e-4
	verifyFloat     = 1e-3
	verifyQuantised = 3e-2
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
	o := gguf.VerifyOptions{Source: m.file, Progress: func(done, total int64) {
		mon.Progress(float64(done), float64(total), "bytes", "comparing")
	}}
	if text, err := m.text(""); err == nil {
		o.Distributions = func(ctx context.Context, _ subnet.Masks) ([]gguf.Finding, error) {
			return m.checkDistributions(ctx, f, text, mon)
		}
	}
	return gguf.Verify(ctx, f, o)
}

// types returns the types of a file's matrices.
func types(f *gguf.File) (found []subnet.Type) {
	for _, t := range f.Tensors() {
		if len(t.Dims) == 2 && !slices.Contains(found, t.Type) {
			found = append(found, t.Type)
		}
	}
	slices.Sort(found)
	return found
}

// checkDistributions compares the distributions of the next token, at the beginning of a text: of the file with those of the source
// under the file's masks, both in the graphs; and of the file in llama.cpp with those in the graphs.
func (m *model) checkDistributions(ctx context.Context, f *gguf.File, text string, mon explorer.Monitor) (findings []gguf.Finding, err error) {
	s, err := m.Read(ctx, f.Path())
	if err != nil {
		return nil, err
	}
	p, err := m.passage(ctx, text, take{windows: 1, seq: min(verifySeq, m.Info().Context), kept: keptOf(s.Masks)})
	if err != nil {
		return nil, err
	}
	dm, err := m.weights(ctx)
	if err != nil {
		return nil, err
	}
	cut, err := dm.Subnet(ctx, s)
	if err != nil {
		return nil, err
	}
	defer cut.Close()
	written := types(f)
	err = m.withCut(ctx, f.Path(), p.kept, func(file *decoder.Model, whole *decoder.Subnet) error {
		_, d, err := distance(ctx, p, keptPredictor(dm, cut, p.kept), graphPredictor(file, whole), mon)
		if err != nil {
			return err
		}
		const what = "the file and the source with its masks, in lathe's graphs"
		same := judged("subnet", what, d, verifyGraphs)
		exact := slices.Equal(written, []subnet.Type{subnet.F32}) // which holds the numbers of every type
		if source := types(m.file); !exact && !slices.Equal(written, source) {
			same.Outcome, same.Detail = gguf.Skipped, described(what, d)+fmt.Sprintf(": no limit, since matrices of types %v were written as %v", source, written)
		}
		findings = append(findings, same)
		if m.info.NoRuntime != "" {
			return nil
		}
		return m.withFile(ctx, f.Path(), p, mon, func(engine infer.Model) error {
			_, d, err := distance(ctx, p, graphPredictor(file, whole), quality.ModelPredictor(engine), mon)
			if err != nil {
				return err
			}
			limit := verifyFloat
			if slices.ContainsFunc(written, func(t subnet.Type) bool { return t.Block() > 1 }) {
				limit = verifyQuantised
			}
			findings = append(findings, judged("engine", "the file in llama.cpp and in lathe's graphs", d, limit))
			return nil
		})
	})
	return findings, err
}

// judged is the finding of a comparison whose mean divergence has a limit.
func judged(check, what string, d *quality.Comparison, limit float64) gguf.Finding {
	f := gguf.Finding{Check: check, Outcome: gguf.Passed, Detail: described(what, d) + fmt.Sprintf(", %.2g allowed", limit)}
	if !(d.KL <= limit) {
		f.Outcome = gguf.Failed
	}
	return f
}

// described describes a comparison.
func described(what string, d *quality.Comparison) string {
	return fmt.Sprintf("%s, at %d tokens: the same likeliest token at %.1f %%, log-probabilities at most %.2g apart, divergence at most %.2g, on average %.2g nats",
		what, d.Model.Tokens, 100*d.Agreement, d.MaxDifference, d.MaxKL, d.KL)
}
