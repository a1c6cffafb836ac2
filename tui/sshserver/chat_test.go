package sshserver

import (
	"context"
	"fmt"
	"testing"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/tui"
)

// screens makes the sessions' program the real one, as `lathe serve` does.
func screens(o *Options) {
	panes := tui.NewPanes()
	o.Program = func(ctx context.Context, s *Session) (tea.Model, []tea.ProgramOption) {
		options := tui.Options{Actor: s.Actor, Environ: s.Environ, Pace: s.Pace, Panes: panes, Hosted: true}
		return tui.New(ctx, s.Exploration, options), tui.ProgramOptions(ctx, options)
	}
}

// TestChatsTakeTurns has one person chat in two terminals and another one in a third, all with one model: each sees its
// place in line on its screen, and the two people take turns, however many chats the first has.
func TestChatsTakeTurns(t *testing.T) {
	f := serve(t, screens)
	token := make(chan struct{})
	f.backend.Pace = func(ctx context.Context, unit string) error {
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
	// chatting opens a terminal on a chat of its own.
	chatting := func(key keyPair, name, chat string) *screen {
		t.Helper()
		if _, err := f.exploration.Do(t.Context(), explorer.Actor{Name: name, Role: explorer.RoleEditor}, explorer.OpenChat{
			Name: chat, Subnets: []explorer.SubnetID{explorer.DenseID}, Sampling: &infer.Sampling{MaxTokens: 2},
		}); err != nil {
			t.Fatal(err)
		}
		s := f.open(key, "xterm-256color", 90, 30)
		s.until("space start")
		s.keysDown("4l")
		s.until("chats")
		s.keysDown(chat + "\r")
		s.until(chat)
		s.until("prompt")
		return s
	}
	say := func(s *screen, text string) {
		t.Helper()
		s.keysDown(text)
		s.until(text)
		s.keysDown("\r")
	}
	answered := 0
	// answer lets the running reply have its tokens.
	answer := func() {
		t.Helper()
		for range 2 {
			token <- struct{}{}
		}
		answered++
		explorertest.Until(t, f.exploration, fmt.Sprintf("%d answers", answered), func(s *explorer.Snapshot) bool {
			n := 0
			for _, c := range s.Chats {
				for _, r := range c.Columns[0].Replies {
					if !r.Streaming && r.Tokens == 2 {
						n++
					}
				}
			}
			return n == answered
		})
	}
	place := func(n int) string { return fmt.Sprintf("%d in line for the model", n) }

	first, second := chatting(f.editor, "ed", "planks"), chatting(f.editor, "ed", "beams")
	other := chatting(f.owner, "olga", "shavings")
	say(first, "one")
	first.until("reading the prompt")
	say(second, "two")
	second.until(place(1))
	say(other, "three")
	other.until(place(1)) // before what ed asked in the meantime
	second.until(place(2))

	answer() // one
	other.until("reading the prompt")
	second.until(place(1))
	say(first, "four")
	first.until(place(2))

	answer() // three
	second.until("reading the prompt")
	say(other, "five")
	other.until(place(1))
	first.until(place(2))

	answer() // two
	other.until("reading the prompt")
	first.until(place(1))
	answer() // five
	answer() // four
	for s, text := range map[*screen]string{first: "four", second: "two", other: "five"} {
		s.until(text)
		s.gone("in line")
		s.until("2 tokens")
	}
}
