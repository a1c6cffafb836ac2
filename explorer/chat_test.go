package explorer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer"
)

func TestChatStopRegenerateEdit(t *testing.T) {
	v := &valve{}
	b := explorertest.New()
	b.Pace = v.pace
	e := explorertest.Open(t, b, "")
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.7, Name: "thin"}).Subnet
	chat := explorertest.Do(t, e, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID, cut}, Sampling: &infer.Sampling{MaxTokens: 30, Seed: 5}}).Chat

	v.close("token")
	command(t, e, explorer.Say{Chat: chat, Text: "one"})
	if _, err := e.Do(t.Context(), explorertest.Owner, explorer.Say{Chat: chat, Text: "two"}); !errors.Is(err, explorer.ErrBusy) {
		t.Errorf("a second prompt while it answers: %v", err)
	}
	explorertest.Until(t, e, "loaded models", func(s *explorer.Snapshot) bool {
		c, _ := s.Chat(chat)
		return c.Columns[0].Memory > 0 && c.Columns[1].Memory > 0
	})
	command(t, e, explorer.StopReply{Chat: chat})
	c, _ := explorertest.Quiet(t, e).Chat(chat)
	for i, column := range c.Columns {
		if r := column.Replies[0]; !r.Stopped || r.Streaming || r.Err != "" {
			t.Errorf("column %d after stop: %+v", i, r)
		}
	}
	v.open("token")

	command(t, e, explorer.Regenerate{Chat: chat})
	c, _ = explorertest.Quiet(t, e).Chat(chat)
	if c.Sampling.Seed != 6 || len(c.Prompts) != 1 || c.Columns[1].Replies[0].Text == "" || c.Columns[1].Label != "thin" {
		t.Errorf("after regenerate: %+v", c)
	}
	command(t, e, explorer.EditPrompt{Chat: chat, Text: "another\x1b[2J"})
	c, _ = explorertest.Quiet(t, e).Chat(chat)
	if len(c.Prompts) != 1 || c.Prompts[0].Text != "another[2J" {
		t.Errorf("after editing: %+v", c.Prompts)
	}

	system, blind := "be brief", true
	command(t, e, explorer.ConfigureChat{Chat: chat, System: &system, Blind: &blind})
	command(t, e, explorer.Vote{Chat: chat, Column: 1})
	command(t, e, explorer.SetColumns{Chat: chat, Subnets: []explorer.SubnetID{cut, explorer.DraftID}})
	c, _ = e.Snapshot().Chat(chat)
	if c.System != system || !c.Blind || c.Columns[0].Replies[0].Text == "" || len(c.Columns[1].Replies) != 1 || c.Votes != nil {
		t.Errorf("after changing columns: %+v", c)
	}
	command(t, e, explorer.DeleteChat{Chat: chat})
	if _, ok := e.Snapshot().Chat(chat); ok {
		t.Error("still there")
	}
}

func TestOnePersonCannotTakeAllAnswers(t *testing.T) {
	v := &valve{}
	b := explorertest.New()
	b.Pace = v.pace
	e := explorertest.Open(t, b, "")
	v.close("token")
	say := func(name string) error {
		a := explorer.Actor{Name: name, Role: explorer.RoleEditor}
		r, err := e.Do(t.Context(), a, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID}, Sampling: &infer.Sampling{MaxTokens: 5}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Do(t.Context(), a, explorer.Say{Chat: r.Chat, Text: "hello"})
		return err
	}
	for range 4 {
		if err := say("greedy"); err != nil {
			t.Fatal(err)
		}
	}
	if err := say("greedy"); !errors.Is(err, explorer.ErrBusy) || !strings.Contains(err.Error(), "4 of them yours") {
		t.Errorf("a fifth answer at once: %v", err)
	}
	if err := say("modest"); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	explorertest.Until(t, e, "a line", func(s *explorer.Snapshot) bool {
		for _, c := range s.Chats {
			if c.Columns[0].Place >= 3 {
				return true
			}
		}
		return false
	})
	v.open("token")
	for _, c := range explorertest.Quiet(t, e).Chats[1:] {
		if r := c.Columns[0].Replies; len(r) > 0 && r[0].Text == "" {
			t.Errorf("chat %s has no answer: %+v", c.ID, r[0])
		}
	}
}

// TestPeopleTakeTurns has one person ask three things at once and another one after that: the other is next, and all of
// them see their place in line.
func TestPeopleTakeTurns(t *testing.T) {
	token := make(chan struct{})
	b := explorertest.New()
	b.Pace = func(ctx context.Context, unit string) error {
		if unit != "token" {
			return nil
		}
		select {
		case <-token:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	e := explorertest.Open(t, b, "")
	places := func() (p [4]int) {
		for i, c := range e.Snapshot().Chats { // newest first
			p[3-i] = c.Columns[0].Place
			if r := c.Columns[0].Replies; len(r) > 0 && !r[0].Streaming {
				p[3-i] = -1
			}
		}
		return p
	}
	until := func(want [4]int) {
		t.Helper()
		explorertest.Until(t, e, fmt.Sprintf("places %v", want), func(*explorer.Snapshot) bool { return places() == want })
	}
	for i, name := range []string{"greedy", "greedy", "greedy", "modest"} {
		a := explorer.Actor{Name: name, Role: explorer.RoleEditor}
		r, err := e.Do(t.Context(), a, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID}, Sampling: &infer.Sampling{MaxTokens: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Do(t.Context(), a, explorer.Say{Chat: r.Chat, Text: "hello"}); err != nil {
			t.Fatal(err)
		}
		explorertest.Until(t, e, "the model", func(s *explorer.Snapshot) bool {
			c := s.Chats[0].Columns[0]
			return c.Memory > 0 && (i == 0 || c.Place > 0)
		})
	}
	for _, want := range [][4]int{{0, 2, 3, 1}, {-1, 1, 2, 0}, {-1, 0, 1, -1}, {-1, -1, 0, -1}} {
		until(want)
		token <- struct{}{}
	}
	until([4]int{-1, -1, -1, -1})
}

func TestControlCharactersAreNotSaid(t *testing.T) {
	b := explorertest.New()
	b.Says = strings.Repeat("one\x1b[2J\ttwo\r\n\u009b31mthree\x07 ", 40)
	e := explorertest.Open(t, b, "")
	chat := explorertest.Do(t, e, explorer.OpenChat{
		Subnets: []explorer.SubnetID{explorer.DenseID}, System: "be\x1bbrief", Sampling: &infer.Sampling{MaxTokens: 100},
	}).Chat
	command(t, e, explorer.Say{Chat: chat, Text: "one\x1b["})
	c, _ := explorertest.Quiet(t, e).Chat(chat)
	if r := c.Columns[0].Replies[0].Text; !strings.Contains(r, "[2J\ttwo\n31mthree one") || c.System != "bebrief" || c.Prompts[0].Text != "one[" {
		t.Errorf("reply %q, system prompt %q, prompt %q", r, c.System, c.Prompts[0].Text)
	}
}

func TestMoreSubnetsThanMayBeLoaded(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), "")
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.7}).Subnet
	var chats []explorer.ChatID
	for range 3 {
		subnets := []explorer.SubnetID{explorer.DenseID}
		for range 3 {
			subnets = append(subnets, explorertest.Do(t, e, explorer.DuplicateSubnet{Subnet: cut}).Subnet)
		}
		chat := explorertest.Do(t, e, explorer.OpenChat{Subnets: subnets, Sampling: &infer.Sampling{MaxTokens: 5}}).Chat
		command(t, e, explorer.Say{Chat: chat, Text: "hello"})
		chats = append(chats, chat)
	}
	s := explorertest.Quiet(t, e)
	for _, id := range chats {
		c, _ := s.Chat(id)
		for i, column := range c.Columns {
			if r := column.Replies[0]; r.Text == "" || r.Err != "" {
				t.Errorf("chat %s column %d: %+v", id, i, r)
			}
		}
	}
}

// TestRefusedPrompt: the reason of a chat template that refuses a conversation is the reply's error, and the chat goes on.
func TestRefusedPrompt(t *testing.T) {
	b := explorertest.New()
	refuse := true
	b.Pace = func(_ context.Context, unit string) error {
		if unit == "prompt" && refuse {
			refuse = false
			return fmt.Errorf("%w: it refuses the conversation: roles must alternate", infer.ErrTemplate)
		}
		return nil
	}
	e := explorertest.Open(t, b, "")
	chat := explorertest.Do(t, e, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID}, Sampling: &infer.Sampling{MaxTokens: 1}}).Chat
	command(t, e, explorer.Say{Chat: chat, Text: "hello"})
	explorertest.Quiet(t, e)
	command(t, e, explorer.Say{Chat: chat, Text: "again"})
	c, _ := explorertest.Quiet(t, e).Chat(chat)
	replies := c.Columns[0].Replies
	if len(replies) != 2 || !strings.Contains(replies[0].Err, "it refuses the conversation: roles must alternate") || !errors.Is(replies[0].Cause, infer.ErrTemplate) || replies[1].Err != "" {
		t.Errorf("replies %+v", replies)
	}
}

// TestChatsAreBounded fills the chats of a workspace.
func TestChatsAreBounded(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), "")
	open := func(system string) (explorer.ChatID, error) {
		r, err := e.Do(t.Context(), explorertest.Owner, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID}, System: system})
		return r.Chat, err
	}
	full := strings.Repeat("x", explorer.MaxPrompt)
	if _, err := open(full + "x"); !errors.Is(err, explorer.ErrInvalid) {
		t.Errorf("a system prompt that is too long: %v", err)
	}
	var chats []explorer.ChatID
	for range explorer.MaxTalk / explorer.MaxPrompt {
		chat, err := open(full)
		if err != nil {
			t.Fatal(err)
		}
		chats = append(chats, chat)
	}
	if _, err := open("more"); !errors.Is(err, explorer.ErrBusy) {
		t.Errorf("another chat with a system prompt: %v", err)
	}
	if _, err := e.Do(t.Context(), explorertest.Owner, explorer.Say{Chat: chats[0], Text: "more"}); !errors.Is(err, explorer.ErrBusy) {
		t.Errorf("another prompt: %v", err)
	}
	command(t, e, explorer.ConfigureChat{Chat: chats[0], System: &full})
	command(t, e, explorer.DeleteChat{Chat: chats[1]})
	command(t, e, explorer.Say{Chat: chats[0], Text: "more"})
	explorertest.Quiet(t, e)
}

// TestLibraryIsBounded fills the library.
func TestLibraryIsBounded(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), "")
	first := explorertest.Do(t, e, explorer.SaveDraft{}).Subnet
	for range explorer.MaxSubnets - 1 {
		command(t, e, explorer.DuplicateSubnet{Subnet: first})
	}
	for _, c := range []explorer.Command{explorer.DuplicateSubnet{Subnet: first}, explorer.SaveDraft{}} {
		if _, err := e.Do(t.Context(), explorertest.Owner, c); !errors.Is(err, explorer.ErrBusy) {
			t.Errorf("%T: %v", c, err)
		}
	}
	if made := explorertest.Do(t, e, explorer.Cut{Target: 0.8}).Subnet; made == "" {
		t.Error("what a job made is not kept")
	}
	command(t, e, explorer.AnnotateSubnet{Subnet: first, Note: strings.Repeat("ä", 2*explorer.MaxNote)})
	if n, _ := e.Snapshot().Subnet(first); len([]rune(n.Note)) != explorer.MaxNote {
		t.Errorf("a note of %d runes", len([]rune(n.Note)))
	}
}

// TestSpeedHasADeviation chats with a model that pauses now and then, and with one that does not.
func TestSpeedHasADeviation(t *testing.T) {
	for name, steady := range map[string]bool{"steady": true, "with pauses": false} {
		b := explorertest.New()
		n := 0
		b.Pace = func(_ context.Context, unit string) error {
			if unit == "token" {
				b.Clock.Advance(10 * time.Millisecond)
				if n++; n%50 < 25 && !steady {
					b.Clock.Advance(10 * time.Millisecond)
				}
			}
			return nil
		}
		e := explorertest.Open(t, b, "")
		chat := explorertest.Do(t, e, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID}, Sampling: &infer.Sampling{MaxTokens: 120, Seed: 1}}).Chat
		command(t, e, explorer.Say{Chat: chat, Text: "Hi"})
		explorertest.Quiet(t, e)
		c, _ := e.Snapshot().Chat(chat)
		if r := c.Columns[0].Replies[0]; r.Tokens < 100 || (r.Deviation < 1) != steady || r.Deviation > 50 {
			t.Errorf("%s: %d tokens, %.3g ± %.3g per second", name, r.Tokens, r.TokensPerSecond, r.Deviation)
		}
	}
}

// TestOrderOfABlindChat draws an order for each prompt, always the same one, while the chat is blind.
func TestOrderOfABlindChat(t *testing.T) {
	c := explorer.Chat{ID: "c1", Created: explorertest.Start, Columns: make([]explorer.Column, 2), Blind: true}
	first := 0
	for prompt := range 200 {
		order := c.Order(prompt)
		if !slices.Equal(order, c.Order(prompt)) || order[0]+order[1] != 1 {
			t.Fatalf("prompt %d: %v, then %v", prompt, order, c.Order(prompt))
		}
		first += order[0]
	}
	if first < 70 || first > 130 { // four standard deviations
		t.Errorf("the second column is first at %d of 200 prompts", first)
	}
	c.Blind = false
	if order := c.Order(7); !slices.Equal(order, []int{0, 1}) {
		t.Errorf("revealed: %v", order)
	}
}

// TestStoppedTurnIsNotSent stops a reply before its first word: the next prompt is sent as if the turn had not been.
func TestStoppedTurnIsNotSent(t *testing.T) {
	v := &valve{}
	b := explorertest.New()
	b.Pace = v.pace
	e := explorertest.Open(t, b, "")
	open := func() explorer.ChatID {
		return explorertest.Do(t, e, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID}, Sampling: &infer.Sampling{MaxTokens: 5, Seed: 5}}).Chat
	}
	chat, fresh := open(), open()
	v.close("prompt")
	command(t, e, explorer.Say{Chat: chat, Text: "a long first prompt that is never answered"})
	explorertest.Until(t, e, "the model", func(s *explorer.Snapshot) bool {
		c, _ := s.Chat(chat)
		return c.Columns[0].Memory > 0
	})
	command(t, e, explorer.StopReply{Chat: chat})
	explorertest.Quiet(t, e)
	v.open("prompt")
	var tokens []int
	for _, id := range []explorer.ChatID{chat, fresh} {
		command(t, e, explorer.Say{Chat: id, Text: "two"})
		c, _ := explorertest.Quiet(t, e).Chat(id)
		replies := c.Columns[0].Replies
		tokens = append(tokens, replies[len(replies)-1].PromptTokens)
		if first := replies[0]; id == chat && (!first.Stopped || first.Text != "" || len(replies) != 2) {
			t.Errorf("the stopped turn: %+v", replies)
		}
	}
	if tokens[0] != tokens[1] || tokens[0] == 0 {
		t.Errorf("prompts of %d tokens after a stopped turn and in a new chat", tokens)
	}
}
