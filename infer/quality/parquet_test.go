package quality

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
)

// rows returns a parquet file of rows, in groups of two.
func rows[T any](tb testing.TB, list []T, options ...parquet.WriterOption) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b, append(options, parquet.MaxRowsPerRowGroup(2))...)
	if _, err := w.Write(list); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

type piqaRow struct {
	Goal  string `parquet:"goal"`
	Sol1  string `parquet:"sol1"`
	Sol2  string `parquet:"sol2"`
	Label int64  `parquet:"label"`
}

type boolqRow struct {
	Question string `parquet:"question,optional"`
	Answer   bool   `parquet:"answer,optional"`
	Passage  string `parquet:"passage,optional"`
}

type hellaswagRow struct {
	Ind      int32    `parquet:"ind"`
	Activity string   `parquet:"activity_label"`
	CtxA     string   `parquet:"ctx_a"`
	CtxB     string   `parquet:"ctx_b"`
	Endings  []string `parquet:"endings,list"`
	Label    string   `parquet:"label"`
	Score    float64  `parquet:"score"`
}

// arcRow has its choices as a record of lists, arcList as a list of records.
type arcRow struct {
	Question string `parquet:"question"`
	Choices  struct {
		Text  []string `parquet:"text,list,optional"`
		Label []string `parquet:"label,list,optional"`
	} `parquet:"choices,optional"`
	AnswerKey string `parquet:"answerKey"`
}

type arcList struct {
	Question string `parquet:"question"`
	Choices  []struct {
		Text  string `parquet:"text"`
		Label string `parquet:"label"`
	} `parquet:"choices,list"`
	AnswerKey string `parquet:"answerKey"`
}

type innerRow struct {
	B []string `parquet:"b,list"`
}

type outerRow struct {
	A []innerRow `parquet:"a,list"`
}

func piqaRows() []piqaRow {
	return []piqaRow{{"Boil water", "Heat it.", "Cool it.", 0}, {"Cool tea", "Heat it.", "Blow.", 1}, {"Sit", "Down.", "Up.", 0}}
}

func arc() arcRow {
	row := arcRow{Question: "What is hot?", AnswerKey: "B"}
	row.Choices.Text, row.Choices.Label = []string{"Ice", "Fire", "Snöw"}, []string{"A", "B", "C"}
	return row
}

func arcRecords() arcList {
	row := arcList{Question: "What is hot?", AnswerKey: "B"}
	row.Choices = append(row.Choices, []struct {
		Text  string `parquet:"text"`
		Label string `parquet:"label"`
	}{{"Ice", "A"}, {"Fire", "B"}, {"Snöw", "C"}}...)
	return row
}

func TestParseParquet(t *testing.T) {
	hot := []Item{item(1, "Question: What is hot?\nAnswer:", "Ice", "Fire", "Snöw")}
	for _, tt := range []struct {
		name, task string
		file       []byte
		want       []Item
	}{
		{"PIQA", "piqa", rows(t, piqaRows()), []Item{
			item(0, "Question: Boil water\nAnswer:", "Heat it.", "Cool it."), item(1, "Question: Cool tea\nAnswer:", "Heat it.", "Blow."),
			item(0, "Question: Sit\nAnswer:", "Down.", "Up.")}},
		{"packed", "piqa", rows(t, piqaRows()[:1], parquet.Compression(&parquet.Zstd)), []Item{item(0, "Question: Boil water\nAnswer:", "Heat it.", "Cool it.")}},
		{"BoolQ", "boolq", rows(t, []boolqRow{{"is it so", true, "It is."}}), []Item{item(1, "It is.\nQuestion: is it so?\nAnswer:", "no", "yes")}},
		{"HellaSwag", "hellaswag", rows(t, []hellaswagRow{{1, "Baking", "Mix it.", "then she", []string{"runs.", "bakes."}, "1", 0.5}}),
			[]Item{item(1, "Baking: Mix it. Then she", "runs.", "bakes.")}},
		{"ARC", "arc_easy", rows(t, []arcRow{arc()}), hot},
		{"ARC of records", "arc_challenge", rows(t, []arcList{arcRecords()}), hot},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseParquet(tt.task, bytes.NewReader(tt.file), int64(len(tt.file)))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got.Items); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestOpenTask(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	table := put("piqa.parquet", rows(t, piqaRows()[:1]))
	lines := put("piqa.jsonl", []byte(`{"goal":"Boil water","sol1":"Heat it.","sol2":"Cool it."}`))
	labels := put("labels", []byte("0\n"))
	want := []Item{item(0, "Question: Boil water\nAnswer:", "Heat it.", "Cool it.")}
	for path, labels := range map[string]string{table: "", lines: labels} {
		got, err := OpenTask("piqa", path, labels)
		if d := cmp.Diff(want, got.Items); err != nil || d != "" {
			t.Errorf("%s: %v %s", path, err, d)
		}
	}
	if _, err := OpenTask("piqa", lines, ""); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "piqa.jsonl") {
		t.Errorf("without labels: %v", err)
	}
	if _, err := OpenTask("piqa", filepath.Join(dir, "none"), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}

func TestParseParquetRefuses(t *testing.T) {
	good := rows(t, piqaRows())
	change := func(edit func(b []byte) []byte) []byte { return edit(bytes.Clone(good)) }
	for _, tt := range []struct {
		name   string
		file   []byte
		reason string
	}{
		{"nothing", nil, "0 bytes"},
		{"not parquet", bytes.Repeat([]byte("x"), 100), "a footer of"},
		{"cut off", good[:len(good)-9], "a footer of"},
		{"footer larger than the file", change(func(b []byte) []byte { b[len(b)-6] = 0xff; return b }), "a footer of"},
		{"footer is none", change(func(b []byte) []byte { clear(b[len(b)-200 : len(b)-8]); return b }), "parquet"},
		{"no rows", rows(t, []piqaRow{}), "no questions"},
		{"other columns", rows(t, []boolqRow{{"x", true, "y"}}), "row 1"},
		{"lists of lists", rows(t, []outerRow{{[]innerRow{{[]string{"x"}}}}}), "a list of lists"},
		{"a line too long", rows(t, []hellaswagRow{{Endings: slices.Repeat([]string{"a long ending"}, maxLine/16)}}), "more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseParquet("piqa", bytes.NewReader(tt.file), int64(len(tt.file)))
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := ParseParquet("piqa", bytes.NewReader(good), 8<<30); !errors.Is(err, ErrFormat) {
		t.Errorf("too large: %v", err)
	}
}

// Any file is read within the bounds or refused.
func FuzzParquet(f *testing.F) {
	f.Add(rows(f, piqaRows()))
	f.Add(rows(f, []hellaswagRow{{1, "Baking", "Mix it.", "then she", []string{"runs.", "bakes."}, "1", 0.5}}, parquet.Compression(&parquet.Snappy)))
	f.Add(rows(f, []arcRow{arc()}, parquet.Compression(&parquet.Gzip)))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, name := range []string{"piqa", "hellaswag", "arc_easy"} {
			task, err := ParseParquet(name, bytes.NewReader(b), int64(len(b)))
			if err != nil {
				if !errors.Is(err, ErrFormat) {
					t.Errorf("error %v", err)
				}
				continue
			}
			for _, item := range task.Items {
				if err := item.check(); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
