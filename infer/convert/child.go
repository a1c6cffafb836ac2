package convert

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// childArgument, as the first argument, makes an executable a conversion.
const childArgument = "__convert"

// Bounds of a child.
const (
	cancelGrace = 10 * time.Second // to end by itself when its input ends
	mostStderr  = 1 << 14
	mostLine    = 1 << 16
)

// ErrCrashed is wrapped where the process that converts ended without a word.
var ErrCrashed = errors.New("the conversion crashed")

// order is what the parent wants, one JSON value on the child's standard input. Its end is the order to stop.
type order struct {
	Dir  string `json:"dir"`
	Dst  string `json:"dst"`
	Type string `json:"type"`
	Name string `json:"name"`
}

// word is a line of the child's standard output: progress, or what came out at the end.
type word struct {
	Done   int64   `json:"done,omitempty"`
	Total  int64   `json:"total,omitempty"`
	Report *Report `json:"report,omitempty"`
	Error  string  `json:"error,omitempty"`
	// Is names the sentinels that the error wraps.
	Is []string `json:"is,omitempty"`
}

// sentinels are the errors that keep their identity on the way from the child.
func sentinels() map[string]error {
	return map[string]error{
		"format": ErrFormat, "unsupported": ErrUnsupported, "pickle": ErrPickle, "type": gguf.ErrType, "missing": fs.ErrNotExist,
		"permission": fs.ErrPermission, "canceled": context.Canceled,
	}
}

// told is an error in the words of the child.
type told struct {
	text string
	is   []error
}

func (e *told) Error() string   { return e.text }
func (e *told) Unwrap() []error { return e.is }

// RunIfChild makes this process a conversion if its parent started it as one; then it does not return. Programs that call
// [Process] call it first thing in main, and tests first thing in TestMain.
func RunIfChild() {
	if len(os.Args) < 2 || os.Args[1] != childArgument {
		return
	}
	signal.Ignore(os.Interrupt) // a terminal's Ctrl-C reaches every process of its group; the parent decides what it means
	out := os.Stdout
	os.Stdout = os.Stderr
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(child(os.Stdin, out))
}

// child carries out one order and returns the exit status.
func child(in io.Reader, out io.Writer) int {
	lines := json.NewEncoder(out)
	orders := json.NewDecoder(in)
	var o order
	if err := orders.Decode(&o); err != nil {
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_ = orders.Decode(&struct{}{}) // there is nothing but the end
		cancel()
	}()
	report, err := Folder(ctx, o.Dir, o.Dst, Options{Type: o.Type, Name: o.Name, Progress: func(done, total int64) {
		if lines.Encode(word{Done: done, Total: total}) != nil {
			cancel()
		}
	}})
	last := word{Report: &report}
	if err != nil {
		last = word{Error: err.Error()}
		for name, sentinel := range sentinels() {
			if errors.Is(err, sentinel) {
				last.Is = append(last.Is, name)
			}
		}
	}
	if lines.Encode(last) != nil {
		return 1
	}
	return 0
}

// Process does what [Folder] does in another process of this program, so that a fault in a library on a damaged folder ends
// that process alone; the error then wraps [ErrCrashed]. Nothing is left beside dst, however the process ends.
func Process(ctx context.Context, dir, dst string, o Options) (_ Report, err error) {
	if info, err := os.Stat(dst); err == nil && !info.Mode().IsRegular() {
		return Report{}, fmt.Errorf("convert: writing %s: something that is not a regular file is there", dst)
	}
	own, err := os.MkdirTemp(filepath.Dir(dst), ".lathe-convert-*")
	if err != nil {
		return Report{}, fmt.Errorf("convert: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(own)) }()
	made := filepath.Join(own, filepath.Base(dst))
	if o.Name == "" {
		o.Name = filepath.Base(filepath.Clean(dir))
	}
	report, err := runChild(ctx, order{Dir: dir, Dst: made, Type: o.Type, Name: o.Name}, o.Progress)
	if err != nil {
		return Report{}, err
	}
	if err := durable.Rename(made, dst); err != nil {
		return Report{}, fmt.Errorf("convert: %w", err)
	}
	report.Path = dst
	return report, nil
}

// runChild starts a child and listens until it has ended.
func runChild(ctx context.Context, o order, progress func(done, total int64)) (Report, error) {
	program, err := os.Executable()
	if err != nil {
		return Report{}, fmt.Errorf("convert: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, childArgument)
	var complaint head
	cmd.Stderr = &complaint
	in, err := cmd.StdinPipe()
	if err != nil {
		return Report{}, fmt.Errorf("convert: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return Report{}, fmt.Errorf("convert: %w", err)
	}
	cmd.Cancel, cmd.WaitDelay = in.Close, cancelGrace
	if err := cmd.Start(); err != nil {
		return Report{}, fmt.Errorf("convert: %w", err)
	}
	said, err := listen(in, out, o, progress)
	if wait := cmd.Wait(); err == nil {
		err = wait
	}
	switch {
	case ctx.Err() != nil:
		return Report{}, fmt.Errorf("convert: %w", context.Cause(ctx))
	case said.Report != nil:
		return *said.Report, nil
	case said.Error != "":
		e := &told{text: said.Error}
		for _, name := range said.Is {
			if sentinel := sentinels()[name]; sentinel != nil {
				e.is = append(e.is, sentinel)
			}
		}
		return Report{}, e
	}
	why := "no word of it"
	if err != nil {
		why = err.Error()
	}
	if line := complaint.line(); line != "" {
		why += ": " + line
	}
	return Report{}, fmt.Errorf("convert: %s: %w: %s", o.Dir, ErrCrashed, why)
}

// listen gives the order and returns the child's last word.
func listen(in io.Writer, out io.Reader, o order, progress func(done, total int64)) (word, error) {
	if err := json.NewEncoder(in).Encode(o); err != nil {
		return word{}, err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, mostLine)
	var w word
	for lines.Scan() {
		w = word{}
		if err := json.Unmarshal(lines.Bytes(), &w); err != nil {
			return word{}, err
		}
		if progress != nil && w.Total > 0 {
			progress(w.Done, w.Total)
		}
	}
	return w, lines.Err()
}

// head keeps the beginning of what a process complains of: an abort says what was wrong before it says where.
type head struct{ bytes.Buffer }

func (h *head) Write(b []byte) (int, error) {
	h.Buffer.Write(b[:min(len(b), mostStderr-h.Len())])
	return len(b), nil
}

// line is the first line, in printable characters and of a readable length.
func (h *head) line() string {
	first, _, _ := strings.Cut(strings.TrimSpace(h.String()), "\n")
	first = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, first)
	const longest = 200
	return strings.ToValidUTF8(first[:min(len(first), longest)], "")
}
