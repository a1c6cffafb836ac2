package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lathe-llm/lathe/explorer"
)

// TestCommandsPage compares explorer/docs/commands.md with the command tree; -update rewrites it.
func TestCommandsPage(t *testing.T) {
	const page = "../../explorer/docs/commands.md"
	var b bytes.Buffer
	b.WriteString("# Commands\n\nGenerated from the command tree by `go test ./tui/lathe -run CommandsPage -update`.\n\n" +
		"Results go to standard output, everything else to standard error. With `--json` standard output is one JSON object, or\n" +
		"for `search` a line for each generation and one at the end; messages stay on standard error. On a terminal progress is one\n" +
		"line that is updated in place; elsewhere it is a line every ten seconds.\n\n" +
		"MODEL defaults to `$LATHE_CACHE/models/" + defaultModel + "`. SUBNET is an id or a name.\n\n## Exit statuses\n\n| status | meaning |\n|---|---|\n")
	for _, s := range exitStatuses {
		fmt.Fprintf(&b, "| %d | %s |\n", s.status, s.meaning)
	}
	b.WriteString("\n## Environment\n\n| variable | meaning |\n|---|---|\n")
	for _, v := range variables {
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(v.names, ", ", "`, `"), v.meaning)
	}
	b.WriteString("\nA leading `~` and `$VARIABLE` are expanded in the variables of folders. Without `HOME` the home folder is that of the user\n" +
		"database.\n")
	root := newRoot(&app{})
	b.WriteString("\n## Flags of all commands\n\n")
	flags(&b, root.PersistentFlags())
	document(&b, root)
	b.WriteString("\n## Over SSH\n\n`ssh host COMMAND` runs these commands on the exploration of a server, with the name and the role of the key. Flags that\n" +
		"name files are refused; `-o -` sends a file to the client. In brackets: the least role that may run a command. [Sessions](../../tui/sshserver/docs/sessions.md) has more.\n\n")
	shared := newRoot(&app{shared: &explorer.Exploration{}})
	var paths []string
	list(&paths, shared)
	for _, path := range paths {
		role := explorer.RoleEditor // of a running search
		for i := len(strings.Fields(path)); i > 0; i-- {
			if line, ok := sharedLines("", "", "")[strings.Join(strings.Fields(path)[:i], " ")]; ok {
				role = line.role
				break
			}
		}
		fmt.Fprintf(&b, "* `%s` (%s)\n", path, role)
	}
	if *update {
		if err := os.WriteFile(page, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, b.Bytes()) {
		t.Error("docs/commands.md differs from the command tree: run go test ./tui/lathe -run CommandsPage -update")
	}
}

// list collects the runnable commands.
func list(paths *[]string, c *cobra.Command) {
	if c.HasParent() && c.Name() != "help" && (c.Name() == "search" || !c.HasSubCommands()) {
		*paths = append(*paths, strings.TrimPrefix(strings.TrimSuffix(strings.TrimSuffix(c.UseLine(), " [flags]"), " [MODEL]"), "lathe "))
	}
	for _, sub := range c.Commands() {
		list(paths, sub)
	}
}

// document writes a command and its subcommands.
func document(b *bytes.Buffer, c *cobra.Command) {
	if c.Runnable() && !c.HasParent() || c.HasParent() {
		fmt.Fprintf(b, "\n## %s\n\n%s.\n", c.CommandPath(), c.Short)
		if c.Long != "" {
			fmt.Fprintf(b, "\n%s\n", c.Long)
		}
		if !c.HasSubCommands() || !c.HasParent() {
			fmt.Fprintf(b, "\n    %s\n", strings.ReplaceAll(c.UseLine(), "[flags]", "[FLAGS]"))
		}
		if c.Example != "" {
			fmt.Fprintf(b, "\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(c.Example, "  "), "\n  ", "\n"))
		}
		if c.LocalNonPersistentFlags().HasAvailableFlags() {
			b.WriteString("\n")
			flags(b, c.LocalNonPersistentFlags())
		}
	}
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			document(b, sub)
		}
	}
}

// flags writes a table of flags.
func flags(b *bytes.Buffer, set *pflag.FlagSet) {
	b.WriteString("| flag | default | meaning |\n|---|---|---|\n")
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		preset := f.DefValue
		switch preset {
		case "", "[]", "false":
			preset = ""
		default:
			preset = "`" + preset + "`"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, preset, strings.ReplaceAll(f.Usage, "|", "\\|"))
	})
}
