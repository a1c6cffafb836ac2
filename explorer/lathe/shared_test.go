package main

import (
	"bytes"
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
		{"subnets rename s1 renamed", editor, exitOK, "renamed"},
		{"chat -p hello --max-tokens 4", editor, exitOK, "\n"},
		{"subnets export s1 -o -", editor, exitOK, "lathe-masks"},
		{"subnets export s1 -o stolen.gguf", editor, exitUsage, "cannot be reached"},
		{"eval --text /etc/passwd", editor, exitUsage, "cannot be reached"},
		{"cut --ratio 0.8 --text /etc", editor, exitUsage, "cannot be reached"},
		{"masks set --file /etc/passwd", editor, exitUsage, "cannot be reached"},
		{"status other.gguf", viewer, exitUsage, "one model"},
		{"status --workspace /tmp", viewer, exitUsage, "unknown flag"},
		{"serve", editor, exitUsage, "unknown command"},
		{"doctor", editor, exitUsage, "unknown command"},
		{"compare", editor, exitUsage, "unknown command"},
		{"search pause", editor, exitUsage, "none is running"},
		{"search --target 0.8 --budget evals=5 --json", editor, exitOK, `"event":"end"`},
		{"search retarget 0.5", editor, exitUsage, "none is running"},
		{"stop j99", editor, exitUsage, "not found"},
		{"--help", viewer, exitOK, "subnets"},
	} {
		var out, words bytes.Buffer
		got := runShared(t.Context(), sshserver.Command{
			Actor: c.actor, Exploration: e, Args: strings.Fields(c.line), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &words,
		})
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
