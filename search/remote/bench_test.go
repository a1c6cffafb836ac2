package remote_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/remote"
	"github.com/lathe-llm/lathe/search/searchtest"
)

// BenchmarkOverhead scores candidates that cost nothing, in this process and by a worker on this machine: what is left is the overhead
// of the exchange, per candidate: of a batch of one candidate, which is a task of its own, and of many in a few tasks.
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
	measure := func(b *testing.B, e search.Evaluator, size int) (each time.Duration) {
		all, draw := batch(size), uint64(0)
		for b.Loop() {
			draw++
			if err := e.Evaluate(b.Context(), all, search.Tier{Tokens: 64, Draw: draw}, func(int, search.Score) {}); err != nil {
				b.Fatal(err)
			}
		}
		each = b.Elapsed() / time.Duration(b.N*size)
		b.ReportMetric(float64(each.Microseconds()), "µs/candidate")
		return each
	}
	for _, size := range []int{1, 32} {
		var here time.Duration
		b.Run(fmt.Sprintf("process/%d", size), func(b *testing.B) { here = measure(b, l, size) })
		b.Run(fmt.Sprintf("worker/%d", size), func(b *testing.B) {
			s := newSite(b, func(o *remote.Options) { o.Timing = remote.Timing{} })
			s.worker(func(c *childSettings) { c.Timing = remote.Timing{} })
			s.until("worker", func(w []remote.Worker) bool { return len(w) == 1 && w[0].State == remote.Idle })
			more := measure(b, s.e, size) - here
			b.ReportMetric(float64(more.Microseconds()), "µs-more/candidate")
			b.ReportMetric(100*more.Seconds()/2, "%-of-2s")
		})
	}
}
