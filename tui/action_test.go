package tui

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/charmbracelet/x/exp/golden"
)

var _ = golden.RequireEqual[string] // its -update flag also renews docs/keys.md

func updating() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

func TestNoKeyClashes(t *testing.T) {
	actions := allActions()
	ids := map[string]bool{}
	keys := map[scope]map[string]string{}
	for _, sc := range scopes() {
		keys[sc] = map[string]string{}
	}
	for _, a := range actions {
		if ids[a.id] {
			t.Errorf("two actions are called %s", a.id)
		}
		ids[a.id] = true
		if a.title == "" || a.run == nil {
			t.Errorf("%s has no title or does nothing", a.id)
		}
		if keys[a.scope] == nil {
			t.Fatalf("%s has the unknown scope %q", a.id, a.scope)
		}
		for _, k := range a.keys {
			if why := reserved(k); why != "" {
				t.Errorf("%s is bound to %s: %s", a.id, k, why)
			}
			if other := keys[a.scope][k]; other != "" {
				t.Errorf("%s and %s share %s", a.id, other, k)
			}
			keys[a.scope][k] = a.id
		}
	}
	for sc, own := range keys {
		if sc == everywhere {
			continue
		}
		for k, id := range own {
			if other := keys[everywhere][k]; other != "" {
				t.Errorf("%s on %s hides %s, which works everywhere", k, id, other)
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
		t.Errorf("%s is not what the table of actions says; run go test ./tui -run TestKeysAreDocumented -update", path)
	}
}

func TestKeymap(t *testing.T) {
	find := func(k *keymap, sc scope, key string) string {
		if a := k.lookup(sc, key); a != nil {
			return a.id
		}
		return ""
	}
	for _, c := range []struct {
		name, file string
		scope      scope
		key, want  string
		problems   []string
	}{
		{name: "nothing", scope: onSearch, key: "space", want: "search.toggle"},
		{name: "one key", file: "[keys]\n\"search.toggle\" = \"P\"", scope: onSearch, key: "P", want: "search.toggle"},
		{name: "the old key is free", file: "[keys]\n\"search.toggle\" = \"P\"", scope: onSearch, key: "space"},
		{name: "a list", file: "[keys]\nquit = [\"Q\", \"f12\"]", scope: everywhere, key: "f12", want: "quit"},
		{name: "unbound", file: "[keys]\nquit = []", scope: everywhere, key: "q"},
		{name: "others keep theirs", file: "[keys]\nquit = []", scope: everywhere, key: "?", want: "help"},
		{name: "a user's key wins over a default", file: "[keys]\n\"search.chat\" = \"a\"", scope: onSearch, key: "a", want: "search.chat"},
		{name: "unknown action", file: "[keys]\n\"search.dance\" = \"d\"", scope: onSearch, key: "space", want: "search.toggle", problems: []string{"there is no action"}},
		{name: "reserved key", file: "[keys]\nquit = \"esc\"", scope: everywhere, key: "esc", problems: []string{"cannot be bound"}},
		{name: "wrong kind", file: "[keys]\nquit = 3", scope: everywhere, key: "q", want: "quit", problems: []string{"a key or a list"}},
		{name: "clash", file: "[keys]\n\"search.chat\" = \"w\"\n\"search.edit\" = \"w\"", scope: onSearch, key: "w", want: "search.chat", problems: []string{"already means"}},
		{name: "no toml", file: "keys = [", scope: everywhere, key: "q", want: "quit", problems: []string{"not used"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, problems := parseKeymap(allActions(), []byte(c.file))
			if got := find(k, c.scope, c.key); got != c.want {
				t.Errorf("%s means %q, want %q", c.key, got, c.want)
			}
			if len(problems) != len(c.problems) {
				t.Fatalf("problems: %q", problems)
			}
			for i, p := range c.problems {
				if !strings.Contains(problems[i], p) {
					t.Errorf("problem %q does not say %q", problems[i], p)
				}
			}
		})
	}
	if _, problems := loadKeymap(allActions(), "no such file"); len(problems) != 1 {
		t.Errorf("a missing file is reported as %q", problems)
	}
}

func FuzzKeymap(f *testing.F) {
	f.Add([]byte("[keys]\nquit = [\"Q\"]\n\"search.chat\" = \"w\""))
	f.Fuzz(func(t *testing.T, data []byte) {
		actions := allActions()
		k, _ := parseKeymap(actions, data)
		for _, sc := range scopes() {
			for key := range k.byKey[sc] {
				if sc != everywhere && k.lookup(everywhere, key) != nil {
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
	if got := l.screen(); !strings.Contains(got, "P            Start, pause or resume the search") {
		t.Errorf("the help does not show the new key:\n%s", got)
	}
}
