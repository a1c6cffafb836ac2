// Package chat renders conversations with the Jinja templates in model files. Templates are untrusted programs: they read no
// file and no clock but the one given, and their time, memory and output are bounded.
package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/jinja"
)

// Bounds of one rendering. The steps grow with the conversation: an ordinary template takes some tens of steps for a message.
const (
	maxTime         = 10 * time.Second
	maxText         = 16 << 20
	stepsBase       = 5_000_000
	stepsPerMessage = 1000
)

// Template is a compiled template. It can be used concurrently.
type Template struct {
	compiled *jinja.Template
	merges   bool // the family puts a system message into the first user message
}

// Input holds the variables of a template.
type Input struct {
	Messages         []infer.Message
	Tools, Documents []json.RawMessage // objects
	BOS, EOS         string            // texts of the start and end tokens
	Now              time.Time         // for strftime_now

	// Mark changes the texts of messages, tools and documents before the template sees them. It may be nil.
	Mark func(string) string
}

// Parse compiles a template. An error names the line of the template's source.
func Parse(source string) (*Template, error) {
	t, err := jinja.Parse(source)
	if err != nil {
		return nil, err
	}
	return &Template{t, mergesSystem(source)}, nil
}

// mergesSystem reports whether a template is of a family whose models read a system message at the start of the first user
// message: Gemma, and the first Mistral models. Their templates refuse the role.
func mergesSystem(source string) bool {
	return strings.Contains(source, "<start_of_turn>") || strings.Contains(source, "[INST]")
}

// Render compiles a template and renders one conversation as it is, ready for the assistant's answer.
func Render(ctx context.Context, template string, in Input) (string, error) {
	t, err := Parse(template)
	if err != nil {
		return "", err
	}
	text, err := t.render(ctx, in)
	return text, described(err)
}

// Prompt renders the conversation, ready for the assistant's answer. It is an error if the text is the same without the tools or the
// documents. Where the template refuses a system message and its family
// puts one into the first user message, Prompt does so, and warning contains the template's reason. An error is the reason of a
// template that refuses the conversation, an error of evaluation with its line, an exceeded bound, or the context's error.
func (t *Template) Prompt(ctx context.Context, in Input) (text, warning string, err error) {
	text, warning, err = t.prompt(ctx, in)
	for _, extra := range []struct {
		what  string
		there bool
		less  func(*Input)
	}{
		{"tools", len(in.Tools) > 0, func(in *Input) { in.Tools = nil }}, {"documents", len(in.Documents) > 0, func(in *Input) { in.Documents = nil }},
	} {
		if !extra.there || err != nil {
			continue
		}
		less := in
		extra.less(&less)
		if other, _, failed := t.prompt(ctx, less); failed == nil && other == text {
			return "", "", fmt.Errorf("it renders no %s: the model would not know of them", extra.what)
		}
	}
	return text, warning, err
}

func (t *Template) prompt(ctx context.Context, in Input) (text, warning string, err error) {
	text, err = t.render(ctx, in)
	if err != nil && t.merges && refused(err) {
		if merged, ok := mergeSystem(in.Messages); ok {
			in.Messages = merged
			if text, second := t.render(ctx, in); second == nil {
				return text, fmt.Sprintf("the chat template refuses system messages (%s): the system message is at the start of the first user message",
					oneLine(err.Error())), nil
			}
		}
	}
	return text, "", described(err)
}

// described returns an error of a rendering in one line.
func described(err error) error {
	var raised *jinja.RaisedError
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &raised):
		return errors.New("it refuses the conversation: " + oneLine(raised.Reason))
	}
	return errors.New(oneLine(err.Error()))
}

// render renders within the bounds. Errors are those of package jinja, or of ctx.
func (t *Template) render(ctx context.Context, in Input) (string, error) {
	limited, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	variables, err := in.variables()
	if err != nil {
		return "", err
	}
	text, err := t.compiled.Render(limited, jinja.Input{
		Variables: append(variables,
			jinja.Pair{Key: "bos_token", Value: in.BOS},
			jinja.Pair{Key: "eos_token", Value: in.EOS},
			jinja.Pair{Key: "add_generation_prompt", Value: true},
		),
		Now:    in.Now,
		Limits: jinja.Limits{Steps: stepsBase + stepsPerMessage*int64(len(in.Messages)), Output: maxText},
	})
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		err = fmt.Errorf("%w: more than %v", jinja.ErrLimit, maxTime)
	}
	return text, err
}

// refused reports whether an error depends on the conversation.
func refused(err error) bool {
	return errors.As(err, new(*jinja.RaisedError)) || errors.As(err, new(*jinja.RuntimeError))
}

// mergeSystem returns the messages with the system message at the start put into the user message that follows.
func mergeSystem(messages []infer.Message) ([]infer.Message, bool) {
	if len(messages) < 2 || messages[0].Role != infer.System || messages[1].Role != infer.User {
		return nil, false
	}
	merged := append([]infer.Message(nil), messages[1:]...)
	merged[0].Content = messages[0].Content + "\n\n" + merged[0].Content
	return merged, true
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
