package explorer

import (
	"context"
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/quality"
)

// maxProbes bounds the prompts of a [Probe].
const maxProbes = 100

// ProbeSampling returns the sampling of a probe: the most likely tokens, so that replies differ by the models alone.
func ProbeSampling() infer.Sampling { return infer.Sampling{Seed: 1, MaxTokens: 96} }

// ProbePrompts returns the built-in prompts of a probe.
func ProbePrompts() []Prompt {
	var out []Prompt
	for _, p := range quality.Probes() {
		out = append(out, Prompt{Text: p.Text, Name: p.Name, Look: p.Look})
	}
	return out
}

// Probe opens a chat that asks each prompt by itself and sends all prompts. It returns once the first one is sent.
func (c Probe) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	prompts := ProbePrompts()
	if len(c.Prompts) > 0 {
		prompts = nil
		for _, p := range c.Prompts {
			text, err := checkPrompt(p)
			if err != nil {
				return Receipt{}, err
			}
			prompts = append(prompts, Prompt{Text: text})
		}
	}
	if len(prompts) > maxProbes {
		return Receipt{}, fmt.Errorf("%w: %d prompts, more than %d", ErrInvalid, len(prompts), maxProbes)
	}
	sampling := ProbeSampling()
	if c.Sampling != nil {
		sampling = *c.Sampling
	}
	opened, err := OpenChat{Name: "probe", Subnets: c.Subnets, Sampling: &sampling}.open(ctx, e, a, true)
	if err != nil {
		return Receipt{}, err
	}
	var turns []func(*Snapshot, *Chat) error
	for _, p := range prompts {
		turns = append(turns, e.saying(p))
	}
	return e.exchange(ctx, a, opened.Chat, turns...)
}

// saying returns the change of a chat that adds a prompt.
func (e *Exploration) saying(p Prompt) func(*Snapshot, *Chat) error {
	return func(s *Snapshot, chat *Chat) error {
		if err := s.roomFor(len(p.Text)); err != nil {
			return err
		}
		if name := title(p.Text); len(chat.Prompts) == 0 && chat.Name == untitled(chat.ID) && name != "" {
			chat.Name = name
		}
		p.At = e.now().UTC()
		chat.Prompts = append(chat.Prompts, p)
		for i := range chat.Columns {
			chat.Columns[i].Replies = append(slices.Clone(chat.Columns[i].Replies), Reply{})
		}
		return nil
	}
}
