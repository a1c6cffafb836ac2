package reform_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/reform"
)

func TestCompare(t *testing.T) {
	m := tiny(t, gguftest.Tiny("llama"))
	vocab := m.Geometry().Vocab
	calls := 0
	c, err := reform.Compare(t.Context(), m, texts(8, 2, 48, vocab), texts(9, 1, 48, vocab), reform.CompareConfig{
		Presets: []reform.Preset{reform.Random, reform.OBS}, Ratios: []float64{0.8, 0.1},
		Cut: reform.Config{Granularity: 8}, Progress: func(reform.Comparison) { calls++ },
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Rows) != 4 || calls != 4 || c.CalibrationTokens != 96 || c.ScoredTokens != 47 {
		t.Fatalf("%d rows, %d calls, %d and %d tokens", len(c.Rows), calls, c.CalibrationTokens, c.ScoredTokens)
	}
	for i, r := range c.Rows {
		if (r.Error != "") != (r.Target == 0.1) {
			t.Errorf("row %d at %g: error %q", i, r.Target, r.Error)
		}
		if r.Error == "" && !(r.Perplexity > 1 && r.ToDense > 0 && r.Bytes > 0 && r.Bytes < c.DenseBytes && r.Ratio <= r.Target) {
			t.Errorf("row %d: %+v", i, r)
		}
	}
	var text, table, object bytes.Buffer
	for format, w := range map[string]*bytes.Buffer{"text": &text, "csv": &table, "json": &object} {
		if err := c.Write(w, format); err != nil {
			t.Fatal(err)
		}
	}
	if lines := strings.Split(strings.TrimSpace(text.String()), "\n"); len(lines) != 2+4+2 {
		t.Errorf("text of %d lines:\n%s", len(lines), text.String())
	}
	if rows, err := csv.NewReader(&table).ReadAll(); err != nil || len(rows) != 2+4 {
		t.Errorf("%d rows of CSV, error %v", len(rows), err)
	}
	var back reform.Comparison
	if err := json.Unmarshal(object.Bytes(), &back); err != nil || len(back.Rows) != 4 || back.Rows[0] != c.Rows[0] {
		t.Errorf("JSON came back as %+v, error %v", back, err)
	}
	if err := c.Write(&text, "xml"); !errors.Is(err, reform.ErrFormat) {
		t.Errorf("error %v", err)
	}
	if _, err := reform.Compare(t.Context(), m, nil, nil, reform.CompareConfig{}); !errors.Is(err, reform.ErrText) {
		t.Errorf("without text: error %v", err)
	}
}
