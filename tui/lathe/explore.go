package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui"
)

// exploreFlags lets the root command open the terminal interface, and adds its flags.
func exploreFlags(a *app, root *cobra.Command) {
	var o tui.Options
	var color, style string
	var ascii bool
	flags := root.Flags()
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.keptStyle(&o); err != nil {
			o.Warnings = append(o.Warnings, err.Error())
		}
		if err := o.ReadEnvironment(a.getenv); err != nil {
			return usage(err)
		}
		if flags.Changed("theme") {
			s, err := tui.ParseStyle(style)
			if err != nil {
				return usage(fmt.Errorf("--theme: %w", err))
			}
			if s.Theme != "" {
				o.Colours = s.Theme
			}
			if s.Background != tui.ThemeAuto {
				o.Theme = s.Background
			}
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
	flags.StringVar(&style, "theme", "", "theme: "+strings.Join(tui.ThemeNames(), ", ")+"; dark or light for the background, or both, as in ocean,light; `lathe themes` keeps one; overrides $"+tui.ThemeVariable)
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
	o.Folder, _ = os.Getwd() // "" where it is gone
	workspaces, err := a.workspaces()
	if err != nil && a.workspace == "" {
		return err
	}
	_, err = os.Stat(workspaces)
	o.Tour = errors.Is(err, os.ErrNotExist) && a.workspace == ""
	return a.exploreFrom(ctx, tui.Opening{Model: model, Workspace: a.workspace}, o)
}

// exploreFrom opens a model, and then those that the user opens from inside, until the user quits.
func (a *app) exploreFrom(ctx context.Context, now tui.Opening, o tui.Options) error {
	o.KeepStyle, o.Opener = a.keepStyle, others{a}
	for before := (*tui.Opening)(nil); ; {
		a.workspace = now.Workspace
		err := a.exploreOne(ctx, now.Model, o)
		next := (*tui.Opening)(nil)
		switch {
		case errors.As(err, &next):
			o.Screen, o.Tour, o.Warnings = "", false, nil
			was := now
			now, before = *next, &was
		case err != nil && before != nil && ctx.Err() == nil: // it cannot be opened after all: back to the one before
			o.Warnings = []string{now.Model + ": " + firstLine(err)}
			now, before = *before, nil
		default:
			return err
		}
	}
}

// exploreOne opens one model and shows it until the user quits, or opens another one: then its error is a *[tui.Opening].
func (a *app) exploreOne(ctx context.Context, model string, o tui.Options) error {
	e, err := a.openExploration(ctx, model, orReadOnly)
	if err != nil {
		return err
	}
	if w := e.Snapshot().Workspace; w.Path != "" {
		if o.Screen == "" && !o.Tour {
			o.Screen = lastScreen(w.Path)
		}
		if !w.ReadOnly {
			o.Left = func(screen string) { keepScreen(w.Path, screen) }
		}
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

// keptStyle sets the look that the settings choose.
func (a *app) keptStyle(o *tui.Options) error {
	path, _, s, err := a.settings()
	if path == "" { // there is no folder to keep settings in
		return nil
	}
	if err == nil {
		o.Colours, o.Theme, o.ASCII = s.Theme, s.Background, s.ASCII
	}
	return err
}

// others opens other models for the explorer.
type others struct{ a *app }

// Check implements [tui.Opener].
func (p others) Check(ctx context.Context, o tui.Opening) error {
	model, err := p.a.local(ctx, o.Model)
	if err != nil {
		return err
	}
	if info, err := os.Stat(o.Workspace); o.Workspace != "" && err == nil && !info.IsDir() {
		return fmt.Errorf("%s is no folder", o.Workspace)
	}
	backend, err := p.a.backend(p.a.compute)
	if err != nil {
		return err
	}
	m, err := backend.Open(ctx, model)
	if err != nil {
		return err
	}
	return m.Close()
}

// mostModels bounds the list of model files.
const mostModels = 200

// Models implements [tui.Opener]: the files in the cache and in the present folder.
func (p others) Models(context.Context) []string {
	var out []string
	cache, err := p.a.inCache("models")
	for _, dir := range []string{cache, "."} {
		if dir == cache && err != nil {
			continue
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.gguf"))
		if err == nil {
			out = append(out, files...)
		}
	}
	slices.Sort(out)
	return out[:min(len(out), mostModels)]
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
