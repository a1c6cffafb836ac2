package action

import (
	"fmt"
	"strings"
)

// Doc returns docs/keys.md: all actions of a table with their keys.
func Doc(table []*Action) string {
	var b strings.Builder
	b.WriteString("# Keys\n\n" +
		"Every action of the explorer, read from its table of actions. `?` shows the same on the screen, `:` finds an action by its name.\n\n" +
		"A key map in TOML rebinds them: `lathe` reads `keys.toml` in its configuration folder. Names are those in the last column;\n" +
		"unknown names and clashing keys are reported and ignored; everything else keeps its default.\n\n" +
		"```toml\n[keys]\n\"search.toggle\" = \"p\"\nquit = [\"Q\", \"ctrl+q\"]\n```\n\n" +
		"`esc` goes back one step from anywhere and `ctrl+c` quits; these two cannot be rebound.\n")
	for _, sc := range Scopes(table) {
		title := strings.ToUpper(sc[:1]) + sc[1:]
		fmt.Fprintf(&b, "\n## %s\n\n| keys | what it does | name |\n|---|---|---|\n", title)
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
			fmt.Fprintf(&b, "| %s | %s | `%s` |\n", strings.Join(keys, " "), what, a.ID)
		}
	}
	return b.String()
}
