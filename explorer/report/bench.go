package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer"
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
	Subnet     explorer.SubnetID `json:"subnet"`
	Name       string            `json:"name"`
	Test       string            `json:"test"`
	Prompt     int               `json:"prompt_tokens"`
	Generate   int               `json:"generated_tokens"`
	Depth      int               `json:"depth"`
	Speed      float64           `json:"tokens_per_second"`
	Deviation  float64           `json:"deviation"`
	Runs       int               `json:"runs"`
	Samples    []float64         `json:"samples,omitempty"`               // tokens per second of each run, as llama-bench's samples_ts
	Seconds    float64           `json:"seconds"`                         // of the whole prompt, or of one generated token
	Chars      float64           `json:"characters_per_second,omitempty"` // generated, where a subnet has a smaller vocabulary
	Relative   float64           `json:"speed_relative,omitempty"`        // to the dense model's
	Differs    *bool             `json:"speed_differs,omitempty"`         // the spreads do not overlap; absent with a single run
	Load       float64           `json:"load_seconds"`
	FileBytes  int64             `json:"file_bytes"`
	Memory     int64             `json:"memory_bytes"`
	GPU        int64             `json:"gpu_memory_bytes"`
	Threads    int               `json:"threads"`
	Placement  string            `json:"placement,omitempty"`
	Fallback   string            `json:"gpu_fallback,omitempty"`
	Perplexity float64           `json:"perplexity,omitempty"`
	Quality    float64           `json:"perplexity_relative,omitempty"`
	Err        string            `json:"error,omitempty"`
}

// A BenchDifference compares the speed of a subnet with the dense model's in one test.
type BenchDifference struct {
	Ratio   float64 // of the means; 0 where one of them was not measured
	Differs bool    // the spreads do not overlap
	OneRun  bool    // one of them is of a single run, from which nothing follows
}

// Difference compares a row of a benchmark with the dense model's row of the same test. ok is false where there is none, and for
// the dense model itself.
func Difference(b explorer.Bench, r explorer.BenchRow) (d BenchDifference, ok bool) {
	i := slices.IndexFunc(b.Rows, func(of explorer.BenchRow) bool { return of.Subnet == explorer.DenseID && of.Test == r.Test })
	if i < 0 || r.Subnet == explorer.DenseID || r.Speed.Mean <= 0 || b.Rows[i].Speed.Mean <= 0 {
		return d, false
	}
	dense := b.Rows[i].Speed
	return BenchDifference{r.Speed.Mean / dense.Mean, r.Speed.Differs(dense), !r.Speed.Compares(dense)}, true
}

// String returns "1.21 × faster", "1.10 × slower", "no difference", or "one run, not compared".
func (d BenchDifference) String() string {
	switch {
	case d.OneRun:
		return "one run, not compared"
	case !d.Differs:
		return "no difference"
	case d.Ratio < 1:
		return fmt.Sprintf("%.2f × slower", 1/d.Ratio)
	}
	return fmt.Sprintf("%.2f × faster", d.Ratio)
}

// Bench writes a benchmark in a format. JSON is one object on one line. Its error wraps explorer.ErrInvalid for an unknown
// format.
func Bench(b explorer.Bench, as string) ([]byte, error) {
	lines := []benchLine{}
	for _, r := range b.Rows {
		l := benchLine{
			Subnet: r.Subnet, Name: r.Label, Test: r.Test, Prompt: r.Prompt, Generate: r.Generate, Depth: r.Depth, Speed: r.Speed.Mean, Deviation: r.Speed.Deviation,
			Runs: r.Speed.Runs, Samples: r.Speed.Samples, Seconds: r.Seconds(), Load: r.Load.Seconds(), FileBytes: r.FileBytes, Memory: r.Memory, GPU: r.GPU, Threads: r.Threads, Placement: r.Placement, Fallback: r.Fallback,
			Perplexity: r.Perplexity, Quality: r.Relative, Err: r.Err, Chars: r.CharsPerSecond(),
		}
		if d, ok := Difference(b, r); ok {
			l.Relative = d.Ratio
			if !d.OneRun {
				l.Differs = &d.Differs
			}
		}
		lines = append(lines, l)
	}
	switch as {
	case Text:
		return benchText(b, lines), nil
	case CSV:
		return benchCSV(lines)
	case Go:
		return benchGo(lines), nil
	case JSON:
		text, err := json.Marshal(struct {
			Created  time.Time              `json:"created"`
			Settings explorer.BenchSettings `json:"settings"`
			Busy     bool                   `json:"busy"`
			Others   float64                `json:"others_processors"` // the most that other programs used before a subnet's tests
			Cores    int                    `json:"processors,omitempty"`
			Rows     []benchLine            `json:"rows"`
			Summary  []string               `json:"summary,omitempty"`
		}{b.Created, b.Settings, b.Busy(), b.Others, b.Cores, lines, BenchSummary(b)})
		return append(text, '\n'), err
	}
	return nil, fmt.Errorf("%w: format %q is not one of %s", explorer.ErrInvalid, as, strings.Join(BenchFormats(), ", "))
}

func benchText(b explorer.Bench, lines []benchLine) []byte {
	var out bytes.Buffer
	t := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "subnet\ttest\ttokens/s\tspeed against dense\ttime\tmemory\tGPU memory\tfile\tload")
	threads := 0
	for i, l := range lines {
		if l.Err != "" {
			fmt.Fprintf(t, "%s\t%s\t%s\n", l.Name, l.Test, l.Err)
			continue
		}
		against := ""
		if d, ok := Difference(b, b.Rows[i]); ok {
			against = d.String()
		}
		gpu := "none"
		if l.GPU > 0 {
			gpu = format.Bytes(l.GPU)
		}
		threads = max(threads, l.Threads)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.2f s\n", l.Name, l.Test, b.Rows[i].Speed.Text("±"), against, benchTime(l),
			format.Bytes(l.Memory), gpu, format.Bytes(l.FileBytes), l.Load)
	}
	t.Flush()
	for _, l := range lines {
		if l.Chars > 0 {
			fmt.Fprintf(&out, "%s, %s: %.0f characters/s, at %.2f characters for each token\n", l.Name, l.Test, l.Chars, l.Chars/l.Speed)
		}
	}
	for i, l := range lines {
		if l.GPU > 0 && (i == 0 || lines[i-1].Placement != l.Placement) {
			fmt.Fprintf(&out, "%s: %s\n", l.Name, l.Placement)
		}
		if l.Fallback != "" && (i == 0 || lines[i-1].Fallback != l.Fallback) {
			fmt.Fprintf(&out, "%s: without the GPU: %s\n", l.Name, l.Fallback)
		}
	}
	fmt.Fprintf(&out, "%s\n", benchConditions(b.Settings, threads))
	return out.Bytes()
}

// benchTime is the time of a whole prompt, or of one generated token.
func benchTime(l benchLine) string {
	if l.Generate > 0 {
		return fmt.Sprintf("%.2f ms/token", 1000*l.Seconds)
	}
	return fmt.Sprintf("%.3f s/prompt", l.Seconds)
}

// benchConditions describes the settings of a benchmark that llama-bench prints as columns.
func benchConditions(s explorer.BenchSettings, threads int) string {
	flash, batch, kv := "on", s.Batch, s.KVType
	if s.NoFlashAttention {
		flash = "off"
	}
	if batch == 0 {
		batch = infer.DefaultBatch
	}
	if kv == "" {
		kv = infer.KVF16
	}
	return fmt.Sprintf("%s, %s, batch %d, flash attention %s, KV cache %s", format.Counted(s.Repeats, "run"), format.Counted(threads, "thread"), batch, flash, kv)
}

func benchCSV(lines []benchLine) ([]byte, error) {
	var b bytes.Buffer
	c := csv.NewWriter(&b)
	rows := [][]string{{"subnet", "name", "test", "prompt_tokens", "generated_tokens", "depth", "tokens_per_second", "deviation", "runs", "seconds", "speed_relative",
		"speed_differs", "load_seconds", "file_bytes", "memory_bytes", "gpu_memory_bytes", "threads", "perplexity", "perplexity_relative", "error"}}
	for _, l := range lines {
		row := []string{string(l.Subnet), l.Name, l.Test}
		differs := ""
		if l.Differs != nil {
			differs = fmt.Sprint(*l.Differs)
		}
		for _, v := range []any{l.Prompt, l.Generate, l.Depth, l.Speed, l.Deviation, l.Runs, l.Seconds, l.Relative, differs, l.Load, l.FileBytes, l.Memory, l.GPU,
			l.Threads, l.Perplexity, l.Quality, l.Err} {
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
		if l.Err != "" || l.Speed <= 0 {
			continue
		}
		name := strings.Map(func(r rune) rune {
			if r == ' ' || r == '/' || r == '\t' || r == '=' {
				return '_'
			}
			return r
		}, l.Name)
		perToken := float64(time.Second) / l.Speed
		if l.Generate > 0 {
			fmt.Fprintf(&b, "BenchmarkGenerate/subnet=%s/test=%s %d %.0f ns/op %.2f tokens/s %d resident-B\n", name, l.Test, l.Runs, perToken, l.Speed, l.Memory)
		} else {
			fmt.Fprintf(&b, "BenchmarkPrompt/subnet=%s/test=%s %d %.0f ns/op %.2f tokens/s\n", name, l.Test, l.Runs, perToken, l.Speed)
		}
	}
	return b.Bytes()
}

// BenchSummary compares each subnet of a benchmark with the dense model in all tests that both have, a line each: "first cut: 1.21 ×
// faster (pp512), no difference (tg128), 0.82 of the memory, 1.33 × the perplexity". A line more warns of a busy machine.
// It is empty when there is nothing to compare.
func BenchSummary(b explorer.Bench) []string {
	var lines []string
	for _, id := range b.Settings.Subnets {
		var parts, verdicts []string
		var row explorer.BenchRow
		tests := map[string][]string{}
		for _, r := range b.Rows {
			if d, ok := Difference(b, r); ok && r.Subnet == id {
				row = r
				verdict := d.String()
				if tests[verdict] == nil {
					verdicts = append(verdicts, verdict)
				}
				tests[verdict] = append(tests[verdict], r.Test)
			}
		}
		if len(verdicts) == 0 {
			continue
		}
		for _, v := range verdicts {
			in := strings.Join(tests[v], ", ")
			if len(verdicts) == 1 && len(tests[v]) > 1 {
				in = "all tests"
			}
			parts = append(parts, fmt.Sprintf("%s (%s)", v, in))
		}
		if memory := denseMemory(b); memory > 0 && row.Memory > 0 {
			parts = append(parts, fmt.Sprintf("%.2f of the memory", float64(row.Memory)/float64(memory)))
		}
		if row.Relative > 0 {
			parts = append(parts, fmt.Sprintf("%.2f × the perplexity", row.Relative))
		}
		lines = append(lines, row.Label+": "+strings.Join(parts, ", "))
	}
	if b.Busy() {
		lines = append(lines, b.Load()+": measure again on an idle machine")
	}
	return lines
}

// denseMemory is the memory of the dense model after its last test.
func denseMemory(b explorer.Bench) (bytes int64) {
	for _, r := range b.Rows {
		if r.Subnet == explorer.DenseID && r.Memory > 0 {
			bytes = r.Memory
		}
	}
	return bytes
}
