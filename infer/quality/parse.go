package quality

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/infer/internal/records"
)

// ErrFormat means that a file is not in the format of its task.
var ErrFormat = errors.New("not in the task's format")

// Bounds of a task's file.
const (
	maxLine      = 1 << 20
	maxQuestions = 1 << 20
	maxChoices   = 26
)

// format describes how the questions of a task are stored and rendered.
type format struct {
	norm bool
	read func(line []byte, label string) (Item, error) // label is the line of the file of labels, "" without one
}

func formats() map[string]format {
	return map[string]format{
		"boolq":         {false, readBoolQ},
		"piqa":          {true, readPIQA},
		"hellaswag":     {true, readHellaSwag},
		"winogrande":    {false, readWinoGrande},
		"arc_easy":      {true, readARC},
		"arc_challenge": {true, readARC},
		"openbookqa":    {true, readOpenBookQA},
	}
}

// Tasks returns the names that ParseTask accepts, in alphabetical order; they are the harness's.
func Tasks() []string {
	var names []string
	for name := range formats() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// ParseTask reads the questions of a named task from the dataset's own JSON lines, in the format of its authors or of the
// Hugging Face hub. labels holds the right answers, one per line, where they are in a separate file (PIQA, WinoGrande);
// otherwise it is nil.
func ParseTask(name string, questions, labels io.Reader) (Task, error) {
	t, err := newTask(name)
	if err != nil {
		return Task{}, err
	}
	var right *bufio.Scanner
	if labels != nil {
		right = lines(labels)
	}
	scan := lines(questions)
	for n := 1; scan.Scan(); n++ {
		line := bytes.TrimSpace(scan.Bytes())
		if len(line) == 0 {
			continue
		}
		label := ""
		if right != nil {
			if !right.Scan() {
				return Task{}, fmt.Errorf("quality: %s: line %d has no label: %w", name, n, ErrFormat)
			}
			label = strings.TrimSpace(right.Text())
		}
		if err := t.add(line, label); err != nil {
			return Task{}, fmt.Errorf("quality: %s: line %d: %w", name, n, err)
		}
	}
	if err := scan.Err(); err != nil {
		return Task{}, fmt.Errorf("quality: %s: after question %d: %w", name, len(t.Items), err)
	}
	return t.finish()
}

// OpenTask reads the questions of a named task from a file of JSON lines or parquet, which it detects by content. labels is the
// file of the right answers, "" where they are in the same file.
func OpenTask(name, path, labels string) (Task, error) {
	f, err := os.Open(path)
	if err != nil {
		return Task{}, err
	}
	defer func() { _ = f.Close() }() // only read from
	info, err := f.Stat()
	if err != nil {
		return Task{}, err
	}
	var magic [len(records.Magic)]byte
	if _, err := f.ReadAt(magic[:], 0); err == nil && string(magic[:]) == records.Magic {
		t, err := ParseParquet(name, f, info.Size())
		return t, inFile(path, err)
	}
	if labels == "" {
		t, err := ParseTask(name, f, nil)
		return t, inFile(path, err)
	}
	l, err := os.Open(labels)
	if err != nil {
		return Task{}, err
	}
	defer func() { _ = l.Close() }() // only read from
	t, err := ParseTask(name, f, l)
	return t, inFile(path, err)
}

func inFile(path string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// reading is a task being read.
type reading struct {
	Task
	format
}

func newTask(name string) (*reading, error) {
	f, ok := formats()[name]
	if !ok {
		return nil, fmt.Errorf("quality: no task %q: %s", name, strings.Join(Tasks(), ", "))
	}
	return &reading{Task{Name: name, Norm: f.norm}, f}, nil
}

// add reads one question.
func (t *reading) add(line []byte, label string) error {
	if len(t.Items) == maxQuestions {
		return fmt.Errorf("more than %d questions: %w", maxQuestions, ErrFormat)
	}
	item, err := t.read(line, label)
	if err == nil {
		err = item.check()
	}
	if err != nil {
		return err
	}
	t.Items = append(t.Items, item)
	return nil
}

// finish returns the task after the last question.
func (t *reading) finish() (Task, error) {
	if len(t.Items) == 0 {
		return Task{}, fmt.Errorf("quality: %s: no questions: %w", t.Name, ErrFormat)
	}
	return t.Task, nil
}

func lines(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	return s
}

func (i Item) check() error {
	if n := len(i.Choices); n < 2 || n > maxChoices {
		return fmt.Errorf("%d choices: %w", n, ErrFormat)
	}
	if i.Gold < 0 || i.Gold >= len(i.Choices) {
		return fmt.Errorf("right answer %d of %d: %w", i.Gold+1, len(i.Choices), ErrFormat)
	}
	return nil
}

// unmarshal reads a line into a T.
func unmarshal[T any](line []byte) (T, error) {
	var v T
	if err := json.Unmarshal(line, &v); err != nil {
		return v, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return v, nil
}

// index is a label: a number, or a string with one.
type index struct {
	value int
	there bool
}

// UnmarshalJSON implements [json.Unmarshaler].
func (x *index) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	if text == "" || text == "null" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("label %s is not a number", data)
	}
	x.value, x.there = n, true
	return nil
}

// or returns x, or the label of the file of labels where x is absent.
func (x index) or(label string) (int, error) {
	if x.there {
		return x.value, nil
	}
	n, err := strconv.Atoi(label)
	if err != nil {
		return 0, fmt.Errorf("no label: %w", ErrFormat)
	}
	return n, nil
}
