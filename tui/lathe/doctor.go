package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer/engine"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Show what is installed on this machine, what is used, and how to get what is missing",
		Long:  "Exits with status 1 if an installed component is broken.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cache, err := a.inCache()
			if err != nil {
				return err
			}
			model, err := a.provided("models", defaultModel)
			if err != nil {
				return err
			}
			workspaces, err := a.workspaces()
			if err != nil {
				return err
			}
			checks, err := a.diagnose(cmd.Context(), a.compute, engine.Places{Cache: cache, Model: model})
			if err != nil {
				return err
			}
			broken := 0
			for _, c := range checks {
				if c.State == engine.Broken {
					broken++
				}
			}
			r := struct {
				Version    string         `json:"version"`
				Workspaces string         `json:"workspaces"`
				Checks     []engine.Check `json:"checks"`
			}{version(), workspaces, checks}
			err = a.result(r, func(w io.Writer) {
				for _, c := range checks {
					line := fmt.Sprintf("%-8s %s: %s", c.State, c.Name, c.Found)
					if c.Found == "" {
						line = fmt.Sprintf("%-8s %s", c.State, c.Name)
					}
					fmt.Fprintln(w, line)
					if c.Used != "" {
						fmt.Fprintf(w, "         for %s\n", c.Used)
					}
					if c.Get != "" {
						fmt.Fprintf(w, "         → %s\n", c.Get)
					}
				}
				fmt.Fprintf(w, "%-8s workspaces: %s\n", engine.Works, r.Workspaces)
			})
			if err == nil && broken > 0 {
				err = fmt.Errorf("%d components are broken", broken)
			}
			return err
		},
	}
}
