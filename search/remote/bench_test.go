package remote_test

import (
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/remote"
	"github.com/lathe-llm/lathe/search/searchtest"
)

// BenchmarkOverhead scores candidates that cost nothing, in this process and by a worker on this machine: what is left is the overhead
// of the exchange, per candidate. One candidate a task is what tasks are where a candidate takes seconds.
func BenchmarkOverhead(b *testing.B) {
	l := searchtest.New(options())
	batch := func(n int) []search.Candidate {
		choice := l.Levels.Dense()
		out := make([]search.Candidate, n)
		for i := range out {
			for slot, left := 0, i; slot < len(choice); slot++ {
				choice[slot] = int16(left % 4)
				left /= 4
			}
			masks, err := l.Levels.Masks(choice)
			if err != nil {
				b.Fatal(err)
			}
			out[i] = search.Candidate{Masks: masks, Choice: append(choice[:0:0], choice...)}
		}
		return out
	}
	const size = 32
	run := func(b *testing.B, e search.Evaluator) {
		all, draw := batch(size), uint64(0)
		for b.Loop() {
			draw++
			if err := e.Evaluate(b.Context(), all, search.Tier{Tokens: 64, Draw: draw}, func(int, search.Score) {}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*size), "µs/candidate")
	}
	b.Run("process", func(b *testing.B) { run(b, l) })
	b.Run("worker", func(b *testing.B) {
		s := newSite(b, func(o *remote.Options) { o.Timing = remote.Timing{}; o.Shared = filepath.Join(b.TempDir(), "shared") })
		s.worker(func(c *childSettings) { c.Timing = remote.Timing{}; c.Shared = nil })
		s.until("worker", func(w []remote.Worker) bool { return len(w) == 1 && w[0].State == remote.Idle })
		run(b, s.e)
	})
}
