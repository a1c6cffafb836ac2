package tui

import (
	"fmt"
	"strings"
)

// keysDoc is docs/keys.md: all actions with their keys, as the table has them.
func keysDoc(actions []*action) string {
	var b strings.Builder
	b.WriteString("# Keys\n\n" +
		"Every action of the explorer, read from its table of actions. `?` shows the same on the screen, `:` finds an action by its name.\n\n" +
		"A key map in TOML rebinds them: `lathe` reads `keys.toml` in its configuration folder. Names are those in the last column;\n" +
		"unknown names and keys that clash are reported and left out, everything else keeps its default.\n\n" +
		"```toml\n[keys]\n\"search.toggle\" = \"p\"\nquit = [\"Q\", \"ctrl+q\"]\n```\n\n" +
		"`esc` goes back one step from anywhere and `ctrl+c` quits; these two cannot be rebound.\n")
	for _, sc := range scopes() {
		title := strings.ToUpper(string(sc[:1])) + string(sc[1:])
		fmt.Fprintf(&b, "\n## %s\n\n| keys | what it does | name |\n|---|---|---|\n", title)
		for _, a := range actions {
			if a.scope != sc {
				continue
			}
			keys := make([]string, len(a.keys))
			for i, k := range a.keys {
				keys[i] = "`" + strings.ReplaceAll(k, "|", "\\|") + "`"
			}
			what := a.title + "."
			if a.help != "" {
				what += " " + a.help
			}
			fmt.Fprintf(&b, "| %s | %s | `%s` |\n", strings.Join(keys, " "), what, a.id)
		}
	}
	return b.String()
}
