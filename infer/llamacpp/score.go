package llamacpp

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/infer"
)

// Score implements [infer.Model].
func (m *Model) Score(ctx context.Context, windows [][]int32, progress func(infer.Progress)) ([][]float32, error) {
	nll := make([][]float32, len(windows))
	err := m.score(ctx, windows, infer.DistributionOptions{Progress: progress}, func(w int, e positionsEvent, _ [][]int32) {
		nll[w] = append(nll[w], e.NLL...)
	})
	if err != nil {
		return nil, err
	}
	return nll, nil
}

// Distributions implements [infer.Model].
func (m *Model) Distributions(ctx context.Context, windows [][]int32, o infer.DistributionOptions) ([][]infer.Position, error) {
	out := make([][]infer.Position, len(windows))
	err := m.score(ctx, windows, o, func(w int, e positionsEvent, at [][]int32) {
		out[w] = collect(out[w], e, at)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// collect appends the positions of a checked event. at holds the requested tokens of all positions of the window, nil for
// none.
func collect(out []infer.Position, e positionsEvent, at [][]int32) []infer.Position {
	n := len(e.NLL)
	k := len(e.Top) / max(n, 1)
	asked := 0
	for i := range n {
		p := infer.Position{NLL: e.NLL[i], Greedy: e.Greedy[i]}
		if k > 0 {
			p.Top, p.TopProbs = e.Top[i*k:(i+1)*k:(i+1)*k], e.TopProbs[i*k:(i+1)*k:(i+1)*k]
		}
		if at != nil {
			next := asked + len(at[len(out)])
			p.At, asked = e.At[asked:next:next], next
		}
		out = append(out, p)
	}
	return out
}

// score scores the windows in order, each in its own turn of the queue, and passes their positions to take. at holds the
// tokens that o.At requests of the window.
func (m *Model) score(ctx context.Context, windows [][]int32, o infer.DistributionOptions, take func(w int, e positionsEvent, at [][]int32)) error {
	total, done := 0, 0
	if err := o.Validate(windows); err != nil {
		return m.fail("score", err)
	}
	for w, window := range windows {
		total += max(0, len(window)-o.FromOf(w))
	}
	for w, window := range windows {
		err := m.scoreWindow(ctx, w, window, o, take, func(n int) {
			if done += n; o.Progress != nil {
				o.Progress(infer.Progress{Done: done, Total: total})
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// scoreWindow scores a window, the rest of it on the processor if a GPU fails.
func (m *Model) scoreWindow(ctx context.Context, w int, window []int32, o infer.DistributionOptions,
	take func(int, positionsEvent, [][]int32), scored func(int)) error {
	got, err := m.scoreFrom(ctx, w, window, o, 0, take, scored)
	if m.resumes(err) {
		_, err = m.scoreFrom(ctx, w, window, o, got, take, scored)
	}
	return err
}

// scoreFrom scores the positions of a window but the first got of them, and returns how many are scored then.
func (m *Model) scoreFrom(ctx context.Context, w int, window []int32, o infer.DistributionOptions, got int,
	take func(int, positionsEvent, [][]int32), scored func(int)) (int, error) {
	ctx, p, end, err := m.begin(ctx, "score")
	if err != nil {
		return got, err
	}
	defer end()
	request := scoreRequest{Window: window, From: o.FromOf(w) + got, Top: min(max(o.Top, 0), infer.MaxTop)}
	want := max(0, len(window)-o.FromOf(w))
	var at [][]int32
	if o.At != nil {
		at = o.At[w]
		request.At = make([]tokens, len(at)-got)
		for i := range request.At {
			request.At[i] = at[got+i]
		}
	}
	_, err = p.call(ctx, kindScore, request, func(f frame) error {
		e, err := decode[positionsEvent](f)
		if err == nil {
			err = e.check(got, want, at)
		}
		if err != nil {
			return err
		}
		take(w, e, at)
		got += len(e.NLL)
		scored(len(e.NLL))
		return nil
	})
	if err == nil && got != want {
		err = fmt.Errorf("%w: %d of %d positions", errProtocol, got, want)
	}
	return got, m.fail(fmt.Sprintf("score window %d", w), err)
}

// check returns an error for an event whose fields do not fit together, or that exceeds the window.
func (e positionsEvent) check(got, want int, at [][]int32) error {
	n := len(e.NLL)
	asked := 0
	if got+n > want {
		return fmt.Errorf("%w: %d positions of %d", errProtocol, got+n, want)
	}
	if at != nil {
		for _, ids := range at[got : got+n] {
			asked += len(ids)
		}
	}
	if len(e.Greedy) != n || len(e.Top) != len(e.TopProbs) || len(e.Top)%max(n, 1) != 0 || len(e.At) != asked {
		return fmt.Errorf("%w: %d, %d, %d, %d and %d values for %d positions",
			errProtocol, len(e.Greedy), len(e.Top), len(e.TopProbs), len(e.At), asked, n)
	}
	return nil
}
