package corpus

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
)

type page struct {
	URL  string `parquet:"url" json:"url"`
	Text string `parquet:"text" json:"text"`
}

func parquetFile(tb testing.TB, pages []page) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[page](&b, parquet.MaxRowsPerRowGroup(2))
	if _, err := w.Write(pages); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestReadDataSet(t *testing.T) {
	const lines = `{"url": "a", "text": "One."}` + "\r\n\n" + `{"url": "b", "text": " "}` + "\n" + `{"url": "c"}` + "\n" + `{"url": "d", "text": "Zwei\u00e9"}`
	both := []string{"One.\n\n", "Zwei\u00e9\n\n"}
	pack := func(text string) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		return b.Bytes()
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, field string
		data        []byte
		most        int64
		want        []string
		complaint   string
	}{
		{"a.jsonl", "", []byte(lines), 1 << 20, both, ""},
		{"a.ndjson", "", []byte("\ufeff" + lines), 1 << 20, both, ""},
		{"a.json.gz", "", pack(lines), 1 << 20, both, ""},
		{"a.jsonl.zst", "", z.EncodeAll([]byte(lines), nil), 1 << 20, both, ""},
		{"a.parquet", "", parquetFile(t, []page{{"a", "One."}, {"b", ""}, {"c", "Zwei\u00e9"}}), 1 << 20, both, ""},
		{"a.parquet", "", parquetFile(t, []page{{"a", "One."}, {"b", "no"}, {"c", "Zwei\u00e9"}}), 2, both[:1], ""},
		{"a.jsonl", "url", []byte(lines), 1 << 20, []string{"a\n\n", "b\n\n", "c\n\n", "d\n\n"}, ""},
		{"a.jsonl", "", []byte(lines), 3, both[:1], ""},
		{"a.jsonl", "", []byte(`{"content": "x", "title": "y"}`), 1 << 20, []string{"x\n\n"}, ""},
		{"a.jsonl", "", []byte(`{"title": "y", "n": 3}`), 1 << 20, nil, "FILE#title"},
		{"a.jsonl", "", []byte(`{"n": 3}`), 1 << 20, nil, "no field with a text"},
		{"a.jsonl", "n", []byte(`{"n": 3}`), 1 << 20, nil, "the field n is no text"},
		{"a.jsonl", "m", []byte(`{"n": 3}`), 1 << 20, nil, `in the field "m"`},
		{"a.jsonl", "", []byte(lines + "\n{"), 1 << 20, nil, "line 6"},
		{"a.jsonl", "", []byte("[1]"), 1 << 20, nil, "no object"},
		{"a.jsonl", "", []byte(`{"text": "` + strings.Repeat("x", maxRecord) + `"}`), 1 << 20, nil, "more than"},
		{"a.jsonl", "", nil, 1 << 20, nil, "no record has a text"},
		{"a.json.gz", "", []byte("no gzip"), 1 << 20, nil, "a.json.gz"},
		{"a.parquet", "", []byte("PAR1 no parquet PAR1"), 1 << 20, nil, "parquet"},
	} {
		path := filepath.Join(t.TempDir(), test.name)
		if err := os.WriteFile(path, test.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if !IsDataSet(path) {
			t.Errorf("%s is no data set", test.name)
		}
		got, err := ReadDataSet(path, test.field, test.most)
		if test.complaint != "" {
			if !errors.Is(err, ErrRecords) || !strings.Contains(err.Error(), test.complaint) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s, %.40q: %v, want %q", test.name, test.data, err, test.complaint)
			}
		} else if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s %s: %q, %v, want %q", test.name, test.field, got, err, test.want)
		}
	}
	if _, err := ReadDataSet(filepath.Join(t.TempDir(), "a.jsonl"), "", 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for _, name := range []string{"a.json", "a.txt", "a.txt.gz", "jsonl", "parquet"} {
		if IsDataSet(name) {
			t.Errorf("%s is a data set", name)
		}
	}
}

// TestJoinDataSet keeps empty texts, as published evaluations do, and joins with what they join.
func TestJoinDataSet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.parquet")
	if err := os.WriteFile(path, parquetFile(t, []page{{"a", " = One = \n"}, {"b", ""}, {"c", "Two"}}), 0o600); err != nil {
		t.Fatal(err)
	}
	for separator, want := range map[string]string{"\n\n": " = One = \n\n\n\n\nTwo", " ": " = One = \n  Two"} {
		if got, err := JoinDataSet(path, "text", separator, 1<<20); err != nil || got != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	if _, err := JoinDataSet(path, "title", " ", 1<<20); !errors.Is(err, ErrRecords) {
		t.Errorf("a field that is not there: %v", err)
	}
}

// FuzzReadDataSet reads damaged data sets: no panic, and no error but that of the file.
func FuzzReadDataSet(f *testing.F) {
	f.Add(uint8(0), []byte(`{"text": "a"}`+"\n"+`{"text": null}`))
	f.Add(uint8(1), parquetFile(f, []page{{"a", "One."}, {"b", ""}, {"c", "Two"}}))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		path := filepath.Join(dir, []string{"a.jsonl", "a.parquet", "a.jsonl.gz", "a.jsonl.zst"}[kind%4])
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		texts, err := ReadDataSet(path, "", 1<<16)
		if (err == nil) != (len(texts) > 0) || err != nil && !errors.Is(err, ErrRecords) {
			t.Errorf("%d texts, %v", len(texts), err)
		}
	})
}
