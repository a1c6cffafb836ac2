package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui"
)

// exploreFlags lets the root command open the terminal interface, and adds its flags.
func exploreFlags(a *app, root *cobra.Command) {
	var o tui.Options
	var color string
	var ascii bool
	flags := root.Flags()
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.ReadEnvironment(a.getenv); err != nil {
			return usage(err)
		}
		if flags.Changed("color") {
			var err error
			if o.Color, err = tui.ParseColor(color); err != nil {
				return usage(fmt.Errorf("--color: %w", err))
			}
		}
		if flags.Changed("ascii") {
			o.ASCII = ascii
		}
		return a.explore(cmd.Context(), args, o)
	}
	flags.StringVar(&color, "color", "auto", "colours to draw with: auto, none, 16, 256 or true; overrides $"+tui.ColorVariable)
	choices(flags, "color", "auto", "none", "16", "256", "true")
	flags.BoolVar(&o.Light, "light", false, "assume a light background until the terminal reports its own; $"+tui.ThemeVariable+" sets a fixed one")
	flags.BoolVar(&ascii, "ascii", false, "draw with ASCII characters only; overrides $"+tui.ASCIIVariable)
	flags.BoolVar(&o.NoMouse, "no-mouse", false, "do not capture the mouse")
	flags.StringVar(&o.Screen, "screen", "", "first screen: search, masks, reform, chat, bench or library")
	choices(flags, "screen", tui.ScreenNames()...)
	flags.StringVar(&o.KeyFile, "keys", "", "file with a key map, TOML (default: lathe/keys.toml in the user's configuration folder)")
}

// explore opens the terminal interface on a model. Without a terminal it returns an error and draws nothing.
func (a *app) explore(ctx context.Context, args []string, o tui.Options) error {
	if a.json {
		return usage(errors.New("--json needs a command, such as `lathe status --json`"))
	}
	if !isTerminal(a.stdin) || !isTerminal(a.stdout) {
		return usage(errors.New("the explorer needs a terminal; in a pipe use a command, such as `lathe status` or `lathe --help`"))
	}
	if a.dumb() {
		return usage(fmt.Errorf("the explorer cannot be shown on this terminal: TERM is %q; use a command, such as `lathe status` or `lathe --help`", a.getenv("TERM")))
	}
	model, err := a.modelArg(args)
	if err != nil {
		return err
	}
	if o.KeyFile == "" {
		o.KeyFile = a.keyFile()
	}
	o.Actor, o.Files = a.actor(), true
	workspaces, err := a.workspaces()
	if err != nil && a.workspace == "" {
		return err
	}
	_, err = os.Stat(workspaces)
	o.Tour = errors.Is(err, os.ErrNotExist) && a.workspace == ""
	e, err := a.openExploration(ctx, model, orReadOnly)
	if err != nil {
		return err
	}
	controlled, cancel := context.WithCancel(ctx) // quitting does not wait for the commands of others
	defer cancel()
	stop := a.serveControl(controlled, e)
	a.gatherInBackground(ctx, e)
	if err := e.ResumeSearch(ctx); err != nil {
		stop()
		return errors.Join(err, e.Close())
	}
	err = a.open(ctx, a, e, o)
	cancel()
	stop()
	return errors.Join(err, e.Close())
}

// keyFile returns the path of the user's key map, "" if there is none.
func (a *app) keyFile() string {
	dir, err := a.base("XDG_CONFIG_HOME", ".config")
	if err != nil {
		return ""
	}
	path := filepath.Join(dir, "lathe", "keys.toml")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// gatherInBackground starts gathering the statistics that estimates need, from the workspace or from the default text. Jobs
// that people start have priority.
func (a *app) gatherInBackground(ctx context.Context, e exploration) {
	if e.Snapshot().Workspace.ReadOnly || a.calibrationText() == "" {
		return
	}
	// An error here must not keep the explorer from opening; a later failure is a message on the screen.
	_, _ = e.Do(ctx, explorer.Actor{Role: explorer.RoleEditor}, explorer.GatherStatistics{})
}

// openInterface runs the terminal interface of this process.
func openInterface(ctx context.Context, _ *app, e *explorer.Exploration, o tui.Options) error {
	err := tui.Run(ctx, e, o)
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("terminal interface: %w", err)
	}
	return nil
}
