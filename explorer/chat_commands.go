package explorer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer"
)

// Bounds of chats.
const (
	MaxChats   = 1000 // in a workspace
	MaxColumns = 4
	MaxPrompt  = 1 << 20  // bytes of one prompt or system prompt
	MaxTalk    = 64 << 20 // bytes of text in all chats of a workspace
)

func (c StopReply) do(_ context.Context, e *Exploration, _ Actor) (Receipt, error) {
	return Receipt{Chat: c.Chat}, e.talks.stop(c.Chat)
}

func (c Regenerate) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	return e.again(ctx, a, c.Chat, func(_ *Snapshot, chat *Chat) error {
		chat.Sampling.Seed++
		return nil
	})
}

func (c EditPrompt) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	text, err := checkPrompt(c.Text)
	if err != nil {
		return Receipt{}, err
	}
	return e.again(ctx, a, c.Chat, func(s *Snapshot, chat *Chat) error {
		last := &chat.Prompts[len(chat.Prompts)-1]
		if err := s.roomFor(len(text) - len(last.Text)); err != nil {
			return err
		}
		*last = Prompt{At: e.now().UTC(), Text: text}
		return nil
	})
}

func (c ConfigureChat) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	return e.changeChat(ctx, a, c.Chat, func(s *Snapshot, chat *Chat) error { return configure(s, chat, c) })
}

func (c SetColumns) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	return e.changeChat(ctx, a, c.Chat, func(s *Snapshot, chat *Chat) error { return s.setColumns(chat, c.Subnets) })
}

func (c Vote) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	return e.changeChat(ctx, a, c.Chat, func(_ *Snapshot, chat *Chat) error {
		if c.Column < 0 || c.Column >= len(chat.Columns) {
			return fmt.Errorf("%w: column %d of %d", ErrInvalid, c.Column, len(chat.Columns))
		}
		last := len(chat.Prompts) - 1
		if last < 0 {
			return fmt.Errorf("%w: the chat has no replies to vote on", ErrInvalid)
		}
		votes, ballots := make([]int, len(chat.Columns)), make([]int, len(chat.Prompts))
		copy(votes, chat.Votes)
		copy(ballots, chat.Ballots)
		if before := ballots[last] - 1; before >= 0 && before < len(votes) { // a prompt has one vote, which may be changed
			votes[before]--
		}
		votes[c.Column]++
		ballots[last] = c.Column + 1
		chat.Votes, chat.Ballots = votes, ballots
		return nil
	})
}

func (c DeleteChat) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	if _, ok := e.Snapshot().Chat(c.Chat); !ok {
		return Receipt{}, fmt.Errorf("chat %s: %w", c.Chat, ErrNotFound)
	}
	_ = e.talks.stop(c.Chat) // it need not be running
	return Receipt{Chat: c.Chat}, e.record(ctx, a, func(*Snapshot) ([]record, error) { return []record{{DropChat: c.Chat}}, nil })
}

func (c OpenChat) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	return c.open(ctx, e, a, false)
}

// open adds the chat; apart is [Chat].Apart.
func (c OpenChat) open(ctx context.Context, e *Exploration, a Actor, apart bool) (Receipt, error) {
	sampling := DefaultSampling()
	if c.Sampling != nil {
		sampling = *c.Sampling
	}
	if err := checkSampling(sampling); err != nil {
		return Receipt{}, err
	}
	system, err := checkSystem(c.System)
	if err != nil {
		return Receipt{}, err
	}
	var id ChatID
	err = e.record(ctx, a, func(s *Snapshot) ([]record, error) {
		if len(s.Chats) >= MaxChats {
			return nil, fmt.Errorf("%w: there are %d chats: delete some", ErrBusy, len(s.Chats))
		}
		if err := s.roomFor(len(system)); err != nil {
			return nil, err
		}
		id = ChatID("c" + strconv.Itoa(e.folded.serial.Chat+1))
		chat := Chat{ID: id, Name: CleanName(c.Name), Author: a.Name, Created: e.now().UTC(), System: system, Sampling: sampling, Blind: c.Blind, Apart: apart}
		if chat.Name == "" {
			chat.Name = untitled(id)
		}
		subnets := slices.Clone(c.Subnets)
		if c.Blind {
			rand.Shuffle(len(subnets), func(i, j int) { subnets[i], subnets[j] = subnets[j], subnets[i] })
		}
		if err := s.setColumns(&chat, subnets); err != nil {
			return nil, err
		}
		return []record{{Chat: &chat}}, nil
	})
	return Receipt{Chat: id}, err
}

// untitled is the name of a chat without one, until its first prompt.
func untitled(id ChatID) string { return "chat " + string(id) }

// maxTitle bounds the title that a chat gets from its first prompt, in runes.
const maxTitle = 48

// title is the beginning of a prompt: whole words of its first line that has some.
func title(prompt string) string {
	var out []rune
	for _, word := range strings.Fields(strings.TrimSpace(prompt)) {
		if len(out) > 0 && len(out)+1+len([]rune(word)) > maxTitle {
			out = append(out, '…')
			break
		}
		if len(out) > 0 {
			out = append(out, ' ')
		}
		out = append(out, []rune(word)...)
	}
	return CleanName(string(out[:min(len(out), maxTitle+1)]))
}

// setColumns gives the chat a column per subnet. Columns that stay keep their replies, new ones lack them.
func (s *Snapshot) setColumns(chat *Chat, subnets []SubnetID) error {
	if len(subnets) == 0 || len(subnets) > MaxColumns {
		return fmt.Errorf("%w: a chat has 1 to %d columns, not %d", ErrInvalid, MaxColumns, len(subnets))
	}
	var columns []Column
	for _, id := range subnets {
		if _, err := s.Masks(id); err != nil {
			return err
		}
		column := Column{Subnet: id, Label: s.label(id)}
		if i := slices.IndexFunc(chat.Columns, func(c Column) bool { return c.Subnet == id }); i >= 0 {
			column = chat.Columns[i]
		}
		for len(column.Replies) < len(chat.Prompts) {
			column.Replies = append(slices.Clip(column.Replies), Reply{Agreement: -1, Stopped: true})
		}
		columns = append(columns, column)
	}
	chat.Columns, chat.Votes, chat.Ballots = columns, nil, nil
	return nil
}

// roomFor checks that the chats have room for more bytes of text.
func (s *Snapshot) roomFor(bytes int) error {
	for _, c := range s.Chats {
		bytes += len(c.System)
		for _, p := range c.Prompts {
			bytes += len(p.Text)
		}
		for _, column := range c.Columns {
			for _, r := range column.Replies {
				bytes += len(r.Text)
			}
		}
	}
	if bytes > MaxTalk {
		return fmt.Errorf("%w: the chats hold more than %s: delete some", ErrBusy, format.Bytes(MaxTalk))
	}
	return nil
}

func configure(s *Snapshot, chat *Chat, c ConfigureChat) error {
	if c.Name != nil {
		chat.Name = CleanName(*c.Name)
	}
	if c.System != nil {
		system, err := checkSystem(*c.System)
		if err == nil {
			err = s.roomFor(len(system) - len(chat.System))
		}
		if err != nil {
			return err
		}
		chat.System = system
	}
	if c.Blind != nil {
		chat.Blind = *c.Blind
	}
	if c.Sampling != nil {
		if err := checkSampling(*c.Sampling); err != nil {
			return err
		}
		chat.Sampling = *c.Sampling
	}
	if c.GPU != nil {
		if _, err := infer.ParseGPU(*c.GPU); err != nil {
			return fmt.Errorf("%w: layers on the GPU: %w", ErrInvalid, err)
		}
		chat.GPU = *c.GPU
	}
	return nil
}

func checkSampling(s infer.Sampling) error {
	for _, bound := range []struct {
		name   string
		v, max float64
	}{
		{"temperature", s.Temperature, 100}, {"top-p", s.TopP, 1}, {"min-p", s.MinP, 1}, {"repeat penalty", s.RepeatPenalty, 100},
		{"top-k", float64(s.TopK), 1e9}, {"max tokens", float64(s.MaxTokens), 1e9},
	} {
		if !(bound.v >= 0 && bound.v <= bound.max) {
			return fmt.Errorf("%w: %s %g is not in [0, %g]", ErrInvalid, bound.name, bound.v, bound.max)
		}
	}
	return nil
}

// checkSystem returns the system prompt as it is sent.
func checkSystem(text string) (string, error) {
	if len(text) > MaxPrompt {
		return "", fmt.Errorf("%w: a system prompt of %d bytes, more than %d", ErrInvalid, len(text), MaxPrompt)
	}
	return printable(text), nil
}

// checkPrompt returns the prompt as it is sent.
func checkPrompt(text string) (string, error) {
	if len(text) > MaxPrompt {
		return "", fmt.Errorf("%w: a prompt of %d bytes, more than %d", ErrInvalid, len(text), MaxPrompt)
	}
	if text = printable(text); strings.TrimSpace(text) == "" {
		return "", fmt.Errorf("%w: an empty prompt", ErrInvalid)
	}
	return text, nil
}

// changeChat replaces a chat by a changed copy. change sees private slices of columns and prompts.
func (e *Exploration) changeChat(ctx context.Context, a Actor, id ChatID, change func(*Snapshot, *Chat) error) (Receipt, error) {
	err := e.record(ctx, a, func(s *Snapshot) ([]record, error) {
		chat, ok := s.Chat(id)
		if !ok {
			return nil, fmt.Errorf("chat %s: %w", id, ErrNotFound)
		}
		chat.Prompts, chat.Columns = slices.Clone(chat.Prompts), slices.Clone(chat.Columns)
		if err := change(s, &chat); err != nil {
			return nil, err
		}
		return []record{{Chat: &chat}}, nil
	})
	return Receipt{Chat: id}, err
}

// Say sends a person's prompt to all columns of a chat.
func (c Say) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	text, err := checkPrompt(c.Text)
	if err != nil {
		return Receipt{}, err
	}
	return e.exchange(ctx, a, c.Chat, e.saying(Prompt{Text: text}))
}

// again generates the last replies again, after change.
func (e *Exploration) again(ctx context.Context, a Actor, id ChatID, change func(*Snapshot, *Chat) error) (Receipt, error) {
	return e.exchange(ctx, a, id, func(s *Snapshot, chat *Chat) error {
		if len(chat.Prompts) == 0 {
			return fmt.Errorf("%w: the chat has no prompt yet", ErrInvalid)
		}
		for i := range chat.Columns {
			chat.Columns[i].Replies = slices.Clone(chat.Columns[i].Replies)
		}
		if last := len(chat.Prompts) - 1; len(chat.Ballots) > last { // the new replies have a vote of their own
			chat.Ballots = slices.Clone(chat.Ballots[:last])
		}
		return change(s, chat)
	})
}
