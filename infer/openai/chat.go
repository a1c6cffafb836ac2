package openai

import (
	"net/http"
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
	Role    string  `json:"role"`
	Content string  `json:"content"`
	Refusal *string `json:"refusal"`
}

type chatContent struct {
	Role    string `json:"role,omitempty"`
	Content string `json:"content"`
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
	if request.MaxCompletionTokens != nil {
		request.MaxTokens = request.MaxCompletionTokens
	}
	s, err := request.sampling(h.options.Seed)
	for _, err := range []error{err, h.named(request.Model), request.check()} {
		if err != nil {
			return err
		}
	}
	if request.MaxTokens != nil && *request.MaxTokens == 0 {
		return bad("max_tokens must be at least 1")
	}
	if request.LogProbs {
		s.LogProbs, s.TopLogProbs = true, request.TopLogProbs
	}
	messages, size := make([]infer.Message, len(request.Messages)), 0
	for i, m := range request.Messages {
		messages[i] = m
		size += len(m.Content)
	}
	if err := h.fits("the messages have", size); err != nil {
		return err
	}
	response := chatResponse{ID: h.newID("chatcmpl"), Object: "chat.completion", Created: time.Now().Unix(), Model: h.options.Name}
	out := h.newStream(w, request.Stream)
	chunk := func(c chatChoice) error {
		part := response
		part.Object, part.Choices = "chat.completion.chunk", []chatChoice{c}
		return out.event(part)
	}
	var text strings.Builder
	var probs *chatProbs
	if request.LogProbs {
		probs = &chatProbs{Content: []chatProb{}}
	}
	role := infer.Assistant // in the first delta only
	stats, err := h.model.Chat(out.traced(r.Context()), messages, s, func(t infer.Token) error {
		text.WriteString(t.Text)
		var own *chatProbs
		if request.LogProbs {
			own = &chatProbs{Content: []chatProb{chatProbOf(t)}}
			probs.Content = append(probs.Content, own.Content...)
		}
		if !request.Stream || (t.Text == "" && own == nil) {
			return nil
		}
		delta := &chatContent{Role: role, Content: t.Text}
		role = ""
		return chunk(chatChoice{Delta: delta, LogProbs: own})
	})
	if err != nil {
		return out.fail(err)
	}
	response.Warning = stats.Warning
	used := &usage{}
	used.add(stats.PromptTokens, stats.Tokens)
	if !request.Stream {
		response.Usage = used
		response.Choices = []chatChoice{{
			Message: &chatReply{Role: infer.Assistant, Content: text.String()}, LogProbs: probs, Finish: finish(stats.Stop),
		}}
		send(w, http.StatusOK, response)
		return nil
	}
	if err := chunk(chatChoice{Delta: &chatContent{Role: role}, Finish: finish(stats.Stop)}); err != nil {
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
