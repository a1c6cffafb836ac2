package action

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"github.com/lathe-llm/lathe/explorer/format"
)

// A Keymap maps keys to actions, by scope. It never changes after it was built.
type Keymap struct {
	byKey map[string]map[string]*Action
	keys  map[string][]string // action id to its keys, best first
}

// Reserved returns why a key cannot be bound, or "": some lead out of every state, and some are indistinguishable from
// others in terminals without enhanced keyboards.
func Reserved(key string) string {
	switch key {
	case "esc", "ctrl+[":
		return "esc always goes back"
	case "ctrl+c":
		return "ctrl+c always quits"
	case "ctrl+m", "ctrl+i", "ctrl+h", "ctrl+j":
		return "terminals do not distinguish it from enter, tab, backspace or line feed"
	}
	return ""
}

// Default returns the key map of the table itself.
func Default(actions []*Action) *Keymap {
	k := &Keymap{byKey: map[string]map[string]*Action{}, keys: map[string][]string{}}
	for _, a := range actions {
		k.bind(a, a.Keys)
	}
	return k
}

func (k *Keymap) bind(a *Action, keys []string) {
	k.keys[a.ID] = keys
	if k.byKey[a.Scope] == nil {
		k.byKey[a.Scope] = map[string]*Action{}
	}
	for _, key := range keys {
		k.byKey[a.Scope][key] = a
	}
}

// Lookup returns the action of a key in one scope; nil if none.
func (k *Keymap) Lookup(sc string, key string) *Action { return k.byKey[sc][key] }

// Of returns the keys of an action.
func (k *Keymap) Of(a *Action) []string { return k.keys[a.ID] }

// First returns the key that is shown for an action, or "".
func (k *Keymap) First(a *Action) string {
	if keys := k.keys[a.ID]; len(keys) > 0 {
		return keys[0]
	}
	return ""
}

// Load reads a user's key map over the defaults. Entries that cannot be used keep their defaults and are reported; the
// returned key map is usable whatever the problems.
//
// The file has one table, keys, from action ids to a key or a list of keys; an empty list unbinds:
//
//	[keys]
//	"search.toggle" = "p"
//	"quit" = ["Q", "ctrl+q"]
func Load(actions []*Action, path string) (*Keymap, []string) {
	if path == "" {
		return Default(actions), nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Default(actions), []string{"key map: " + format.Error(err)}
	}
	return Parse(actions, data)
}

// Parse is Load for the content of a file.
func Parse(actions []*Action, data []byte) (*Keymap, []string) {
	var file struct {
		Keys map[string]any `toml:"keys"`
	}
	if err := toml.Unmarshal(data, &file); err != nil {
		line := strings.ReplaceAll(format.Error(err), "\n", " ")
		return Default(actions), []string{"key map not used: " + line}
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
		if !slices.ContainsFunc(actions, func(a *Action) bool { return a.ID == id }) {
			report("there is no action %q", id)
			continue
		}
		keys, ok := keyList(file.Keys[id])
		if !ok {
			report("%s: must be a key or a list of keys", id)
			continue
		}
		keys = slices.DeleteFunc(keys, func(key string) bool {
			if !isKey(key) {
				report("%s: %q is no key", id, key)
				return true
			}
			why := Reserved(key)
			if why != "" {
				report("%s: %s cannot be bound: %s", id, key, why)
			}
			return why != ""
		})
		wanted[id] = keys
	}

	k := Default(nil)
	taken := map[string]map[string]string{}
	claim := func(a *Action, keys []string) (kept []string) {
		for _, key := range keys {
			if other := clash(taken, a.Scope, key); other != "" {
				report("%s: %s already means %s", a.ID, key, other)
				continue
			}
			if taken[a.Scope] == nil {
				taken[a.Scope] = map[string]string{}
			}
			taken[a.Scope][key] = a.ID
			kept = append(kept, key)
		}
		return kept
	}
	for _, own := range []bool{true, false} { // the user's choices first, then defaults on the remaining keys
		for _, a := range actions {
			keys, chosen := wanted[a.ID]
			if chosen != own {
				continue
			}
			if !chosen {
				keys = slices.DeleteFunc(slices.Clone(a.Keys), func(key string) bool {
					other := clash(taken, a.Scope, key)
					if _, moved := wanted[other]; moved {
						report("%s loses %s to %s", a.ID, key, other)
					}
					return other != ""
				})
			}
			k.bind(a, claim(a, keys))
		}
	}
	return k, problems
}

// isKey reports whether a terminal can send a key of this name.
func isKey(name string) bool {
	for {
		rest, ok := name, false
		for _, mod := range []string{"ctrl+", "alt+", "shift+", "super+", "meta+", "hyper+"} {
			if r, cut := strings.CutPrefix(rest, mod); cut && r != "" {
				rest, ok = r, true
			}
		}
		if name = rest; !ok {
			break
		}
	}
	if utf8.RuneCountInString(name) == 1 {
		return true
	}
	if n, err := strconv.Atoi(strings.TrimPrefix(name, "f")); err == nil && strings.HasPrefix(name, "f") {
		return n >= 1 && n <= 63
	}
	switch name {
	case "up", "down", "left", "right", "enter", "tab", "space", "backspace", "delete", "insert", "home", "end", "pgup", "pgdown", "esc", "begin", "find", "select", "menu":
		return true
	}
	return false
}

// clash returns the action that already has a key where an action of the scope would use it; "" if none.
func clash(taken map[string]map[string]string, sc, key string) string {
	if sc != Everywhere {
		if id := taken[Everywhere][key]; id != "" {
			return id
		}
		return taken[sc][key]
	}
	for _, other := range slices.Sorted(maps.Keys(taken)) {
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
