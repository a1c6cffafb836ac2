package reform

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/search/mask"
)

// CompareConfig says what Compare makes.
type CompareConfig struct {
	Presets []Preset  // empty is all
	Ratios  []float64 // inheriting ratios over the block matrices
	// Type is the GGUF type that sizes are given for; "" is F16.
	Type string
	// Cut is what OneShot is called with; its preset is set from Presets.
	Cut Config
	// Progress, where not nil, is called after every row with what there is so far.
	Progress func(Comparison)
}

// Comparison is a table of methods and ratios, calibrated on the same text and measured on the same other text.
type Comparison struct {
	Type              string          `json:"type"`
	CalibrationTokens int             `json:"calibration_tokens"`
	ScoredTokens      int             `json:"scored_tokens"`
	DensePerplexity   float64         `json:"dense_perplexity"`
	DenseBytes        int64           `json:"dense_bytes"`
	Rows              []ComparisonRow `json:"rows"`
}

// ComparisonRow is one method at one ratio.
type ComparisonRow struct {
	Method     Preset  `json:"method"`
	Target     float64 `json:"target"`
	Ratio      float64 `json:"ratio"` // really kept
	Perplexity float64 `json:"perplexity,omitempty"`
	ToDense    float64 `json:"ratio_to_dense,omitempty"` // perplexity over the dense model's
	Seconds    float64 `json:"seconds"`                  // of making the subnet
	Bytes      int64   `json:"bytes,omitempty"`          // of all tensors
	Error      string  `json:"error,omitempty"`          // why there is no figure
}

// Compare makes a subnet by every preset at every ratio, all calibrated on the same windows, and measures it on others. A
// method that cannot reach a ratio, or fails otherwise, has a row that says so.
func Compare(ctx context.Context, m *decoder.Model, calibration, text [][]int32, c CompareConfig) (Comparison, error) {
	if c.Type == "" {
		c.Type = "F16"
	}
	if len(c.Presets) == 0 {
		c.Presets = Presets()
	}
	out := Comparison{Type: c.Type, DenseBytes: mask.Dense(m.Geometry()).GGUFBytes(c.Type)}
	if out.DenseBytes == 0 {
		return out, fmt.Errorf("compare: unknown type %q", c.Type)
	}
	var err error
	if out.CalibrationTokens, err = checkWindows(calibration); err != nil {
		return out, fmt.Errorf("compare: calibration text: %w", err)
	}
	if _, err = checkWindows(text); err != nil {
		return out, fmt.Errorf("compare: text to measure on: %w", err)
	}
	dense := m.Dense()
	score, err := m.Score(ctx, dense, text)
	dense.Close()
	if err != nil {
		return out, fmt.Errorf("compare: dense: %w", err)
	}
	out.ScoredTokens, out.DensePerplexity = score.Tokens, score.Perplexity()
	for _, ratio := range c.Ratios {
		for _, preset := range c.Presets {
			row, err := compareOne(ctx, m, calibration, text, ratio, preset, c)
			if err != nil {
				if ctx.Err() != nil {
					return out, err
				}
				row.Error = err.Error()
			} else {
				row.ToDense = row.Perplexity / out.DensePerplexity
			}
			out.Rows = append(out.Rows, row)
			if c.Progress != nil {
				c.Progress(out)
			}
		}
	}
	return out, nil
}

func compareOne(ctx context.Context, m *decoder.Model, calibration, text [][]int32, ratio float64, preset Preset, c CompareConfig) (ComparisonRow, error) {
	row := ComparisonRow{Method: preset, Target: ratio}
	cut := c.Cut
	cut.Preset, cut.Recipe = preset, nil
	started := time.Now()
	s, _, err := OneShot(ctx, m, calibration, ratio, cut)
	row.Seconds = time.Since(started).Seconds()
	if err != nil {
		return row, err
	}
	row.Ratio, row.Bytes = s.Masks.Size().Ratio, s.Masks.GGUFBytes(c.Type)
	sub, err := m.Subnet(ctx, s)
	if err != nil {
		return row, err
	}
	defer sub.Close()
	score, err := m.Score(ctx, sub, text)
	row.Perplexity = score.Perplexity()
	return row, err
}

// ErrFormat means that a comparison cannot be written in the form asked for.
var ErrFormat = errors.New("unknown format")

// Write writes the table as "text", "csv" or "json".
func (c Comparison) Write(w io.Writer, format string) error {
	switch format {
	case "text", "":
		return c.writeText(w)
	case "csv":
		return c.writeCSV(w)
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(c)
	}
	return fmt.Errorf("%q: %w", format, ErrFormat)
}

func (c Comparison) writeText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "method\tratio\tperplexity\tto dense\tseconds\t%s MB\t\n", c.Type)
	fmt.Fprintf(t, "dense\t%.3f\t%.3f\t%.3f\t\t%.1f\t\n", 1.0, c.DensePerplexity, 1.0, float64(c.DenseBytes)/1e6)
	for _, r := range c.Rows {
		if r.Error != "" {
			fmt.Fprintf(t, "%s\t%.3f\t-\t-\t%.0f\t-\t\n", r.Method, r.Target, r.Seconds)
			continue
		}
		fmt.Fprintf(t, "%s\t%.3f\t%.3f\t%.3f\t%.0f\t%.1f\t\n", r.Method, r.Ratio, r.Perplexity, r.ToDense, r.Seconds, float64(r.Bytes)/1e6)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range c.Rows {
		if r.Error != "" {
			if _, err := fmt.Fprintf(w, "%s at %.3f: %s\n", r.Method, r.Target, r.Error); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c Comparison) writeCSV(w io.Writer) error {
	t := csv.NewWriter(w)
	float := func(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
	rows := [][]string{{"method", "target", "ratio", "perplexity", "ratio_to_dense", "seconds", "bytes", "type", "error"}}
	rows = append(rows, []string{"dense", "1", "1", float(c.DensePerplexity), "1", "0", strconv.FormatInt(c.DenseBytes, 10), c.Type, ""})
	for _, r := range c.Rows {
		row := []string{string(r.Method), float(r.Target), float(r.Ratio), float(r.Perplexity), float(r.ToDense), float(r.Seconds), strconv.FormatInt(r.Bytes, 10), c.Type, r.Error}
		if r.Error != "" {
			row[2], row[3], row[4], row[6] = "", "", "", ""
		}
		rows = append(rows, row)
	}
	return t.WriteAll(rows)
}
