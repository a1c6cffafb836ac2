package quality

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// ErrFormat means that a file is not what its task expects.
var ErrFormat = errors.New("not in the task's format")

// Bounds of a task's file.
const (
	maxLine      = 1 << 20
	maxQuestions = 1 << 20
	maxChoices   = 26
)

// format is how the questions of a task are written and asked.
type format struct {
	norm bool
	read func(line []byte, label string) (Item, error) // label is the line of the labels' file, "" without one
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

// Tasks are the names that ParseTask knows, in alphabetical order; they are the harness's.
func Tasks() []string {
	var names []string
	for name := range formats() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// ParseTask reads the questions of a named task from the dataset's own JSON lines, in the form of its authors or of the
// Hugging Face hub. labels holds the right answers, a line each, where they are a file of their own (PIQA, WinoGrande);
// otherwise it is nil.
func ParseTask(name string, questions, labels io.Reader) (Task, error) {
	f, ok := formats()[name]
	if !ok {
		return Task{}, fmt.Errorf("quality: no task %q: %s", name, strings.Join(Tasks(), ", "))
	}
	t := Task{Name: name, Norm: f.norm}
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
		if len(t.Items) == maxQuestions {
			return Task{}, fmt.Errorf("quality: %s: more than %d questions: %w", name, maxQuestions, ErrFormat)
		}
		label := ""
		if right != nil {
			if !right.Scan() {
				return Task{}, fmt.Errorf("quality: %s: line %d has no label: %w", name, n, ErrFormat)
			}
			label = strings.TrimSpace(right.Text())
		}
		item, err := f.read(line, label)
		if err == nil {
			err = item.check()
		}
		if err != nil {
			return Task{}, fmt.Errorf("quality: %s: line %d: %w", name, n, err)
		}
		t.Items = append(t.Items, item)
	}
	if err := scan.Err(); err != nil {
		return Task{}, fmt.Errorf("quality: %s: after question %d: %w", name, len(t.Items), err)
	}
	if len(t.Items) == 0 {
		return Task{}, fmt.Errorf("quality: %s: no questions: %w", name, ErrFormat)
	}
	return t, nil
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

// index is a label: a number, or text that holds one.
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
		return fmt.Errorf("label %s is no number", data)
	}
	x.value, x.there = n, true
	return nil
}

// or is the label, or else the one of the labels' file.
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
