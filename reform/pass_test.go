//go:build cgo && !nocgo

package reform_test

import (
	"testing"

	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search/importance"
)

// BenchmarkSurvey passes text through the default model: second moments of what enters every matrix, and the order of all
// units by the cheapest method.
func BenchmarkSurvey(b *testing.B) {
	m, windows := defaultModel(b, 2, 1024)
	tokens := 0
	for b.Loop() {
		s, err := reform.NewSurvey(b.Context(), m, windows, []importance.Method{importance.Wanda}, nil)
		if err != nil {
			b.Fatal(err)
		}
		tokens += s.Tokens
	}
	b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
}
