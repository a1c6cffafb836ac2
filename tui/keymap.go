package tui

import (
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/BurntSushi/toml"
)

// A keymap says which keys lead to which action, by scope. It never changes after it was built.
type keymap struct {
	byKey map[scope]map[string]*action
	keys  map[string][]string // action id to its keys, best first
}

// reserved keys cannot be bound: they are what gets a user out of anything, or are indistinguishable from others in
// terminals without enhanced keyboards.
func reserved(key string) string {
	switch key {
	case "esc", "ctrl+[":
		return "esc always goes back"
	case "ctrl+c":
		return "ctrl+c always quits"
	case "ctrl+m", "ctrl+i", "ctrl+h", "ctrl+j":
		return "terminals cannot tell it from enter, tab, backspace or line feed"
	}
	return ""
}

// defaultKeymap is the keymap of the table itself.
func defaultKeymap(actions []*action) *keymap {
	k := &keymap{byKey: map[scope]map[string]*action{}, keys: map[string][]string{}}
	for _, a := range actions {
		k.bind(a, a.keys)
	}
	return k
}

func (k *keymap) bind(a *action, keys []string) {
	k.keys[a.id] = keys
	if k.byKey[a.scope] == nil {
		k.byKey[a.scope] = map[string]*action{}
	}
	for _, key := range keys {
		k.byKey[a.scope][key] = a
	}
}

func (k *keymap) lookup(sc scope, key string) *action { return k.byKey[sc][key] }

// of returns the keys of an action.
func (k *keymap) of(a *action) []string { return k.keys[a.id] }

// first returns the key that is shown for an action, or "".
func (k *keymap) first(a *action) string {
	if keys := k.keys[a.id]; len(keys) > 0 {
		return keys[0]
	}
	return ""
}

// loadKeymap reads a user's key map over the defaults. What cannot be used is left at its default and reported; only the
// returned keymap is to be used, whatever the problems.
//
// The file has one table, keys, from action ids to a key or a list of keys; an empty list unbinds:
//
//	[keys]
//	"search.pause" = "p"
//	"quit" = ["Q", "ctrl+q"]
func loadKeymap(actions []*action, path string) (*keymap, []string) {
	if path == "" {
		return defaultKeymap(actions), nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return defaultKeymap(actions), []string{"key map: " + err.Error()}
	}
	return parseKeymap(actions, data)
}

func parseKeymap(actions []*action, data []byte) (*keymap, []string) {
	var file struct {
		Keys map[string]any `toml:"keys"`
	}
	if err := toml.Unmarshal(data, &file); err != nil {
		line := strings.ReplaceAll(err.Error(), "\n", " ")
		return defaultKeymap(actions), []string{"key map not used: " + line}
	}
	var problems []string
	report := func(format string, args ...any) {
		problems = append(problems, "key map: "+fmt.Sprintf(format, args...))
	}

	wanted := map[string][]string{}
	ids := make([]string, 0, len(file.Keys))
	for id := range file.Keys {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	for _, id := range ids {
		if !slices.ContainsFunc(actions, func(a *action) bool { return a.id == id }) {
			report("there is no action %q", id)
			continue
		}
		keys, ok := keyList(file.Keys[id])
		if !ok {
			report("%s: a key or a list of keys is wanted", id)
			continue
		}
		keys = slices.DeleteFunc(keys, func(key string) bool {
			why := reserved(key)
			if why != "" {
				report("%s: %s cannot be bound: %s", id, key, why)
			}
			return why != ""
		})
		wanted[id] = keys
	}

	k := defaultKeymap(nil)
	taken := map[scope]map[string]string{}
	claim := func(a *action, keys []string) (kept []string) {
		for _, key := range keys {
			if other := clash(taken, a.scope, key); other != "" {
				report("%s: %s already means %s", a.id, key, other)
				continue
			}
			if taken[a.scope] == nil {
				taken[a.scope] = map[string]string{}
			}
			taken[a.scope][key] = a.id
			kept = append(kept, key)
		}
		return kept
	}
	for _, own := range []bool{true, false} { // the user's choices first, defaults take what is left
		for _, a := range actions {
			keys, chosen := wanted[a.id]
			if chosen != own {
				continue
			}
			if !chosen {
				keys = slices.DeleteFunc(slices.Clone(a.keys), func(key string) bool { return clash(taken, a.scope, key) != "" })
			}
			k.bind(a, claim(a, keys))
		}
	}
	return k, problems
}

// clash returns the action that a key already leads to where an action of the scope would use it.
func clash(taken map[scope]map[string]string, sc scope, key string) string {
	if sc != everywhere {
		if id := taken[everywhere][key]; id != "" {
			return id
		}
		return taken[sc][key]
	}
	for _, other := range scopes() {
		if id := taken[other][key]; id != "" {
			return id
		}
	}
	return ""
}

func keyList(v any) ([]string, bool) {
	switch v := v.(type) {
	case string:
		return []string{v}, true
	case []any:
		keys := []string{}
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			keys = append(keys, s)
		}
		return keys, true
	}
	return nil, false
}
