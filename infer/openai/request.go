package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/infer"
)

// common holds the fields of both kinds of completion. Pointers distinguish absent fields from zero.
type common struct {
	Model         string   `json:"model"`
	MaxTokens     *int     `json:"max_tokens"`
	Temperature   *float64 `json:"temperature"`
	TopP          *float64 `json:"top_p"`
	TopK          *int     `json:"top_k"` // an extension, as the two below
	MinP          *float64 `json:"min_p"`
	RepeatPenalty *float64 `json:"repeat_penalty"`
	Seed          *int64   `json:"seed"`
	Stop          texts    `json:"stop"`
	N             *int     `json:"n"`
	Stream        bool     `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	PresencePenalty  float64         `json:"presence_penalty"`
	FrequencyPenalty float64         `json:"frequency_penalty"`
	LogitBias        json.RawMessage `json:"logit_bias"`
}

// sampling checks the request and converts it to the engine's options. The caller must handle a limit of 0 tokens, which means
// no limit to the engine.
func (c common) sampling(seed func() uint64) (infer.Sampling, error) {
	s := infer.Sampling{Temperature: 1, Stop: c.Stop}
	inRange := func(name string, v *float64, low, high float64, to *float64) error {
		if v == nil {
			return nil
		}
		if !(*v >= low && *v <= high) {
			return bad("%s must be from %g to %g", name, low, high)
		}
		*to = *v
		return nil
	}
	for _, err := range []error{
		inRange("temperature", c.Temperature, 0, 100, &s.Temperature),
		inRange("top_p", c.TopP, 0, 1, &s.TopP),
		inRange("min_p", c.MinP, 0, 1, &s.MinP),
		inRange("repeat_penalty", c.RepeatPenalty, 0.01, 100, &s.RepeatPenalty),
	} {
		if err != nil {
			return s, err
		}
	}
	switch {
	case c.N != nil && *c.N != 1:
		return s, bad("n must be 1: one answer for each prompt")
	case c.PresencePenalty != 0 || c.FrequencyPenalty != 0:
		return s, bad("presence_penalty and frequency_penalty are not supported; repeat_penalty is")
	case given(c.LogitBias) && !bytes.Equal(c.LogitBias, []byte("{}")):
		return s, bad("logit_bias is not supported")
	case len(c.Stop) > maxStops:
		return s, bad("%d stop texts, at most %d", len(c.Stop), maxStops)
	case c.TopK != nil && (*c.TopK < 0 || *c.TopK > math.MaxInt32):
		return s, bad("top_k must not be negative")
	case c.MaxTokens != nil && (*c.MaxTokens < 0 || *c.MaxTokens > math.MaxInt32):
		return s, bad("max_tokens must not be negative")
	}
	if c.TopK != nil {
		s.TopK = *c.TopK
	}
	if c.MaxTokens != nil {
		s.MaxTokens = *c.MaxTokens
	}
	if c.Seed != nil {
		s.Seed = uint64(*c.Seed)
	} else {
		s.Seed = seed()
	}
	return s, nil
}

func given(raw json.RawMessage) bool {
	return len(raw) > 0 && !bytes.Equal(raw, []byte("null"))
}

// texts is decoded from one text or a list of them.
type texts []string

// UnmarshalJSON implements [json.Unmarshaler].
func (t *texts) UnmarshalJSON(data []byte) error {
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	if len(data) > 0 && data[0] == '"' {
		*t = make(texts, 1)
		return json.Unmarshal(data, &(*t)[0])
	}
	if json.Unmarshal(data, (*[]string)(t)) != nil {
		return wrong("stop", "a string or an array of strings")
	}
	return nil
}

// prompts are those of a text completion, decoded from a text, a list of texts, a list of tokens, or a list of those.
type prompts struct {
	texts  []string
	tokens [][]int32 // instead of texts
}

func (p prompts) len() int { return max(len(p.texts), len(p.tokens)) }

// UnmarshalJSON implements [json.Unmarshaler].
func (p *prompts) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		p.texts = []string{one}
		return nil
	}
	if json.Unmarshal(data, &p.texts) == nil {
		return nil
	}
	p.texts = nil
	var tokens []int32
	if json.Unmarshal(data, &tokens) == nil {
		p.tokens = [][]int32{tokens}
		return nil
	}
	if json.Unmarshal(data, &p.tokens) == nil {
		return nil
	}
	p.tokens = nil
	return wrong("prompt", "a string, an array of strings, an array of tokens or an array of arrays of tokens")
}

// completionRequest is the body of a text completion.
type completionRequest struct {
	common
	Prompt   *prompts `json:"prompt"`
	LogProbs *int     `json:"logprobs"`
	Echo     bool     `json:"echo"`
	Suffix   string   `json:"suffix"`
	BestOf   *int     `json:"best_of"`

	// ParseSpecial makes special tokens that the prompt spells tokens; an extension.
	ParseSpecial bool `json:"parse_special"`
}

func (r completionRequest) check() error {
	switch {
	case r.Prompt == nil || r.Prompt.len() == 0:
		return bad("prompt is missing")
	case r.Prompt.len() > maxPrompts:
		return bad("%d prompts, at most %d", r.Prompt.len(), maxPrompts)
	case r.LogProbs != nil && (*r.LogProbs < 0 || *r.LogProbs > maxTopLogProbs):
		return bad("logprobs must be from 0 to %d", maxTopLogProbs)
	case r.Suffix != "":
		return bad("suffix is not supported")
	case r.BestOf != nil && *r.BestOf != 1:
		return bad("best_of must be 1")
	case r.Stream && r.Prompt.len() != 1:
		return bad("only one prompt can be streamed")
	}
	return nil
}

// chatRequest is the body of a chat completion.
type chatRequest struct {
	common
	Messages            chatMessages    `json:"messages"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	LogProbs            bool            `json:"logprobs"`
	TopLogProbs         int             `json:"top_logprobs"`
	Tools               tools           `json:"tools"`
	ToolChoice          json.RawMessage `json:"tool_choice"`
	ParallelCalls       *bool           `json:"parallel_tool_calls"`
	Documents           documents       `json:"documents"` // an extension
	Functions           json.RawMessage `json:"functions"`
	ResponseFormat      *struct {
		Type string `json:"type"`
	} `json:"response_format"`
}

func (r chatRequest) check() error {
	switch {
	case len(r.Messages) == 0:
		return bad("messages are missing")
	case r.TopLogProbs < 0 || r.TopLogProbs > maxTopLogProbs:
		return bad("top_logprobs must be from 0 to %d", maxTopLogProbs)
	case r.TopLogProbs > 0 && !r.LogProbs:
		return bad("top_logprobs needs logprobs")
	case r.ResponseFormat != nil && r.ResponseFormat.Type != "text":
		return bad("response_format %q is not supported", r.ResponseFormat.Type)
	}
	for i, m := range r.Messages {
		switch m.Role {
		case infer.System, infer.User, infer.Assistant, infer.Tool:
		default:
			return wrong(fmt.Sprintf("messages[%d].role", i), "system, developer, user, assistant or tool, not "+strconv.Quote(m.Role))
		}
	}
	return nil
}

// chatMessages are messages whose contents are texts or lists of parts that are texts.
type chatMessages []infer.Message

// UnmarshalJSON implements [json.Unmarshaler].
func (m *chatMessages) UnmarshalJSON(data []byte) error {
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	list := json.NewDecoder(bytes.NewReader(data))
	if open, err := list.Token(); err != nil || open != json.Delim('[') {
		return wrong("messages", "an array of messages")
	}
	for list.More() {
		if len(*m) == maxMessages {
			return bad("more than %d messages", maxMessages)
		}
		var raw json.RawMessage
		if err := list.Decode(&raw); err != nil {
			return err
		}
		message, err := decodeMessage(raw, fmt.Sprintf("messages[%d]", len(*m)))
		if err != nil {
			return err
		}
		*m = append(*m, message)
	}
	return nil
}

// decodeMessage decodes the message that errors call at.
func decodeMessage(data json.RawMessage, at string) (infer.Message, error) {
	var m infer.Message
	var raw struct {
		Role    json.RawMessage `json:"role"`
		Content json.RawMessage `json:"content"`
		Calls   json.RawMessage `json:"tool_calls"`
		CallID  json.RawMessage `json:"tool_call_id"`
		Name    json.RawMessage `json:"name"`
	}
	if data[0] != '{' || json.Unmarshal(data, &raw) != nil {
		return m, wrong(at, "an object")
	}
	if !given(raw.Role) || json.Unmarshal(raw.Role, &m.Role) != nil {
		return m, wrong(at+".role", "a string")
	}
	if m.Role == "developer" {
		m.Role = infer.System // the newer name of the same
	}
	for _, f := range []struct {
		name string
		raw  json.RawMessage
		to   *string
	}{{"tool_call_id", raw.CallID, &m.CallID}, {"name", raw.Name, &m.Name}} {
		if given(f.raw) && json.Unmarshal(f.raw, f.to) != nil {
			return m, wrong(at+"."+f.name, "a string")
		}
	}
	if given(raw.Calls) && m.Role == infer.Assistant {
		var err error
		if m.Calls, err = decodeCalls(raw.Calls, at+".tool_calls"); err != nil {
			return m, err
		}
	}
	at += ".content"
	if !given(raw.Content) {
		if m.Role == infer.Assistant {
			return m, nil // it called a tool
		}
		return m, wrong(at, "a string or an array of parts")
	}
	if json.Unmarshal(raw.Content, &m.Content) == nil {
		return m, nil
	}
	var parts []json.RawMessage
	if json.Unmarshal(raw.Content, &parts) != nil {
		return m, wrong(at, "a string or an array of parts")
	}
	var b strings.Builder
	for i, data := range parts {
		at := fmt.Sprintf("%s[%d]", at, i)
		var part struct {
			Type json.RawMessage `json:"type"`
			Text json.RawMessage `json:"text"`
		}
		var kind, text string
		switch {
		case data[0] != '{' || json.Unmarshal(data, &part) != nil:
			return m, wrong(at, "an object")
		case !given(part.Type) || json.Unmarshal(part.Type, &kind) != nil:
			return m, wrong(at+".type", "a string")
		case kind != "text":
			return m, wrong(at+".type", "text: "+strconv.Quote(kind)+" is not supported")
		case !given(part.Text) || json.Unmarshal(part.Text, &text) != nil:
			return m, wrong(at+".text", "a string")
		}
		b.WriteString(text)
	}
	m.Content = b.String()
	return m, nil
}
