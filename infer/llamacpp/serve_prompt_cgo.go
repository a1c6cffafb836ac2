//go:build cgo && !nocgo

package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/chat"
)

// compiled is the last template in use: a model has one.
type compiled struct {
	source   string
	template *chat.Template
	err      error
}

// prompt renders a conversation and tokenizes it.
func (s *session) prompt(r promptRequest) (promptReply, error) {
	if s.net == nil {
		return promptReply{}, fmt.Errorf("%w: prompt before a model is loaded", errProtocol)
	}
	start := s.net.text(s.net.info.BOS)
	render := s.rendered
	if r.Template == "" {
		render = s.builtin
	}
	in := chat.Input{Messages: r.Messages, Tools: r.Tools, Documents: r.Documents, BOS: start, EOS: s.net.text(s.net.info.EOS), Now: time.Now()}
	mark, err := s.net.tokenizer.Controls.Guard(&in)
	if err != nil {
		return promptReply{}, err
	}
	reply, err := render(r, in)
	if err != nil {
		return promptReply{}, err
	}
	text := reply.Text
	if mark != "" {
		text = strings.ReplaceAll(text, mark, "")
	}
	// Tokenizing megabytes takes a while, in which the model answers nobody.
	if longest := s.net.info.LongestToken; longest > 0 && len(text)/longest >= s.net.info.Context {
		return promptReply{}, fmt.Errorf("prompt of at least %d tokens, context of %d: %w", len(text)/longest, s.net.info.Context, infer.ErrContextFull)
	}
	// Many templates write the start token themselves; models are not trained on two of them.
	written := start != "" && strings.HasPrefix(reply.Text, start)
	if mark == "" {
		reply.Tokens, err = s.net.tokenizer.Tokenize(reply.Text, s.net.info.AddBOS && !written, true)
		return reply, err
	}
	reply.Tokens, err = s.net.tokenizer.Guarded(reply.Text, mark, s.net.info.AddBOS && !written)
	reply.Text = text
	return reply, err
}

// rendered renders with the file's template. An abort of the request ends it.
func (s *session) rendered(r promptRequest, in chat.Input) (promptReply, error) {
	c := &s.compiled
	if c.source != r.Template {
		c.source = r.Template
		c.template, c.err = chat.Parse(r.Template)
	}
	if c.err != nil {
		return promptReply{}, fmt.Errorf("%w of %s cannot be parsed: tokenizer.chat_template, %w", infer.ErrTemplate, r.Source, c.err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	end := func() { cancel() }
	s.cancel.Store(&end)
	defer s.cancel.Store(nil)
	if s.aborted.Load() {
		return promptReply{}, errAborted
	}
	text, warning, err := c.template.Prompt(ctx, in)
	switch {
	case errors.Is(err, context.Canceled):
		return promptReply{}, errAborted
	case err != nil:
		return promptReply{}, fmt.Errorf("%w: %w", infer.ErrTemplate, err)
	}
	return promptReply{Text: text, Warning: warning}, nil
}

// builtin renders in a format of llama.cpp, for files without a template: the one that llama.cpp detects by the marks in the
// vocabulary, else that of the model's family, else ChatML.
func (s *session) builtin(r promptRequest, in chat.Input) (promptReply, error) {
	if !in.Plain() {
		return promptReply{}, fmt.Errorf("%w: the file has none, and built-in formats have no tools and documents", infer.ErrTemplate)
	}
	messages := make([]infer.Message, len(in.Messages))
	for i, m := range in.Messages {
		if in.Mark != nil {
			m.Role, m.Content = in.Mark(m.Role), in.Mark(m.Content)
		}
		messages[i] = m
		if strings.ContainsRune(m.Role+m.Content, 0) {
			return promptReply{}, fmt.Errorf("a message contains a NUL character, which built-in chat formats cannot hold: %w", infer.ErrInvalid)
		}
	}
	format, why := formatOf(r.Marks), "llama.cpp recognises it by control tokens of the vocabulary"
	if format == "" {
		format, why = r.Format, "the model's family uses it"
	}
	if format == "" {
		format, why = "chatml", "nothing in the file indicates another"
	}
	text, ok := applyFormat(format, messages)
	if !ok {
		return promptReply{}, fmt.Errorf("%w: llama.cpp cannot render the format %s", infer.ErrTemplate, format)
	}
	return promptReply{
		Text:    text,
		Warning: fmt.Sprintf("the file has no chat template: the built-in format %s is used; %s", format, why),
		Stops:   stopsOf(format),
	}, nil
}

// formatOf returns the name of the format that llama.cpp detects in marks, "" if it detects none.
func formatOf(marks string) string {
	if marks == "" {
		return ""
	}
	probe := []infer.Message{{Role: infer.System, Content: " s "}, {Role: infer.User, Content: " u "}, {Role: infer.Assistant, Content: " a "}, {Role: infer.User, Content: " v "}}
	want, ok := applyFormat(marks, probe)
	if !ok {
		return ""
	}
	for _, name := range formats() {
		if text, ok := applyFormat(name, probe); ok && text == want {
			return name
		}
	}
	return ""
}

// stopsOf returns texts that end a reply: the marks of a format need not be end tokens of the model.
func stopsOf(format string) []string {
	switch {
	case format == "chatml", strings.HasPrefix(format, "phi4"):
		return []string{"<|im_end|>", "<|im_start|>"}
	case format == "gemma":
		return []string{"<end_of_turn>", "<start_of_turn>"}
	case format == "llama3":
		return []string{"<|eot_id|>", "<|start_header_id|>"}
	case format == "phi3":
		return []string{"<|end|>", "<|user|>"}
	case format == "zephyr", format == "falcon3", format == "glmedge":
		return []string{"<|user|>"}
	case strings.HasPrefix(format, "vicuna"):
		return []string{"USER:"}
	case strings.HasPrefix(format, "llama2"), strings.HasPrefix(format, "mistral"):
		return []string{"[INST]"}
	}
	return nil
}
