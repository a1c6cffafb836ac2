package quality

import (
	"errors"
	"fmt"
	"io"

	"github.com/lathe-llm/lathe/infer/internal/records"
)

// ParseParquet reads the questions of a named task from a parquet file of size bytes, the format of the Hugging Face hub. The
// columns have the names of the fields that [ParseTask] reads.
func ParseParquet(name string, r io.ReaderAt, size int64) (Task, error) {
	t, err := newTask(name)
	if err != nil {
		return Task{}, err
	}
	err = records.Parquet(r, size, records.Bounds{Rows: maxQuestions, Row: maxLine}, func(_ int, line []byte) error { return t.add(line, "") })
	if errors.Is(err, records.ErrFormat) {
		err = fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if err != nil {
		return Task{}, fmt.Errorf("quality: %s: %w", name, err)
	}
	return t.finish()
}
