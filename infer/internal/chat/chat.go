// Package chat renders conversations with the Jinja templates in model files. Templates are untrusted programs: they can read
// no file and no clock but the one given, and their time, memory and output are bounded.
package chat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
)

// Bounds of a rendering.
const (
	MaxTemplate = 1 << 20   // bytes of template source; the longest known are around 20 KB
	MaxText     = 16 << 20  // bytes of rendered text
	MaxMemory   = 512 << 20 // bytes that the heap may grow meanwhile
	MaxTime     = 2 * time.Second
	maxRange    = 100_000 // numbers that range() returns
)

// ErrRunaway means that a template exceeded its bound on time or memory. It still runs: only the end of the process stops it.
var ErrRunaway = errors.New("the template does not end")

// Input holds the variables of a template.
type Input struct {
	Messages []infer.Message
	BOS, EOS string    // texts of the start and end tokens
	Now      time.Time // for strftime_now
}

// Render renders the conversation, ready for the assistant's answer. An error is raised by the template (raise_exception), or
// is one of its syntax or evaluation, or an exceeded bound.
func Render(ctx context.Context, template string, in Input) (string, error) {
	if len(template) > MaxTemplate {
		return "", fmt.Errorf("template of %d bytes, more than %d", len(template), MaxTemplate)
	}
	ctx, cancel := context.WithTimeout(ctx, MaxTime)
	defer cancel()

	type outcome struct {
		text string
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		text, err := render(ctx, template, in)
		done <- outcome{text, err}
	}()
	limit := heapBytes() + MaxMemory
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case o := <-done:
			return o.text, o.err
		case <-ctx.Done():
			return "", fmt.Errorf("%w: %w", ErrRunaway, ctx.Err())
		case <-tick.C:
			if heapBytes() > limit {
				return "", fmt.Errorf("%w: more than %d MiB", ErrRunaway, MaxMemory>>20)
			}
		}
	}
}

func heapBytes() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// PlainChatML renders the conversation in the format of many small chat models, for models without a usable template.
func PlainChatML(messages []infer.Message) string {
	var b strings.Builder
	for _, m := range messages {
		fmt.Fprintf(&b, "<|im_start|>%s\n%s<|im_end|>\n", m.Role, m.Content)
	}
	b.WriteString("<|im_start|>assistant\n")
	return b.String()
}

func render(ctx context.Context, template string, in Input) (text string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the template failed: %v", r)
		}
	}()
	raised := new(string)
	t, err := exec.NewTemplate(rootName, config.New(), sealed{normalise(template)}, environment(in, raised))
	if err != nil {
		return "", errors.New("the template cannot be parsed: " + lastLine(err.Error()))
	}
	out := &boundedWriter{ctx: ctx}
	err = t.Execute(out, exec.NewContext(variables(in)))
	switch {
	case *raised != "":
		return "", fmt.Errorf("the template rejects the conversation: %s", *raised)
	case out.err != nil:
		return "", out.err
	case err != nil:
		return "", errors.New("the template failed: " + lastLine(err.Error()))
	}
	return out.buf.String(), nil
}

// environment returns the library's without includes and imports, with the additions of Hugging Face.
func environment(in Input, raised *string) *exec.Environment {
	globals := exec.EmptyContext().Update(builtins.GlobalFunctions).Update(exec.NewContext(map[string]any{
		"range": boundedRange,
		"raise_exception": func(_ *exec.Evaluator, args *exec.VarArgs) (string, error) {
			*raised = "no reason given"
			if len(args.Args) > 0 {
				*raised = args.First().String()
			}
			return "", errors.New(*raised)
		},
		"strftime_now": func(_ *exec.Evaluator, args *exec.VarArgs) (string, error) {
			if len(args.Args) != 1 {
				return "", exec.ErrInvalidCall(errors.New("strftime_now takes a format"))
			}
			return strftime(in.Now, args.First().String()), nil
		},
	}))
	structures := map[string]parserFunc{"generation": parseGeneration}
	for _, name := range []string{"for", "if", "set", "macro", "raw", "with", "filter"} {
		if p, ok := builtins.ControlStructures.Get(name); ok {
			structures[name] = p
		}
	}
	methods := builtins.Methods
	methods.Str, methods.Dict = stringMethods(), dictMethods()
	return &exec.Environment{
		Context: globals, Filters: builtins.Filters, Tests: builtins.Tests,
		ControlStructures: exec.NewControlStructureSet(structures), Methods: methods,
	}
}

func variables(in Input) map[string]any {
	messages := make([]any, len(in.Messages))
	for i, m := range in.Messages {
		messages[i] = map[string]any{"role": m.Role, "content": m.Content}
	}
	return map[string]any{
		"messages":              messages,
		"bos_token":             in.BOS,
		"eos_token":             in.EOS,
		"add_generation_prompt": true,
		"tools":                 nil,
		"documents":             nil,
	}
}

func boundedRange(_ *exec.Evaluator, args *exec.VarArgs) ([]int, error) {
	start, stop, step := 0, 0, 1
	var given []int
	for _, a := range args.Args {
		if !a.IsInteger() {
			return nil, exec.ErrInvalidCall(errors.New("range takes integers"))
		}
		given = append(given, a.Integer())
	}
	switch len(given) {
	case 1:
		stop = given[0]
	case 2:
		start, stop = given[0], given[1]
	case 3:
		start, stop, step = given[0], given[1], given[2]
	}
	if len(given) < 1 || len(given) > 3 || step == 0 {
		return nil, exec.ErrInvalidCall(errors.New("range takes [start,] stop [, step]"))
	}
	out := []int{}
	for i := start; (step > 0 && i < stop) || (step < 0 && i > stop); i += step {
		if len(out) == maxRange {
			return nil, fmt.Errorf("range of more than %d numbers", maxRange)
		}
		out = append(out, i)
	}
	return out, nil
}

// boundedWriter collects output until it is too long or ctx is done.
type boundedWriter struct {
	ctx context.Context
	buf bytes.Buffer
	err error
}

func (w *boundedWriter) Write(p []byte) (int, error) {
	switch {
	case w.err != nil:
	case w.ctx.Err() != nil:
		w.err = w.ctx.Err()
	case w.buf.Len()+len(p) > MaxText:
		w.err = fmt.Errorf("the template writes more than %d MiB", MaxText>>20)
	default:
		return w.buf.Write(p)
	}
	return 0, w.err
}

// rootName is the name of the only template.
const rootName = "chat_template"

// sealed is a loader that reads the template itself and nothing else.
type sealed struct{ source string }

func (s sealed) Read(path string) (io.Reader, error) {
	if path != rootName {
		return nil, fmt.Errorf("templates cannot read %q", path)
	}
	return strings.NewReader(s.source), nil
}

func (s sealed) Resolve(path string) (string, error) { return path, nil }

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
