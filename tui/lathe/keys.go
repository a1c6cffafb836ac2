package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/tui"
)

// keyResult is an action of the explorer in `keys --json`.
type keyResult struct {
	ID      string   `json:"id"`
	Screen  string   `json:"screen"`
	Keys    []string `json:"keys"`
	Title   string   `json:"title"`
	Command string   `json:"command,omitempty"` // that does the same
	Local   string   `json:"local,omitempty"`   // what an action without a command concerns
}

func (a *app) keysCommand() *cobra.Command {
	return &cobra.Command{
		Use: "keys", Short: "List the explorer's keys, and the commands that do the same", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			r := struct {
				Actions []keyResult `json:"actions"`
			}{}
			rows := [][]string{{"screen", "keys", "action", "command"}}
			for _, one := range tui.Actions() {
				keys := append([]string{}, one.Keys...)
				r.Actions = append(r.Actions, keyResult{one.ID, one.Scope, keys, one.Title, one.Command, one.Local})
				command := one.Command
				if command != "" {
					command = "lathe " + command
				}
				rows = append(rows, []string{one.Scope, strings.Join(keys, " "), one.Title, command})
			}
			return a.result(r, func(w io.Writer) {
				table(w, rows...)
				fmt.Fprintln(w, "\nA key map in lathe/keys.toml in the configuration folder changes the keys of the explorer.")
			})
		},
	}
}
