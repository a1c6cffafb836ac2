package corpus

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/lathe-llm/lathe/infer/internal/records"
)

// ErrRecords means that a file is no data set, or has no texts.
var ErrRecords = errors.New("not a data set with texts")

// Bounds of a data set.
const (
	maxRecord  = 16 << 20  // bytes
	maxRecords = 1 << 30   // of a file
	maxWindow  = 128 << 20 // of memory that a packed file asks for
)

// textFields are the fields that hold the text of a record, the likeliest first.
var textFields = [...]string{"text", "content", "document", "article", "story", "body"}

// IsDataSet reports whether a file of that name is read as a data set: parquet, or JSON lines, which may be packed.
func IsDataSet(path string) bool {
	name := strings.ToLower(filepath.Base(path))
	packed := name
	for _, ending := range []string{".gz", ".zst"} {
		packed = strings.TrimSuffix(packed, ending)
	}
	switch filepath.Ext(packed) {
	case ".jsonl", ".ndjson":
		return true
	case ".json":
		return packed != name
	}
	return filepath.Ext(name) == ".parquet"
}

// ReadDataSet returns the texts of the records of a file, the first ones up to so many bytes. field is that of the text; "" is the first
// of text, content, document, article, story and body that the first record has. Records without it, or with an empty one, are
// left out. Errors wrap [ErrRecords] where the file is at fault.
func ReadDataSet(path, field string, most int64) ([]string, error) {
	return read(path, dataSet{field: field, left: most})
}

// JoinDataSet is ReadDataSet with the texts as they are, empty ones included, joined by a separator: published perplexities are on such
// texts.
func JoinDataSet(path, field, separator string, most int64) (string, error) {
	texts, err := read(path, dataSet{field: field, left: most, asIs: true})
	return strings.Join(texts, separator), err
}

func read(path string, set dataSet) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	bounds := records.Bounds{Rows: maxRecords, Row: maxRecord}
	if strings.ToLower(filepath.Ext(path)) == ".parquet" {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		err = records.Parquet(f, info.Size(), bounds, set.add)
		return set.result(path, err)
	}
	r, err := unpacked(path, f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrRecords, err)
	}
	return set.result(path, records.Lines(r, bounds, set.add))
}

// unpacked returns what a file holds.
func unpacked(path string, f io.Reader) (io.Reader, error) {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".gz":
		return gzip.NewReader(f)
	case ".zst":
		return zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	}
	return f, nil
}

// dataSet is a data set being read.
type dataSet struct {
	field string
	left  int64
	asIs  bool // empty texts too, and nothing behind them
	texts []string
}

// add adds the text of a record.
func (d *dataSet) add(_ int, object []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil {
		return fmt.Errorf("%w: no object: %w", ErrRecords, err)
	}
	if d.field == "" {
		if err := d.choose(fields); err != nil {
			return err
		}
	}
	raw, ok := fields[d.field]
	if !ok {
		return nil
	}
	var text *string
	if err := json.Unmarshal(raw, &text); err != nil {
		return fmt.Errorf("%w: the field %s is no text", ErrRecords, d.field)
	}
	switch {
	case text != nil && d.asIs:
		d.texts = append(d.texts, *text)
	case text == nil || strings.TrimSpace(*text) == "":
		return nil
	default:
		d.texts = append(d.texts, *text+"\n\n")
	}
	if d.left -= int64(len(*text)); d.left <= 0 {
		return records.ErrStop
	}
	return nil
}

// choose sets the field of the text.
func (d *dataSet) choose(fields map[string]json.RawMessage) error {
	var names []string
	for name, raw := range fields {
		if len(raw) > 0 && raw[0] == '"' {
			names = append(names, name)
		}
	}
	for _, name := range textFields {
		if slices.Contains(names, name) {
			d.field = name
			return nil
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return fmt.Errorf("%w: the record has no field with a text", ErrRecords)
	}
	return fmt.Errorf("%w: the text is in none of the fields %s: name its field behind the file, as FILE#%s (there are %.300s)", ErrRecords, strings.Join(textFields[:], ", "), names[0], strings.Join(names, ", "))
}

// result returns the texts.
func (d *dataSet) result(path string, err error) ([]string, error) {
	switch {
	case errors.Is(err, records.ErrFormat) || err != nil && !errors.Is(err, ErrRecords) && !isPath(err):
		return nil, fmt.Errorf("%s: %w: %w", path, ErrRecords, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case len(d.texts) == 0:
		return nil, fmt.Errorf("%s: %w: no record has a text in the field %q", path, ErrRecords, d.field)
	}
	return d.texts, nil
}

// isPath reports whether the file could not be read.
func isPath(err error) bool {
	var failed *os.PathError
	return errors.As(err, &failed)
}
