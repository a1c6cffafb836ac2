package tui

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/charmbracelet/x/exp/golden"
	"github.com/lathe-llm/lathe/tui/internal/action"
)

var _ = golden.RequireEqual[string] // its -update flag also renews docs/keys.md

func updating() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

// allActions is the table of a model that nothing was done with.
func allActions() []*action.Action {
	m := &Model{}
	m.screens = newScreens(host{m})
	return m.table()
}

func TestNoKeyClashes(t *testing.T) {
	actions := allActions()
	ids := map[string]bool{}
	keys := map[string]map[string]string{}
	for _, sc := range action.Scopes(actions) {
		keys[sc] = map[string]string{}
	}
	for _, a := range actions {
		if ids[a.ID] {
			t.Errorf("two actions are called %s", a.ID)
		}
		ids[a.ID] = true
		if a.Title == "" || a.Run == nil {
			t.Errorf("%s has no title or does nothing", a.ID)
		}
		if keys[a.Scope] == nil {
			t.Fatalf("%s has the unknown scope %q", a.ID, a.Scope)
		}
		for _, k := range a.Keys {
			if why := action.Reserved(k); why != "" {
				t.Errorf("%s is bound to %s: %s", a.ID, k, why)
			}
			if other := keys[a.Scope][k]; other != "" {
				t.Errorf("%s and %s share %s", a.ID, other, k)
			}
			keys[a.Scope][k] = a.ID
		}
	}
	for sc, own := range keys {
		if sc == action.Everywhere {
			continue
		}
		for k, id := range own {
			if other := keys[action.Everywhere][k]; other != "" {
				t.Errorf("%s on %s hides %s, which works action.Everywhere", k, id, other)
			}
		}
	}
}

func TestKeysAreDocumented(t *testing.T) {
	const path = "docs/keys.md"
	want := keysDoc(allActions())
	if updating() {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s differs from the table of actions; run go test ./tui -run TestKeysAreDocumented -update", path)
	}
}

func TestKeymap(t *testing.T) {
	find := func(k *action.Keymap, sc, key string) string {
		if a := k.Lookup(sc, key); a != nil {
			return a.ID
		}
		return ""
	}
	for _, c := range []struct {
		name, file string
		scope      string
		key, want  string
		problems   []string
	}{
		{name: "nothing", scope: "search", key: "space", want: "search.toggle"},
		{name: "one key", file: "[keys]\n\"search.toggle\" = \"P\"", scope: "search", key: "P", want: "search.toggle"},
		{name: "the old key is free", file: "[keys]\n\"search.toggle\" = \"P\"", scope: "search", key: "space"},
		{name: "a list", file: "[keys]\nquit = [\"Q\", \"f12\"]", scope: action.Everywhere, key: "f12", want: "quit"},
		{name: "unbound", file: "[keys]\nquit = []", scope: action.Everywhere, key: "q"},
		{name: "others keep theirs", file: "[keys]\nquit = []", scope: action.Everywhere, key: "?", want: "help"},
		{name: "a user's key wins over a default", file: "[keys]\n\"search.chat\" = \"a\"", scope: "search", key: "a", want: "search.chat", problems: []string{"search.adopt loses a to search.chat"}},
		{name: "no such key", file: "[keys]\nhelp = \"F99\"", scope: action.Everywhere, key: "?", problems: []string{"\"F99\" is no key"}},
		{name: "unknown action", file: "[keys]\n\"search.dance\" = \"d\"", scope: "search", key: "space", want: "search.toggle", problems: []string{"there is no action"}},
		{name: "reserved key", file: "[keys]\nquit = \"esc\"", scope: action.Everywhere, key: "esc", problems: []string{"cannot be bound"}},
		{name: "wrong kind", file: "[keys]\nquit = 3", scope: action.Everywhere, key: "q", want: "quit", problems: []string{"a key or a list"}},
		{name: "clash", file: "[keys]\n\"search.chat\" = \"%\"\n\"search.edit\" = \"%\"", scope: "search", key: "%", want: "search.chat", problems: []string{"already means"}},
		{name: "no toml", file: "keys = [", scope: action.Everywhere, key: "q", want: "quit", problems: []string{"not used"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, problems := action.Parse(allActions(), []byte(c.file))
			if got := find(k, c.scope, c.key); got != c.want {
				t.Errorf("%s means %q, want %q", c.key, got, c.want)
			}
			if len(problems) != len(c.problems) {
				t.Fatalf("problems: %q", problems)
			}
			for i, p := range c.problems {
				if !strings.Contains(problems[i], p) {
					t.Errorf("problem %q does not contain %q", problems[i], p)
				}
			}
		})
	}
	if _, problems := action.Load(allActions(), "no such file"); len(problems) != 1 {
		t.Errorf("a missing file is reported as %q", problems)
	}
}

func FuzzKeymap(f *testing.F) {
	f.Add([]byte("[keys]\nquit = [\"Q\"]\n\"search.chat\" = \"w\""))
	f.Fuzz(func(t *testing.T, data []byte) {
		actions := allActions()
		k, _ := action.Parse(actions, data)
		for _, a := range actions {
			for _, key := range k.Of(a) {
				if a.Scope != action.Everywhere && k.Lookup(action.Everywhere, key) != nil {
					t.Fatalf("%s means two things", key)
				}
			}
		}
	})
}

func TestHelpShowsReboundKeys(t *testing.T) {
	path := t.TempDir() + "/keys.toml"
	if err := os.WriteFile(path, []byte("[keys]\n\"search.toggle\" = \"P\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l := newLoop(t, 120, 40, func(o *Options) { o.KeyFile = path })
	if got := l.screen(); !strings.Contains(got, "P start") {
		t.Errorf("the footer does not show the new key:\n%s", got)
	}
	l.press("?")
	if got := l.screen(); !strings.Contains(got, "P              Start, pause or resume the search") {
		t.Errorf("the help does not show the new key:\n%s", got)
	}
}

// keysDoc returns docs/keys.md: all actions of a table with their keys.
func keysDoc(table []*action.Action) string {
	var b strings.Builder
	b.WriteString("# Keys\n\n" +
		"Every action of the explorer, read from its table of actions. `?` shows the same on the screen, `:` finds an action by its name,\n" +
		"`lathe keys` lists them. The last column is the command of `lathe` that does the same; the other actions concern the screen only.\n\n" +
		"A key map in TOML rebinds them: `lathe` reads `keys.toml` in its configuration folder, or the content of `$LATHE_KEYS`, also over SSH. Names are those in the third column;\n" +
		"unknown names and clashing keys are reported and ignored; everything else keeps its default.\n\n" +
		"```toml\n[keys]\n\"search.toggle\" = \"p\"\nquit = [\"Q\", \"ctrl+q\"]\n```\n\n" +
		"`esc` goes back one step from anywhere and `ctrl+c` quits; these two cannot be rebound.\n")
	for _, sc := range action.Scopes(table) {
		title := strings.ToUpper(sc[:1]) + sc[1:]
		fmt.Fprintf(&b, "\n## %s\n\n| keys | what it does | name | command |\n|---|---|---|---|\n", title)
		for _, a := range table {
			if a.Scope != sc {
				continue
			}
			keys := make([]string, len(a.Keys))
			for i, k := range a.Keys {
				keys[i] = "`" + strings.ReplaceAll(k, "|", "\\|") + "`"
			}
			what := a.Title + "."
			if a.Help != "" {
				what += " " + a.Help
			}
			command := ""
			if c := commands()[a.ID]; c != "" {
				command = "`" + c + "`"
			}
			fmt.Fprintf(&b, "| %s | %s | `%s` | %s |\n", strings.Join(keys, " "), what, a.ID, command)
		}
	}
	return b.String()
}
