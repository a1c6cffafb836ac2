package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
)

// The formats of [Bench].
const (
	Text = "text"
	CSV  = "csv"
	JSON = "json"
	Go   = "go" // lines as `go test -bench` writes them, for benchstat
)

// BenchFormats returns the formats of [Bench].
func BenchFormats() []string { return []string{Text, CSV, JSON, Go} }

// benchLine is an explorer.BenchRow in the form that is written.
type benchLine struct {
	Subnet              explorer.SubnetID `json:"subnet"`
	Name                string            `json:"name"`
	Prompt              int               `json:"prompt_tokens"`
	Prefill             float64           `json:"prefill_tokens_per_second"`
	PrefillDeviation    float64           `json:"prefill_deviation"`
	Generation          float64           `json:"generation_tokens_per_second"`
	GenerationDeviation float64           `json:"generation_deviation"`
	FirstToken          float64           `json:"first_token_seconds"`
	Load                float64           `json:"load_seconds"`
	FileBytes           int64             `json:"file_bytes"`
	Memory              int64             `json:"memory_bytes"`
	Perplexity          float64           `json:"perplexity,omitempty"`
	Relative            float64           `json:"perplexity_relative,omitempty"`
	Runs                int               `json:"runs"`
	Err                 string            `json:"error,omitempty"`
}

// Bench writes a benchmark in a format. JSON is one object on one line. Its error wraps explorer.ErrInvalid for an unknown
// format.
func Bench(b explorer.Bench, as string) ([]byte, error) {
	lines := []benchLine{}
	for _, r := range b.Rows {
		lines = append(lines, benchLine{
			Subnet: r.Subnet, Name: r.Label, Prompt: r.Prompt, Prefill: r.Prefill.Mean, PrefillDeviation: r.Prefill.Deviation,
			Generation: r.Generation.Mean, GenerationDeviation: r.Generation.Deviation, FirstToken: r.FirstToken.Mean, Load: r.Load.Seconds(),
			FileBytes: r.FileBytes, Memory: r.Memory, Perplexity: r.Perplexity, Relative: r.Relative, Runs: r.Generation.Runs, Err: r.Err,
		})
	}
	switch as {
	case Text:
		return benchText(lines), nil
	case CSV:
		return benchCSV(lines)
	case Go:
		return benchGo(lines), nil
	case JSON:
		text, err := json.Marshal(struct {
			Created  time.Time              `json:"created"`
			Settings explorer.BenchSettings `json:"settings"`
			Rows     []benchLine            `json:"rows"`
			Summary  string                 `json:"summary,omitempty"`
		}{b.Created, b.Settings, lines, BenchSentence(b)})
		return append(text, '\n'), err
	}
	return nil, fmt.Errorf("%w: format %q is not one of %s", explorer.ErrInvalid, as, strings.Join(BenchFormats(), ", "))
}

func benchText(lines []benchLine) []byte {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "subnet\tcontext\tprefill tokens/s\tgeneration tokens/s\tfirst token\tload\tfile\tmemory")
	for _, l := range lines {
		if l.Err != "" {
			fmt.Fprintf(t, "%s\t%d\t%s\n", l.Name, l.Prompt, l.Err)
			continue
		}
		fmt.Fprintf(t, "%s\t%d\t%.1f ± %.1f\t%.1f ± %.1f\t%.3f s\t%.2f s\t%s\t%s\n", l.Name, l.Prompt, l.Prefill, l.PrefillDeviation,
			l.Generation, l.GenerationDeviation, l.FirstToken, l.Load, format.Bytes(l.FileBytes), format.Bytes(l.Memory))
	}
	t.Flush()
	return b.Bytes()
}

func benchCSV(lines []benchLine) ([]byte, error) {
	var b bytes.Buffer
	c := csv.NewWriter(&b)
	rows := [][]string{{"subnet", "name", "prompt_tokens", "prefill_tokens_per_second", "prefill_deviation", "generation_tokens_per_second",
		"generation_deviation", "first_token_seconds", "load_seconds", "file_bytes", "memory_bytes", "perplexity", "perplexity_relative", "runs", "error"}}
	for _, l := range lines {
		row := []string{string(l.Subnet), l.Name}
		for _, v := range []any{l.Prompt, l.Prefill, l.PrefillDeviation, l.Generation, l.GenerationDeviation, l.FirstToken, l.Load, l.FileBytes, l.Memory, l.Perplexity, l.Relative, l.Runs, l.Err} {
			row = append(row, fmt.Sprint(v))
		}
		rows = append(rows, row)
	}
	err := c.WriteAll(rows)
	return b.Bytes(), err
}

func benchGo(lines []benchLine) []byte {
	var b bytes.Buffer
	for _, l := range lines {
		if l.Err != "" || l.Generation <= 0 || l.Prefill <= 0 {
			continue
		}
		name := strings.Map(func(r rune) rune {
			if r == ' ' || r == '/' || r == '\t' || r == '=' {
				return '_'
			}
			return r
		}, l.Name)
		perToken := func(rate float64) float64 { return float64(time.Second) / rate }
		fmt.Fprintf(&b, "BenchmarkPrefill/subnet=%s/context=%d %d %.0f ns/op %.2f tokens/s\n", name, l.Prompt, l.Runs, perToken(l.Prefill), l.Prefill)
		fmt.Fprintf(&b, "BenchmarkGenerate/subnet=%s/context=%d %d %.0f ns/op %.2f tokens/s %d resident-B\n", name, l.Prompt, l.Runs, perToken(l.Generation), l.Generation, l.Memory)
	}
	return b.Bytes()
}

// BenchSentence compares the fastest subnet of a benchmark with the dense model, at the longest context that both have: "1.21 × faster, 0.82 of the memory, 1.33 × the perplexity (first cut, 2048 tokens of context)". It is "" when
// there is nothing to compare.
func BenchSentence(b explorer.Bench) string {
	var dense, best *explorer.BenchRow
	for i := range b.Rows {
		r := &b.Rows[i]
		if r.Err != "" || r.Generation.Mean <= 0 {
			continue
		}
		if r.Subnet == explorer.DenseID && (dense == nil || r.Prompt > dense.Prompt) {
			dense = r
		}
	}
	if dense == nil {
		return ""
	}
	for i := range b.Rows {
		r := &b.Rows[i]
		if r.Subnet != explorer.DenseID && r.Prompt == dense.Prompt && r.Err == "" && r.Generation.Mean > 0 && (best == nil || r.Generation.Mean > best.Generation.Mean) {
			best = r
		}
	}
	if best == nil {
		return ""
	}
	faster := best.Generation.Mean / dense.Generation.Mean
	parts := []string{fmt.Sprintf("%.2f × faster", faster)}
	if faster < 1 {
		parts[0] = fmt.Sprintf("%.2f × slower", 1/faster)
	}
	if dense.Memory > 0 {
		parts = append(parts, fmt.Sprintf("%.2f of the memory", float64(best.Memory)/float64(dense.Memory)))
	}
	if best.Relative > 0 {
		parts = append(parts, fmt.Sprintf("%.2f × the perplexity", best.Relative))
	}
	return fmt.Sprintf("%s (%s, %d tokens of context)", strings.Join(parts, ", "), best.Label, best.Prompt)
}
