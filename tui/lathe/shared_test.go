package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/tui/sshserver"
)

// TestSharedCommands runs clients' command lines on one exploration, as a server does.
func TestSharedCommands(t *testing.T) {
	e := explorertest.Filled(t, explorertest.New())
	viewer, editor := explorer.Actor{Name: "vera"}, explorer.Actor{Name: "ed", Role: explorer.RoleEditor}
	chats := len(e.Snapshot().Chats)
	for _, c := range []struct {
		line  string
		actor explorer.Actor
		want  int
		out   string // in standard output, or in standard error where it fails
	}{
		{"status", viewer, exitOK, "from s2"},
		{"status --json", viewer, exitOK, `"jobs":[]`},
		{"info", viewer, exitOK, "30 × 9 heads"},
		{"subnets list", viewer, exitOK, "evening search"},
		{"masks show --subnet s2", viewer, exitOK, "of the block parameters"},
		{"fit --memory 1GB", viewer, exitOK, "dense"},
		{"masks undo", viewer, exitUsage, "this needs the role editor"},
		{"masks undo", editor, exitOK, "steps to undo"},
		{"masks set --layers 10 --drop attention", editor, exitOK, "layer 10"},
		{"masks undo", editor, exitOK, "undone: layer 10"},
		{"masks redo", editor, exitOK, "redone: layer 10"},
		{"masks undo --json", editor, exitOK, `"undone":"layer 10`},
		{"masks set --layers 11 --drop attention --json", editor, exitOK, `"step":"layer 11: heads 6 → 0 (KV groups 2 → 0)","undo"`},
		{"subnets rename s1 renamed", editor, exitOK, "renamed"},
		{"chat -p hello --max-tokens 4", editor, exitOK, "\n"},
		{"subnets export s1 -o -", editor, exitOK, "lathe-masks"},
		{"subnets export s1 -o stolen.gguf", editor, exitUsage, "cannot use"},
		{"eval --subnet s1", editor, exitOK, "4 windows of 2048"},
		{"eval --text /etc/passwd", editor, exitUsage, "cannot use"},
		{"cut --ratio 0.8 --text /etc", editor, exitUsage, "cannot use"},
		{"masks set --file /etc/passwd", editor, exitUsage, "cannot use"},
		{"status other.gguf", viewer, exitUsage, "one model"},
		{"status --workspace /tmp", viewer, exitUsage, "unknown flag"},
		{"serve", editor, exitUsage, "unknown command"},
		{"doctor", editor, exitUsage, "unknown command"},
		{"compare", editor, exitUsage, "unknown command"},
		{"search pause", editor, exitUsage, "none is running"},
		{"search --target 0.8 --budget evals=5 --json", editor, exitOK, `"event":"end"`},
		{"search start --target 2", editor, exitUsage, "not in (0, 1]"},
		{"search start --text /etc/passwd", editor, exitUsage, "cannot use"},
		{"search start", viewer, exitUsage, "this needs the role editor"},
		{"search retarget 0.5", editor, exitUsage, "none is running"},
		{"stop j99", editor, exitUsage, "not found"},
		{"search start --target 0.8 --budget evals=5", editor, exitOK, "draft "},
		{"--help", viewer, exitOK, "subnets"},
	} {
		var out, words bytes.Buffer
		got := runShared(t.Context(), sshserver.Command{
			Actor: c.actor, Exploration: e, Args: strings.Fields(c.line), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &words,
		}, t.TempDir())
		text := out.String()
		if c.want != exitOK {
			text = words.String()
		}
		if got != c.want || !strings.Contains(text, c.out) {
			t.Errorf("%s: status %d, want %d\n%s%s", c.line, got, c.want, out.String(), words.String())
		}
	}
	if n := len(e.Snapshot().Chats); n != chats {
		t.Errorf("%d chats, %d before: commands leave theirs behind", n, chats)
	}
}

// TestSearchOutlivesItsClient has a client go away while it follows a search.
func TestSearchOutlivesItsClient(t *testing.T) {
	b := explorertest.New()
	hold := make(chan struct{})
	b.Pace = func(ctx context.Context, unit string) error {
		if unit != "candidates" {
			return nil
		}
		select {
		case <-hold:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	e := explorertest.Open(t, b, "")
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan int)
	var words bytes.Buffer
	go func() {
		ended <- runShared(ctx, sshserver.Command{
			Actor: explorer.Actor{Name: "ed", Role: explorer.RoleEditor}, Exploration: e, Args: strings.Fields("search --budget evals=20"),
			Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: &words,
		}, t.TempDir())
	}()
	s := explorertest.Until(t, e, "the search", func(s *explorer.Snapshot) bool { return s.Unfinished != nil })
	leave()
	if got := <-ended; got != exitInterrupted || !strings.Contains(words.String(), "the search continues") {
		t.Errorf("status %d, %s", got, &words)
	}
	close(hold)
	if j := explorertest.Ended(t, e, s.Jobs[0].ID); j.State != explorer.Done || len(e.Snapshot().Subnets) != 1 {
		t.Errorf("without its client the search ended as %s, %d subnets", j.State, len(e.Snapshot().Subnets))
	}
}

// TestNoFileOnATerminal exports to where a terminal would draw it.
func TestNoFileOnATerminal(t *testing.T) {
	e := explorertest.Filled(t, explorertest.New())
	var out, words bytes.Buffer
	got := runShared(t.Context(), sshserver.Command{
		Actor: explorer.Actor{Name: "ed", Role: explorer.RoleEditor}, Exploration: e, Args: strings.Fields("subnets export s1 -o -"),
		Stdin: strings.NewReader(""), Stdout: &out, Stderr: &words, Terminal: true,
	}, t.TempDir())
	if got != exitUsage || out.Len() > 0 || !strings.Contains(words.String(), "a terminal") {
		t.Errorf("status %d, %d bytes, %s", got, out.Len(), &words)
	}
}
