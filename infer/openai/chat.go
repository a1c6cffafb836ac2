package openai

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/infer"
)

type chatResponse struct {
	ID      string       `json:"id"`
	Object  string       `json:"object"`
	Created int64        `json:"created"`
	Model   string       `json:"model"`
	Choices []chatChoice `json:"choices"`
	Usage   *usage       `json:"usage,omitempty"`

	// Warning describes how the prompt differs from what the model's own chat template makes of the messages; an extension.
	Warning string `json:"warning,omitempty"`
}

type chatChoice struct {
	Index    int          `json:"index"`
	Message  *chatReply   `json:"message,omitempty"`
	Delta    *chatContent `json:"delta,omitempty"` // instead of Message, in a stream
	LogProbs *chatProbs   `json:"logprobs"`
	Finish   *string      `json:"finish_reason"`
}

// chatReply is a whole message. Refusal is always null.
type chatReply struct {
	Role    string     `json:"role"`
	Content *string    `json:"content"` // null beside calls without a text
	Refusal *string    `json:"refusal"`
	Calls   []toolCall `json:"tool_calls,omitempty"`
}

type chatContent struct {
	Role    string     `json:"role,omitempty"`
	Content string     `json:"content"`
	Calls   []toolCall `json:"tool_calls,omitempty"`
}

// chatProbs are log-probabilities as chat completions have them.
type chatProbs struct {
	Content []chatProb `json:"content"`
	Refusal []chatProb `json:"refusal"` // always null
}

type chatProb struct {
	topProb
	Top []topProb `json:"top_logprobs"`
}

type topProb struct {
	Token   string  `json:"token"`
	LogProb float64 `json:"logprob"`
	Bytes   []int   `json:"bytes"`
}

// chat answers POST /v1/chat/completions.
func (h *Handler) chat(w http.ResponseWriter, r *http.Request, request chatRequest) error {
	form := formOf(h.model.Info().ChatTemplate)
	conversation, s, err := h.asked(request, form)
	if err != nil {
		return err
	}
	response := chatResponse{ID: h.newID("chatcmpl"), Object: "chat.completion", Created: time.Now().Unix(), Model: h.options.Name}
	out := h.newStream(w, request.Stream)
	chunk := func(c chatChoice) error {
		part := response
		part.Object, part.Choices = "chat.completion.chunk", []chatChoice{c}
		return out.event(part)
	}
	var text, whole strings.Builder // whole has control tokens of calls, too
	var probs *chatProbs
	if request.LogProbs {
		probs = &chatProbs{Content: []chatProb{}}
	}
	role := infer.Assistant // in the first delta only
	emit := func(t infer.Token) error {
		text.WriteString(t.Text)
		whole.WriteString(t.Text)
		if t.Control && slices.Contains(form.marks(), t.Piece) {
			whole.WriteString(t.Piece)
		}
		var own *chatProbs
		if request.LogProbs {
			own = &chatProbs{Content: []chatProb{chatProbOf(t)}}
			probs.Content = append(probs.Content, own.Content...)
		}
		if !request.Stream || conversation.Tools != nil || (t.Text == "" && own == nil) {
			return nil
		}
		delta := &chatContent{Role: role, Content: t.Text}
		role = ""
		return chunk(chatChoice{Delta: delta, LogProbs: own})
	}
	stats, err := h.converse(out.traced(r.Context()), conversation, s, emit)
	if err != nil {
		return out.fail(err)
	}
	content, reason := text.String(), finish(stats.Stop)
	var calls []toolCall
	if conversation.Tools != nil {
		if rest, found := form.calls(whole.String(), request.Tools.names); len(found) > 0 {
			content, calls = rest, h.answered(found, request.Stream)
			if stats.Stop != infer.StopLength && stats.Stop != infer.StopContext {
				called := "tool_calls"
				reason = &called
			}
		}
	}
	response.Warning = stats.Warning
	used := &usage{}
	used.add(stats.PromptTokens, stats.Tokens)
	if !request.Stream {
		response.Usage = used
		reply := &chatReply{Role: infer.Assistant, Content: &content, Calls: calls}
		if content == "" && calls != nil {
			reply.Content = nil
		}
		response.Choices = []chatChoice{{Message: reply, LogProbs: probs, Finish: reason}}
		send(w, http.StatusOK, response)
		return nil
	}
	if conversation.Tools != nil { // calls are known at the end of a reply, so it is sent at once
		if err := chunk(chatChoice{Delta: &chatContent{role, content, calls}, LogProbs: probs}); err != nil {
			return nil // the client has disconnected
		}
		role = ""
	}
	if err := chunk(chatChoice{Delta: &chatContent{Role: role}, Finish: reason}); err != nil {
		return nil // the client has disconnected
	}
	if request.StreamOptions.IncludeUsage {
		response.Object, response.Choices, response.Usage = "chat.completion.chunk", []chatChoice{}, used
		if err := out.event(response); err != nil {
			return nil
		}
	}
	return out.done()
}

// asked returns the conversation and the sampling of a request, or what is wrong with it.
func (h *Handler) asked(request chatRequest, form callForm) (infer.Conversation, infer.Sampling, error) {
	if request.MaxCompletionTokens != nil {
		request.MaxTokens = request.MaxCompletionTokens
	}
	s, err := request.sampling(h.options.Seed)
	for _, err := range []error{err, h.named(request.Model), request.check()} {
		if err != nil {
			return infer.Conversation{}, s, err
		}
	}
	if request.MaxTokens != nil && *request.MaxTokens == 0 {
		return infer.Conversation{}, s, bad("max_tokens must be at least 1")
	}
	if request.LogProbs {
		s.LogProbs, s.TopLogProbs = true, request.TopLogProbs
	}
	if err := request.checkTools(form); err != nil {
		return infer.Conversation{}, s, err
	}
	c := infer.Conversation{Messages: request.Messages, Documents: request.Documents}
	if request.withTools() {
		c.Tools = request.Tools.objects
		s.LogProbs = true // for the texts of control tokens
	}
	return c, s, h.fits("the messages have", conversationSize(c))
}

// chatProbOf returns a generated token with its alternatives.
func chatProbOf(t infer.Token) chatProb {
	p := chatProb{oneProb(t.Piece, t.LogProb), []topProb{}}
	for _, other := range t.Top {
		p.Top = append(p.Top, oneProb(other.Text, other.LogProb))
	}
	return p
}

func oneProb(piece string, logProb float64) topProb {
	p := topProb{Token: clean(piece), LogProb: logProb, Bytes: []int{}}
	for _, b := range []byte(piece) {
		p.Bytes = append(p.Bytes, int(b))
	}
	return p
}

// converse is infer's Chat, with tools and documents where there are some.
func (h *Handler) converse(ctx context.Context, c infer.Conversation, s infer.Sampling, emit func(infer.Token) error) (infer.GenStats, error) {
	if c.Tools == nil && c.Documents == nil {
		return h.model.Chat(ctx, c.Messages, s, emit)
	}
	prompt, err := h.model.PromptWith(ctx, c)
	if err != nil {
		return infer.GenStats{}, err
	}
	stats, err := h.model.Generate(ctx, prompt.Tokens, s, emit)
	stats.Warning = prompt.Warning
	return stats, err
}

// conversationSize returns the bytes of all texts.
func conversationSize(c infer.Conversation) int {
	size := 0
	for _, m := range c.Messages {
		size += len(m.Content)
		for _, call := range m.Calls {
			size += len(call.Name) + len(call.Arguments)
		}
	}
	for _, raw := range slices.Concat(c.Tools, c.Documents) {
		size += len(raw)
	}
	return size
}
