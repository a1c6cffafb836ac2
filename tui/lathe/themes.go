package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/tui"
)

// themeResult is a theme in `themes --json`.
type themeResult struct {
	Name  string `json:"name"`
	About string `json:"about"`
	Kept  bool   `json:"kept"` // the explorer uses it
}

func (a *app) themesCommand() *cobra.Command {
	var background string
	var ascii bool
	c := &cobra.Command{
		Use: "themes [NAME]", Short: "List the themes of the explorer, or keep one",
		Long: "Without an argument and without flags it lists the themes and shows which one is kept. NAME and the flags change what is kept,\n" +
			"in lathe/settings.toml in the configuration folder; T in the explorer does the same.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, _, s, err := a.settings()
			change := len(args) > 0 || cmd.Flags().Changed("background") || cmd.Flags().Changed("ascii")
			if err != nil {
				return output{err}
			}
			if len(args) > 0 {
				if s.Theme = args[0]; !slices.Contains(tui.ThemeNames(), s.Theme) {
					return usage(fmt.Errorf("there is no theme %q%s", s.Theme, orNearest(s.Theme, tui.ThemeNames())))
				}
			}
			if cmd.Flags().Changed("background") {
				if s.Background, err = tui.ParseTheme(background); err != nil {
					return usage(fmt.Errorf("--background: %w", err))
				}
			}
			if cmd.Flags().Changed("ascii") {
				s.ASCII = ascii
			}
			if change {
				if err := a.keepStyle(s); err != nil {
					return output{err}
				}
			}
			s.Theme = cmp.Or(s.Theme, tui.ThemeNames()[0])
			r := struct {
				Themes     []themeResult `json:"themes"`
				Background string        `json:"background"`
				ASCII      bool          `json:"ascii"`
				File       string        `json:"file"`
			}{nil, cmp.Or(string(s.Background), "auto"), s.ASCII, path}
			rows := [][]string{{"theme", "", ""}}
			for _, name := range tui.ThemeNames() {
				t := themeResult{name, tui.AboutTheme(name), name == s.Theme}
				r.Themes = append(r.Themes, t)
				kept := ""
				if t.Kept {
					kept = "kept"
				}
				rows = append(rows, []string{t.Name, t.About, kept})
			}
			return a.result(r, func(w io.Writer) {
				table(w, rows...)
				fmt.Fprintf(w, "\nbackground %s, ASCII only: %s\n", r.Background, map[bool]string{true: "yes", false: "no"}[r.ASCII])
			})
		},
	}
	c.Flags().StringVar(&background, "background", "auto", "what to draw for: auto (as the terminal reports it), dark or light")
	choices(c.Flags(), "background", "auto", "dark", "light")
	c.Flags().BoolVar(&ascii, "ascii", false, "draw with ASCII characters only")
	return c
}
