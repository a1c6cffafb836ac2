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
	"syscall"
	"time"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/plain"
	"github.com/lathe-llm/lathe/infer/scratch"
)

// childArgument is the first argument of a process that converts.
const childArgument = "__convert"

// Bounds of a child.
const (
	cancelGrace = 10 * time.Second // to exit after the end of its input
	maxStderr   = 1 << 14
	maxLine     = 1 << 24 // a report lists tensors
)

// ErrCrashed is wrapped where the process that converts ended without a result.
var ErrCrashed = errors.New("the conversion crashed")

// request is the one JSON value on the standard input of the child. The end of the input cancels the conversion.
type request struct {
	Dir  string `json:"dir"`
	Dst  string `json:"dst"`
	Type string `json:"type"`
	Name string `json:"name"`
}

// message is a line of the standard output of the child: progress, or the result at the end.
type message struct {
	Done   int64   `json:"done,omitempty"`
	Total  int64   `json:"total,omitempty"`
	Report *Report `json:"report,omitempty"`
	Error  string  `json:"error,omitempty"`
	// Is holds the names of the sentinels that the error wraps.
	Is []string `json:"is,omitempty"`
}

// sentinels returns the errors that the parent can recognise in an error of the child.
func sentinels() map[string]error {
	return map[string]error{
		"format": ErrFormat, "unsupported": ErrUnsupported, "pickle": ErrPickle, "type": gguf.ErrType, "missing": fs.ErrNotExist,
		"permission": fs.ErrPermission, "canceled": context.Canceled, "full": syscall.ENOSPC, "quota": syscall.EDQUOT,
	}
}

// childError is an error of the child.
type childError struct {
	text string
	is   []error
}

func (e *childError) Error() string   { return e.text }
func (e *childError) Unwrap() []error { return e.is }

// RunIfChild converts and exits where [Process] started this process; otherwise it returns at once. Programs that call
// [Process] must call it at the start of main, and tests at the start of TestMain.
func RunIfChild() {
	if len(os.Args) < 2 || os.Args[1] != childArgument {
		return
	}
	signal.Ignore(os.Interrupt) // Ctrl-C reaches every process of the group; the parent handles it
	out := os.Stdout
	os.Stdout = os.Stderr
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(child(os.Stdin, out))
}

// child serves one request and returns the exit status.
func child(in io.Reader, out io.Writer) int {
	lines := json.NewEncoder(out)
	requests := json.NewDecoder(in)
	var o request
	if err := requests.Decode(&o); err != nil {
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_ = requests.Decode(&struct{}{}) // returns at the end of the input
		cancel()
	}()
	report, err := Folder(ctx, o.Dir, o.Dst, Options{Type: o.Type, Name: o.Name, Progress: func(done, total int64) {
		if lines.Encode(message{Done: done, Total: total}) != nil {
			cancel()
		}
	}})
	last := message{Report: &report}
	if err != nil {
		last = message{Error: plain.Error(err)}
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

// Process calls [Folder] in another process of this program, so that a crash of a library on a damaged folder ends only that
// process; the error then wraps [ErrCrashed]. Nothing is left beside dst, however the process ends.
func Process(ctx context.Context, dir, dst string, o Options) (_ Report, err error) {
	if info, err := os.Stat(dst); err == nil && !info.Mode().IsRegular() {
		return Report{}, fmt.Errorf("convert: writing %s: not a regular file", dst)
	}
	own, err := scratch.Beside(dst)
	if err != nil {
		return Report{}, fmt.Errorf("convert: %w", err)
	}
	defer func() { err = errors.Join(err, own.Remove()) }()
	temp := own.Join(filepath.Base(dst))
	if o.Name == "" {
		o.Name = filepath.Base(filepath.Clean(dir))
	}
	report, err := runChild(ctx, request{Dir: dir, Dst: temp, Type: o.Type, Name: o.Name}, o.Progress)
	if err != nil {
		return Report{}, err
	}
	if err := durable.Rename(temp, dst); err != nil {
		return Report{}, fmt.Errorf("convert: %w", err)
	}
	report.Path = dst
	return report, nil
}

// runChild starts a child and waits for its result.
func runChild(ctx context.Context, o request, progress func(done, total int64)) (Report, error) {
	program, err := os.Executable()
	if err != nil {
		return Report{}, fmt.Errorf("convert: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, childArgument)
	var stderr head
	cmd.Stderr = &stderr
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
	last, err := converse(in, out, o, progress)
	if wait := cmd.Wait(); err == nil {
		err = wait
	}
	switch {
	case ctx.Err() != nil:
		return Report{}, fmt.Errorf("convert: %w", context.Cause(ctx))
	case last.Report != nil:
		return *last.Report, nil
	case last.Error != "":
		e := &childError{text: last.Error}
		for _, name := range last.Is {
			if sentinel := sentinels()[name]; sentinel != nil {
				e.is = append(e.is, sentinel)
			}
		}
		return Report{}, e
	}
	why := "no result"
	if err != nil {
		why = plain.Error(err)
	}
	if line := stderr.line(); line != "" {
		why += ": " + line
	}
	return Report{}, fmt.Errorf("convert: %s: %w: %s", o.Dir, ErrCrashed, why)
}

// converse sends the request and returns the last message of the child.
func converse(in io.Writer, out io.Reader, o request, progress func(done, total int64)) (message, error) {
	if err := json.NewEncoder(in).Encode(o); err != nil {
		return message{}, err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, maxLine)
	var w message
	for lines.Scan() {
		w = message{}
		if err := json.Unmarshal(lines.Bytes(), &w); err != nil {
			return message{}, err
		}
		if progress != nil && w.Total > 0 {
			progress(w.Done, w.Total)
		}
	}
	return w, lines.Err()
}

// head keeps the start of the standard error of a process. An abort prints its reason before the stack.
type head struct{ bytes.Buffer }

func (h *head) Write(b []byte) (int, error) {
	h.Buffer.Write(b[:min(len(b), maxStderr-h.Len())])
	return len(b), nil
}

// line returns the first line, without control characters and at most 200 bytes long.
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
