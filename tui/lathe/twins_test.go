package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/tui"
)

// TestEveryActionHasACommand walks the table of actions: each has a command that exists, with its flags, here and over SSH, or
// concerns only the screen.
func TestEveryActionHasACommand(t *testing.T) {
	here := newRoot(&app{})
	there := newRoot(&app{shared: explorertest.Open(t, explorertest.New(), "")})
	// Commands that read files of the server's machine are not offered to its clients.
	files := []string{"subnets import", "themes"}
	for _, a := range tui.Actions() {
		if (a.Command == "") == (a.Local == "") {
			t.Errorf("%s (%s): command %q, local %q: one of them is needed", a.ID, a.Title, a.Command, a.Local)
			continue
		}
		if a.Command == "" {
			continue
		}
		if err := exists(here, a.Command); err != nil {
			t.Errorf("%s: lathe %s: %v", a.ID, a.Command, err)
		}
		if err := exists(there, a.Command); err != nil && !slices.Contains(files, a.Command) {
			t.Errorf("%s: over SSH: %s: %v", a.ID, a.Command, err)
		}
	}
}

// exists returns an error if a tree has no runnable command with the words and flags of a line.
func exists(root *cobra.Command, line string) error {
	at := root
	for _, word := range strings.Fields(line) {
		if flag, ok := strings.CutPrefix(word, "--"); ok {
			if at.Flags().Lookup(flag) == nil && at.InheritedFlags().Lookup(flag) == nil {
				return errors.New("no flag --" + flag)
			}
			continue
		}
		i := slices.IndexFunc(at.Commands(), func(c *cobra.Command) bool { return c.Name() == word })
		if i < 0 {
			return errors.New("no command " + word)
		}
		at = at.Commands()[i]
	}
	if at.RunE == nil {
		return errors.New("it does nothing")
	}
	return nil
}

// TestCommandsNeedTheirRoles runs every command that a server offers as a viewer, an editor and an owner: a command succeeds, or
// fails for another reason, from its role on, and is refused below it.
func TestCommandsNeedTheirRoles(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	s := ex.Snapshot()
	sub, chat, bench := string(s.Subnets[0].ID), string(s.Chats[0].ID), string(s.Benches[0].ID)
	lines := sharedLines(sub, chat, bench)
	running := runningSearch()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		path := strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), "lathe"), " ")
		if path == "" || slices.Contains(running, path) || path == "help" || c.HasSubCommands() && path != "search" {
			return
		}
		line, ok := lines[path]
		if !ok {
			t.Errorf("%s: which role does it need?", path)
			return
		}
		for _, role := range []explorer.Role{explorer.RoleViewer, explorer.RoleEditor, explorer.RoleOwner} {
			if role >= line.role && line.role != explorer.RoleViewer {
				continue // that editors and owners can run them is shown elsewhere; here it would change the exploration
			}
			var out, words strings.Builder
			a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &words, getenv: func(string) string { return "" }, shared: ex, who: explorer.Actor{Name: "vera", Role: role}}
			status := run(t.Context(), a, append(strings.Fields(path), line.args...))
			refused := strings.Contains(words.String(), "needs the role "+line.role.String())
			if role < line.role != refused || role >= line.role && status != 0 {
				t.Errorf("%s as %s: status %d: %s", path, role, status, words.String())
			}
		}
	}
	walk(newRoot(&app{shared: ex}))
}

// A sharedLine is how a test runs a command that a server offers.
type sharedLine struct {
	role explorer.Role // the least that may run it
	args []string
}

// runningSearch are the commands that need a running search. TestSteeringNeedsAnEditor runs them.
func runningSearch() []string {
	return []string{"search pause", "search resume", "search stop", "search retarget", "search inject", "search drain", "search prompt"}
}

// sharedLines are the other commands that a server offers.
func sharedLines(sub, chat, bench string) map[string]sharedLine {
	return map[string]sharedLine{
		"bench": {explorer.RoleEditor, nil}, "chat": {explorer.RoleEditor, []string{"-p", "hi"}}, "cut": {explorer.RoleEditor, nil}, "quantize": {explorer.RoleEditor, []string{"--target", "60MB"}}, "vocab": {explorer.RoleEditor, []string{"--keep", "24000"}}, "eval": {explorer.RoleEditor, nil},
		"probe": {explorer.RoleEditor, nil}, "reform": {explorer.RoleEditor, nil}, "tune": {explorer.RoleEditor, nil}, "search": {explorer.RoleEditor, []string{"--budget", "evals=20"}},
		"fit": {explorer.RoleViewer, []string{"--memory", "1GB"}}, "info": {}, "keys": {}, "status": {}, "messages": {}, "statistics": {explorer.RoleEditor, nil},
		"masks checkout": {explorer.RoleEditor, nil}, "masks diff": {}, "masks show": {}, "masks steps": {}, "masks redo": {explorer.RoleEditor, nil},
		"masks set": {explorer.RoleEditor, []string{"--layers", "3", "--drop", "mlp"}}, "masks undo": {explorer.RoleEditor, nil},
		"search adopt": {explorer.RoleEditor, []string{"best"}}, "search front": {}, "search status": {}, "search start": {explorer.RoleEditor, []string{"--budget", "evals=20"}},
		"subnets list": {}, "subnets export": {explorer.RoleEditor, []string{sub, "-o", "-"}}, "subnets rename": {explorer.RoleEditor, []string{sub, "x"}},
		"subnets duplicate": {explorer.RoleEditor, []string{sub, "y"}}, "subnets note": {explorer.RoleEditor, []string{sub, "z"}}, "subnets measure": {explorer.RoleEditor, []string{sub}},
		"subnets delete": {explorer.RoleEditor, []string{sub}}, "subnets restore": {explorer.RoleEditor, []string{sub}}, "subnets empty-trash": {explorer.RoleOwner, nil},
		"chats list": {}, "chats show": {explorer.RoleViewer, []string{chat}}, "chats export": {explorer.RoleViewer, []string{chat}},
		"chats new": {explorer.RoleEditor, nil}, "chats say": {explorer.RoleEditor, []string{chat, "hi"}}, "chats again": {explorer.RoleEditor, []string{chat}},
		"chats edit": {explorer.RoleEditor, []string{chat, "ho"}}, "chats stop": {explorer.RoleEditor, []string{chat}}, "chats columns": {explorer.RoleEditor, []string{chat, "dense"}},
		"chats vote": {explorer.RoleEditor, []string{chat, "left"}}, "chats set": {explorer.RoleEditor, []string{chat, "--system", "x"}},
		"chats rename": {explorer.RoleEditor, []string{chat, "x"}}, "chats delete": {explorer.RoleEditor, []string{chat}},
		"benches list": {}, "benches export": {explorer.RoleViewer, []string{bench}}, "stop": {explorer.RoleEditor, []string{"j1"}},
	}
}
