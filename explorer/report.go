package explorer

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

// The formats of FormatBench.
const (
	FormatText = "text"
	FormatCSV  = "csv"
	FormatJSON = "json"
	FormatGo   = "go" // lines as `go test -bench` writes them, for benchstat
)

// BenchFormats lists them.
func BenchFormats() []string { return []string{FormatText, FormatCSV, FormatJSON, FormatGo} }

// benchLine is a BenchRow as it is written out.
type benchLine struct {
	Subnet              SubnetID `json:"subnet"`
	Name                string   `json:"name"`
	Prompt              int      `json:"prompt_tokens"`
	Prefill             float64  `json:"prefill_tokens_per_second"`
	PrefillDeviation    float64  `json:"prefill_deviation"`
	Generation          float64  `json:"generation_tokens_per_second"`
	GenerationDeviation float64  `json:"generation_deviation"`
	FirstToken          float64  `json:"first_token_seconds"`
	Load                float64  `json:"load_seconds"`
	FileBytes           int64    `json:"file_bytes"`
	Memory              int64    `json:"memory_bytes"`
	Perplexity          float64  `json:"perplexity,omitempty"`
	Relative            float64  `json:"perplexity_relative,omitempty"`
	Runs                int      `json:"runs"`
	Err                 string   `json:"error,omitempty"`
}

// FormatBench writes a benchmark out. JSON is one object on one line. Its error wraps ErrInvalid for an unknown format.
func FormatBench(b Bench, format string) ([]byte, error) {
	lines := []benchLine{}
	for _, r := range b.Rows {
		lines = append(lines, benchLine{
			Subnet: r.Subnet, Name: r.Label, Prompt: r.Prompt, Prefill: r.Prefill.Mean, PrefillDeviation: r.Prefill.Deviation,
			Generation: r.Generation.Mean, GenerationDeviation: r.Generation.Deviation, FirstToken: r.FirstToken.Mean, Load: r.Load.Seconds(),
			FileBytes: r.FileBytes, Memory: r.Memory, Perplexity: r.Perplexity, Relative: r.Relative, Runs: r.Generation.Runs, Err: r.Err,
		})
	}
	switch format {
	case FormatText:
		return benchText(lines), nil
	case FormatCSV:
		return benchCSV(lines)
	case FormatGo:
		return benchGo(lines), nil
	case FormatJSON:
		text, err := json.Marshal(struct {
			Created  time.Time     `json:"created"`
			Settings BenchSettings `json:"settings"`
			Rows     []benchLine   `json:"rows"`
			Summary  string        `json:"summary,omitempty"`
		}{b.Created, b.Settings, lines, BenchSentence(b)})
		return append(text, '\n'), err
	}
	return nil, fmt.Errorf("%w: format %q is not one of %s", ErrInvalid, format, strings.Join(BenchFormats(), ", "))
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
			l.Generation, l.GenerationDeviation, l.FirstToken, l.Load, FormatBytes(l.FileBytes), FormatBytes(l.Memory))
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

// BenchSentence says what a benchmark found of the best subnet against the dense model, at the longest context that both
// have: "1.21 × faster, 0.82 of the memory, 1.33 × the perplexity (first cut, 2048 tokens of context)". It is "" when
// there is nothing to compare.
func BenchSentence(b Bench) string {
	var dense, best *BenchRow
	for i := range b.Rows {
		r := &b.Rows[i]
		if r.Err != "" || r.Generation.Mean <= 0 {
			continue
		}
		if r.Subnet == DenseID && (dense == nil || r.Prompt > dense.Prompt) {
			dense = r
		}
	}
	if dense == nil {
		return ""
	}
	for i := range b.Rows {
		r := &b.Rows[i]
		if r.Subnet != DenseID && r.Prompt == dense.Prompt && r.Err == "" && r.Generation.Mean > 0 && (best == nil || r.Generation.Mean > best.Generation.Mean) {
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

// ChatMarkdown writes a chat out as Markdown, the columns of each prompt one after the other.
func ChatMarkdown(c Chat) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\n", c.Name)
	s := c.Sampling
	fmt.Fprintf(&b, "%s, temperature %g, top-k %d, top-p %g, min-p %g, repeat penalty %g, seed %d\n", c.Created.Format("2006-01-02 15:04"),
		s.Temperature, s.TopK, s.TopP, s.MinP, s.RepeatPenalty, s.Seed)
	if c.System != "" {
		fmt.Fprintf(&b, "\nSystem prompt:\n\n%s\n", quoted(c.System))
	}
	for i, p := range c.Prompts {
		fmt.Fprintf(&b, "\n## Prompt\n\n%s\n", quoted(p.Text))
		for _, column := range c.Columns {
			r := column.Replies[i]
			fmt.Fprintf(&b, "\n### %s\n\n%s\n", column.Label, strings.TrimSpace(r.Text))
			notes := []string{fmt.Sprintf("%d tokens", r.Tokens)}
			if r.TokensPerSecond > 0 {
				notes = append(notes, fmt.Sprintf("%.1f tokens/s", r.TokensPerSecond))
			}
			if r.Agreement >= 0 && column.Subnet != DenseID {
				notes = append(notes, fmt.Sprintf("%.0f %% as the dense model would have said", 100*r.Agreement))
			}
			if r.Stopped {
				notes = append(notes, "stopped")
			}
			if r.Err != "" {
				notes = append(notes, "failed: "+r.Err)
			}
			fmt.Fprintf(&b, "\n*%s*\n", strings.Join(notes, ", "))
		}
	}
	return b.Bytes()
}

// quoted is text as a Markdown quotation.
func quoted(text string) string {
	return "> " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n> ")
}

// FormatBytes is a size for people, in powers of ten as file managers count.
func FormatBytes(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	v := float64(n)
	i := 0
	for math.Abs(v) >= 999.5 && i < len(units)-1 {
		v /= 1000
		i++
	}
	switch {
	case i == 0:
		return fmt.Sprintf("%d B", n)
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f %s", v, units[i])
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// Presets lists the one-shot methods, the default first.
func Presets() []string { return preset.Names() }

// IsPreset reports whether a one-shot method has that name; "" is the default.
func IsPreset(name string) bool { return name == "" || preset.Exists(name) }
