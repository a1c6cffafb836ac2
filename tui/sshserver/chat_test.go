package sshserver

import (
	"context"
	"fmt"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/subnet"
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
	place := func(n int) string { return fmt.Sprintf("waiting for the model, position %d", n) }

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

// TestHostileTextReachesNoTerminal writes control characters wherever people can write, lets a model generate them, and looks
// for them in all that other people's terminals are sent, on every screen.
func TestHostileTextReachesNoTerminal(t *testing.T) {
	const evil = "\x1b]0;owned\x07\x1b[2Jowned\u202e\u009b31m\x1b]52;c;b3duZWQ=\x07\x0e\x7f"
	b := explorertest.New()
	b.Says = strings.Repeat("so "+evil+" it is. ", 40)
	e := explorertest.Open(t, b, "")
	f := serve(t, func(o *Options) {
		screens(o)
		o.Exploration = e
	})
	// The name of a key's principal is what others see of them.
	mallory := newKey(t)
	f.allow(line(`lathe-role="editor"`, mallory, evil+"mallory"), line(`lathe-role="editor"`, f.editor, "ed"), line(`lathe-role="viewer"`, f.viewer, "vera"))
	at := f.open(mallory, "xterm", 120, 40)
	at.until("1 Search")
	as := explorer.Actor{Name: evil, Role: explorer.RoleOwner}
	do := func(c explorer.Command) explorer.Receipt {
		t.Helper()
		r, err := e.Do(t.Context(), as, c)
		if err != nil {
			t.Fatalf("%T: %v", c, err)
		}
		return r
	}
	masks, err := subnet.Dense(explorertest.Geometry()).MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	sub := do(explorer.AddSubnet{Name: evil, Note: evil, Masks: string(masks)}).Subnet
	do(explorer.SaveDraft{Name: evil})
	do(explorer.Attach{Where: evil})
	chat := do(explorer.OpenChat{Name: evil, System: evil, Subnets: []explorer.SubnetID{explorer.DenseID, sub}, Sampling: &infer.Sampling{MaxTokens: 300}}).Chat
	do(explorer.Say{Chat: chat, Text: "so " + evil})
	do(explorer.StartBench{Settings: explorer.BenchSettings{Subnets: []explorer.SubnetID{sub}, Prompt: []int{16}}})
	do(explorer.Cut{Target: 0.8, Name: evil})
	do(explorer.Export{Subnet: sub, Path: t.TempDir() + "/" + evil}) // its path is in a message where it fails
	said := explorertest.Quiet(t, e).Chats[0].Columns[0].Replies[0].Text
	if strings.Count(said, "owned") < 2 {
		t.Fatalf("the model generated nothing hostile: %q", said)
	}

	victim := f.open(f.viewer, "xterm-256color", 200, 50)
	victim.until("3 viewers")
	for _, screen := range "123456" {
		victim.keysDown(string(screen))
		for key, title := range map[string]string{":": "commands", "J": "jobs", "N": "messages", "I": "model"} {
			victim.keysDown(key)
			victim.until("╭ " + title)
			victim.keysDown("\x1b")
			victim.gone("╭ " + title) // what is beneath has been drawn
		}
	}
	for _, seen := range []string{"mallory", "owned"} { // made harmless, not left out
		if !strings.Contains(victim.sent(), seen) {
			t.Errorf("no screen showed %q", seen)
		}
	}
	stdout, stderr, _ := f.output(f.viewer, "status")
	for _, sent := range []string{victim.sent(), at.sent(), stdout, stderr} {
		for _, bad := range []string{"\x1b]0;owned", "\x1b[2Jowned", "\x1b]52", "\u202e", "\u009b", "\x0e", "\x7f"} {
			if i := strings.Index(sent, bad); i >= 0 {
				t.Errorf("a terminal was sent %q", sent[max(0, i-40):min(len(sent), i+40)])
			}
		}
	}
	if strings.Contains(f.journal.String(), `\u001b`) {
		t.Error("the audit log has control characters")
	}
}
