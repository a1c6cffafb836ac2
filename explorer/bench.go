package explorer

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer"
)

// BenchID names a benchmark within its workspace.
type BenchID string

// A Bench compares the speed and memory of subnets on this machine; rows fill while it runs.
type Bench struct {
	ID       BenchID
	Job      JobID
	Author   string
	Created  time.Time
	Settings BenchSettings
	Rows     []BenchRow
	Done     bool
	// Others is the largest number of processors that other programs kept busy before the tests of a subnet, Cores how many there
	// are; both are 0 where the system does not report it.
	Others float64 `json:",omitempty"`
	Cores  int     `json:",omitempty"`
}

// busyShare is the share of the processors that other programs may use before a benchmark counts as disturbed.
const busyShare = 0.1

// Busy reports whether other programs disturbed the benchmark.
func (b Bench) Busy() bool { return b.Others > busyShare*float64(b.Cores) }

// Load describes what other programs did on the machine: "other programs use 1.9 of 2 processors".
func (b Bench) Load() string {
	return fmt.Sprintf("other programs use %.1f of %s", b.Others, format.Counted(b.Cores, "processor"))
}

// BenchSettings are the settings of a benchmark. Tests are those of llama-bench: prompts are read and tokens generated in
// separate runs, each on a cache that holds only the tokens of the depth.
type BenchSettings struct {
	Subnets   []SubnetID `json:"subnets"`         // the dense model first
	Prompt    []int      `json:"prompt"`          // prompt lengths, tokens
	Generate  int        `json:"generate"`        // tokens generated per run
	Depth     []int      `json:"depth,omitempty"` // tokens in the context before each run
	Repeats   int        `json:"repeats"`         // runs per test, after one warm-up
	Threads   int        `json:"threads"`         // 0: the machine's cores
	GPULayers int        `json:"gpu_layers"`      // layers on GPUs; -1: as many as fit, within the backend's setting
	Type      string     `json:"type"`            // tensor type subnets are written as; "" as the source
	Batch     int        `json:"batch,omitempty"` // prompt tokens computed at once; 0 is infer.DefaultBatch
	// NoFlashAttention computes attention with the matrix of scores.
	NoFlashAttention bool   `json:"no_flash_attention,omitempty"`
	KVType           string `json:"kv_type,omitempty"` // of the KV cache, as in infer.LoadOptions; "" is f16
}

// A BenchRow is one test of one subnet.
type BenchRow struct {
	Subnet    SubnetID
	Label     string
	Test      string // as llama-bench names it: "pp512", "tg128", "tg128@d2048"
	Prompt    int    // tokens that the test reads; 0 in a test of generation
	Generate  int    // tokens that it generates; 0 in a test of a prompt
	Depth     int    // tokens in the context before
	Speed     Spread // tokens per second
	Load      time.Duration
	FileBytes int64
	Memory    int64  // resident bytes of the engine with this model
	GPU       int64  `json:",omitempty"` // bytes of weights, cache and buffers in the memory of GPUs
	Threads   int    `json:",omitempty"`
	Placement string `json:",omitempty"` // what computes the layers, as infer.Info has it
	Fallback  string `json:",omitempty"` // why fewer layers are on a GPU than was asked for; or ""
	// CharsPerToken are characters of text for each token, where the benchmark has a subnet of a smaller vocabulary: tokens of different vocabularies do
	// not compare. 0 elsewhere.
	CharsPerToken float64 `json:",omitempty"`
	Perplexity    float64 // newest measured; 0 if none
	Relative      float64 // of that to the dense model's under equal conditions; 0 if unknown
	Pending       bool
	Err           string
}

// Seconds is how long the test took: reading the prompt up to the first token, or generating one token.
func (r BenchRow) Seconds() float64 {
	if r.Speed.Mean <= 0 {
		return 0
	}
	return float64(max(r.Prompt, 1)) / r.Speed.Mean
}

// CharsPerSecond is how many characters of text the test generates in a second, 0 for other tests and where that is not known.
func (r BenchRow) CharsPerSecond() float64 {
	if r.Generate == 0 {
		return 0
	}
	return r.Speed.Mean * r.CharsPerToken
}

// A Spread is the mean and the standard deviation of repeated runs.
type Spread struct {
	Mean, Deviation float64
	Runs            int
	Samples         []float64 `json:",omitempty"` // of each run, in order; earlier versions kept none
}

// Compares reports whether both spreads have two runs at least: one run does not show how much speeds vary.
func (s Spread) Compares(with Spread) bool { return s.Runs > 1 && with.Runs > 1 }

// Text returns the mean, and with more than one run the deviation behind pm: "31.4 ± 0.2".
func (s Spread) Text(pm string) string {
	if s.Runs > 1 {
		return fmt.Sprintf("%.1f %s %.1f", s.Mean, pm, s.Deviation)
	}
	return fmt.Sprintf("%.1f", s.Mean)
}

// Differs reports whether two spreads, of at least two runs each, do not overlap: means lie further apart than the sum of the
// deviations.
func (s Spread) Differs(from Spread) bool {
	return s.Compares(from) && math.Abs(s.Mean-from.Mean) > s.Deviation+from.Deviation
}

// UnmarshalJSON reads a benchmark from a journal. Rows of earlier versions hold two tests: the prompt into an empty context, and
// generation after the prompt.
func (b *Bench) UnmarshalJSON(data []byte) error {
	type plain Bench // without this method
	read := struct {
		*plain
		Rows []struct {
			BenchRow
			Prefill, Generation *Spread
		}
	}{plain: (*plain)(b)}
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	b.Rows = nil
	for _, r := range read.Rows {
		if r.Test != "" || r.Prefill == nil && r.Generation == nil {
			b.Rows = append(b.Rows, r.BenchRow)
			continue
		}
		for _, t := range []infer.BenchTest{{Prompt: r.Prompt}, {Gen: b.Settings.Generate, Depth: r.Prompt}} {
			row := r.withTest(t)
			if s := r.Prefill; t.Gen == 0 && s != nil {
				row.Speed = *s
			} else if s := r.Generation; t.Gen > 0 && s != nil {
				row.Speed = *s
			}
			b.Rows = append(b.Rows, row)
		}
	}
	return nil
}

// withTest returns the row for a test.
func (r BenchRow) withTest(t infer.BenchTest) BenchRow {
	r.Test, r.Prompt, r.Generate, r.Depth = t.String(), t.Prompt, t.Gen, t.Depth
	return r
}
