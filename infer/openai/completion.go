package openai

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/infer"
)

type completionResponse struct {
	ID      string             `json:"id"`
	Object  string             `json:"object"`
	Created int64              `json:"created"`
	Model   string             `json:"model"`
	Choices []completionChoice `json:"choices"`
	Usage   *usage             `json:"usage,omitempty"`
}

type completionChoice struct {
	Index    int        `json:"index"`
	Text     string     `json:"text"`
	LogProbs *textProbs `json:"logprobs"`
	Finish   *string    `json:"finish_reason"`
}

// textProbs are log-probabilities as text completions have them: four lists of the same length, with null for the first token
// of an echoed prompt.
type textProbs struct {
	Tokens   []string             `json:"tokens"`
	LogProbs []*float64           `json:"token_logprobs"`
	Top      []map[string]float64 `json:"top_logprobs"`
	Offsets  []int                `json:"text_offset"`
}

type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

// add adds the tokens of one more answer.
func (u *usage) add(prompt, completion int) {
	u.Prompt += prompt
	u.Completion += completion
	u.Total = u.Prompt + u.Completion
}

// completions answers POST /v1/completions.
func (h *Handler) completions(w http.ResponseWriter, r *http.Request, request completionRequest) error {
	if request.MaxTokens == nil {
		n := defaultMaxTokens
		request.MaxTokens = &n
	}
	s, err := request.sampling(h.options.Seed)
	for _, err := range []error{err, h.named(request.Model), request.check()} {
		if err != nil {
			return err
		}
	}
	if request.LogProbs != nil {
		s.LogProbs, s.TopLogProbs = true, *request.LogProbs
	}
	response := completionResponse{
		ID: h.newID("cmpl"), Object: "text_completion", Created: time.Now().Unix(), Model: h.options.Name, Usage: &usage{},
	}
	out := h.newStream(w, request.Stream)
	ctx := out.traced(r.Context())
	for i := range request.Prompt.len() {
		c := completer{h: h, request: request, sampling: s, index: i}
		c.emit = func(choice completionChoice) error {
			chunk := response
			chunk.Choices, chunk.Usage = []completionChoice{choice}, nil
			return out.event(chunk)
		}
		choice, err := c.run(ctx, response.Usage)
		if err != nil {
			return out.fail(err)
		}
		response.Choices = append(response.Choices, choice)
	}
	if !request.Stream {
		send(w, http.StatusOK, response)
		return nil
	}
	if request.StreamOptions.IncludeUsage {
		response.Choices = []completionChoice{}
		if err := out.event(response); err != nil {
			return nil // the client has disconnected
		}
	}
	return out.done()
}

// completer answers one prompt of a text completion.
type completer struct {
	h        *Handler
	request  completionRequest
	sampling infer.Sampling
	index    int
	emit     func(completionChoice) error // sends a part, when streaming
	offset   int                          // of the next token in the text, in characters
	part     []byte                       // of the character before offset, where a token ended inside it
}

func (c *completer) run(ctx context.Context, u *usage) (completionChoice, error) {
	choice := completionChoice{Index: c.index}
	prompt, err := c.tokens(ctx)
	if err != nil {
		return choice, err
	}
	if len(prompt) == 0 {
		return choice, bad("prompt %d is empty", c.index)
	}
	var text strings.Builder
	part := func(s string, probs *textProbs) error {
		text.WriteString(s)
		choice.LogProbs = choice.LogProbs.append(probs)
		if !c.request.Stream {
			return nil
		}
		return c.emit(completionChoice{Index: c.index, Text: s, LogProbs: probs})
	}
	if c.request.Echo {
		s, probs, err := c.echo(ctx, prompt)
		if err != nil {
			return choice, err
		}
		if err := part(s, probs); err != nil {
			return choice, err
		}
	}
	stats := infer.GenStats{PromptTokens: len(prompt), Stop: infer.StopLength}
	if c.sampling.MaxTokens > 0 {
		stats, err = c.h.model.Generate(ctx, prompt, c.sampling, func(t infer.Token) error {
			return part(t.Text, c.probs(t))
		})
		if err != nil {
			return choice, err
		}
	}
	choice.Text, choice.Finish = text.String(), finish(stats.Stop)
	u.add(len(prompt), stats.Tokens)
	if c.request.Stream {
		return choice, c.emit(completionChoice{Index: c.index, Finish: choice.Finish})
	}
	return choice, nil
}

// tokens returns the tokens of the prompt. A text gets the model's start token; special tokens that it spells are recognised if the
// request has parse_special, and are text otherwise.
func (c *completer) tokens(ctx context.Context) ([]int32, error) {
	if c.request.Prompt.tokens != nil {
		return c.request.Prompt.tokens[c.index], nil
	}
	text := c.request.Prompt.texts[c.index]
	if err := c.h.fits(fmt.Sprintf("prompt %d has", c.index), len(text)); err != nil {
		return nil, err
	}
	if c.request.ParseSpecial {
		return c.h.model.Tokenize(ctx, text, true)
	}
	ids, err := c.h.model.Tokenize(ctx, text, false)
	if info := c.h.model.Info(); info.AddBOS && info.BOS >= 0 && err == nil {
		ids = slices.Insert(ids, 0, info.BOS)
	}
	return ids, err
}

// echo returns the text of the prompt and, if requested, the log-probabilities of its tokens.
func (c *completer) echo(ctx context.Context, prompt []int32) (string, *textProbs, error) {
	pieces, err := c.h.model.Pieces(ctx, prompt)
	if err != nil {
		return "", nil, err
	}
	control, err := c.h.model.Control(ctx, prompt)
	if err != nil {
		return "", nil, err
	}
	var b strings.Builder
	for i, piece := range pieces {
		if !control[i] {
			b.WriteString(piece)
		}
	}
	text := b.String()
	if c.request.LogProbs == nil {
		return text, nil, nil
	}
	top := *c.request.LogProbs
	positions, err := c.h.model.Distributions(ctx, [][]int32{prompt}, infer.DistributionOptions{Top: top})
	if err != nil {
		return "", nil, err
	}
	var ids []int32
	for _, p := range positions[0] {
		ids = append(ids, p.Top...)
	}
	names, err := c.h.model.Pieces(ctx, ids)
	if err != nil {
		return "", nil, err
	}
	probs := &textProbs{}
	for i, piece := range pieces {
		var best map[string]float64
		var own *float64
		if i > 0 {
			p := positions[0][i-1]
			nll := -float64(p.NLL)
			own, best = &nll, map[string]float64{}
			for j := range p.Top {
				addTop(best, names[j], float64(p.TopProbs[j]))
			}
			names = names[len(p.Top):]
			addTop(best, piece, nll)
		}
		c.add(probs, piece, control[i], own, best)
	}
	return text, probs, nil
}

// addTop adds a token to the most likely ones; of two with the same text (parts of a rune) the more likely one is kept.
func addTop(top map[string]float64, piece string, logProb float64) {
	if old, there := top[clean(piece)]; !there || logProb > old {
		top[clean(piece)] = logProb
	}
}

// probs returns those of one generated token; nil unless requested.
func (c *completer) probs(t infer.Token) *textProbs {
	if c.request.LogProbs == nil {
		return nil
	}
	top := map[string]float64{}
	for _, other := range t.Top {
		addTop(top, other.Text, other.LogProb)
	}
	addTop(top, t.Piece, t.LogProb)
	probs := &textProbs{}
	c.add(probs, t.Piece, t.Control, &t.LogProb, top)
	return probs
}

// add appends the next token of the text. A control token has a name and no part in the text.
func (c *completer) add(p *textProbs, piece string, control bool, logProb *float64, top map[string]float64) {
	p.Tokens = append(p.Tokens, clean(piece))
	p.LogProbs = append(p.LogProbs, logProb)
	p.Top = append(p.Top, top)
	if control {
		p.Offsets = append(p.Offsets, c.offset)
		return
	}
	at := c.offset
	if len(c.part) > 0 {
		at-- // the token goes on with a character that one before it has begun
	}
	p.Offsets = append(p.Offsets, at)
	for _, b := range []byte(piece) {
		if utf8.RuneStart(b) || len(c.part) == 0 {
			c.offset++
			c.part = c.part[:0]
		}
		if c.part = append(c.part, b); utf8.FullRune(c.part) {
			c.part = c.part[:0]
		}
	}
}

// append returns p followed by more; either may be nil.
func (p *textProbs) append(more *textProbs) *textProbs {
	if p == nil || more == nil {
		if p == nil {
			return more
		}
		return p
	}
	return &textProbs{
		append(p.Tokens, more.Tokens...), append(p.LogProbs, more.LogProbs...),
		append(p.Top, more.Top...), append(p.Offsets, more.Offsets...),
	}
}

// clean replaces the invalid UTF-8 of a part of a rune, which JSON cannot hold.
func clean(piece string) string {
	if utf8.ValidString(piece) {
		return piece
	}
	return strings.ToValidUTF8(piece, "\uFFFD")
}

// finish returns a stop reason in the interface's words.
func finish(stop string) *string {
	reason := "stop"
	if stop == infer.StopLength || stop == infer.StopContext {
		reason = "length"
	}
	return &reason
}
