package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) manCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "man [COMMAND]", Short: "Write the manual page of a command, or all pages into a folder",
		Long:    "Pages are in the format of man(7). Without COMMAND it is the page of lathe itself.",
		Example: "  lathe man subnets export | man -l -\n  lathe man -o ~/.local/share/man/man1",
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := commandAt(cmd.Root(), args)
			if err != nil {
				return err
			}
			if dir == "" {
				_, err := a.stdout.Write(manPage(at))
				return err
			}
			if len(args) > 0 {
				return usage(fmt.Errorf("-o writes the pages of all commands: unexpected argument %q", args[0]))
			}
			return writeManPages(cmd.Root(), dir)
		},
	}
	cmd.Flags().StringVarP(&dir, "output", "o", "", "folder to write all pages into")
	return cmd
}

// commandAt returns the command that words name.
func commandAt(root *cobra.Command, words []string) (*cobra.Command, error) {
	at := root
	for _, word := range words {
		i := slices.IndexFunc(at.Commands(), func(c *cobra.Command) bool { return c.Name() == word || c.HasAlias(word) })
		if i < 0 {
			if len(subcommands(at)) == 0 {
				return nil, usage(fmt.Errorf("%s has no command %q", at.CommandPath(), word))
			}
			return nil, usage(fmt.Errorf("unknown command %q for %s%s", word, at.CommandPath(), orNearest(word, subcommands(at))))
		}
		at = at.Commands()[i]
	}
	return at, nil
}

// writeManPages writes the pages of a command and its subcommands into a folder.
func writeManPages(c *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return output{err}
	}
	if err := os.WriteFile(filepath.Join(dir, manName(c)+".1"), manPage(c), 0o644); err != nil {
		return output{err}
	}
	for _, sub := range documented(c) {
		if err := writeManPages(sub, dir); err != nil {
			return err
		}
	}
	return nil
}

// documented returns the subcommands that documentation lists.
func documented(c *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(c.Commands()), func(sub *cobra.Command) bool { return sub.Hidden || sub.Name() == "help" })
}

// manName is the name of a command's page: lathe-subnets-export.
func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage returns a command's page.
func manPage(c *cobra.Command) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"lathe %s\" \"lathe manual\"\n.ad l\n", strings.ToUpper(roff(manName(c))), release)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(manName(c)), roff(c.Short))
	if c.Runnable() || !c.HasParent() {
		fmt.Fprintf(&b, ".SH SYNOPSIS\n.nf\n%s\n.fi\n", roff(c.UseLine()))
	}
	b.WriteString(".SH DESCRIPTION\n")
	if c.Long == "" {
		fmt.Fprintf(&b, "%s.\n", roff(c.Short))
	}
	manText(&b, c.Long)
	if subs := documented(c); len(subs) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range subs {
			fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s\n", roff(manName(sub)), roff(sub.Short))
		}
	}
	manFlags(&b, "OPTIONS", c.LocalNonPersistentFlags())
	if !c.HasParent() {
		manFlags(&b, "OPTIONS OF ALL COMMANDS", c.PersistentFlags())
	}
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(strings.TrimPrefix(strings.ReplaceAll(c.Example, "\n  ", "\n"), "  ")))
	}
	b.WriteString(".SH EXIT STATUS\n")
	for _, s := range exitStatuses {
		fmt.Fprintf(&b, ".TP\n%d\n%s\n", s.status, roff(s.meaning))
	}
	if !c.HasParent() {
		b.WriteString(".SH ENVIRONMENT\n")
		for _, v := range variables {
			fmt.Fprintf(&b, ".TP\n%s\n%s\n", roff(v.names), roff(v.meaning))
		}
		return b.Bytes()
	}
	fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)", roff(manName(c.Parent())))
	if c.Parent().HasParent() {
		b.WriteString(",\n.BR lathe (1)")
	}
	b.WriteString("\n")
	return b.Bytes()
}

// manText writes paragraphs. Lines that are indented keep their form.
func manText(w io.Writer, text string) {
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			fmt.Fprintln(w, ".PP")
		}
		literal := false
		for _, line := range strings.Split(paragraph, "\n") {
			if indented := strings.HasPrefix(line, " "); indented != literal {
				literal = indented
				fmt.Fprintln(w, map[bool]string{true: ".nf", false: ".fi"}[literal])
			}
			fmt.Fprintln(w, roff(line))
		}
		if literal {
			fmt.Fprintln(w, ".fi")
		}
	}
}

// manFlags writes a section of flags.
func manFlags(w io.Writer, title string, set *pflag.FlagSet) {
	if !set.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(w, ".SH %s\n", title)
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if kind, _ := pflag.UnquoteUsage(f); kind != "" && f.NoOptDefVal == "" {
			name += " " + strings.ToUpper(kind)
		}
		meaning := f.Usage
		switch f.DefValue {
		case "", "[]", "false", "0":
		default:
			if !strings.Contains(meaning, "(default") {
				meaning += " (default " + strings.Trim(f.DefValue, "[]") + ")"
			}
		}
		fmt.Fprintf(w, ".TP\n%s\n%s\n", roff(name), roff(meaning))
	})
}

// roff escapes a text: backslashes, hyphens that people type, and lines that would be requests.
func roff(text string) string {
	text = strings.ReplaceAll(text, `\`, `\e`)
	text = strings.ReplaceAll(text, "-", `\-`)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
