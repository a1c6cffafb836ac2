// Package tui is lathe's terminal interface: six screens over one exploration, driven by keys, mouse and a palette of
// named actions.
//
// A [Model] is one viewer of an [Exploration]. It reads immutable snapshots, draws them, and hands commands back; it owns
// nothing that others share, so any number of models may look at the same exploration, each with its own size, colours,
// cursor and keys.
//
// This package is the frame: the event loop, head and foot line, messages, help and palette. The rest lies below:
//
//	internal/screens   a package per screen: search, masks, reform, chat, bench, library
//	internal/screen    the contract between the frame and the screens
//	internal/action    the table of actions that keys, footer, help, palette, key map and docs/keys.md are read from
//	internal/draft     the queue of edits that are on the screen before the exploration has carried them out
//	internal/widget    lists, tables, text fields, forms, pickers, pagers
//	internal/subnets   what the screens share about subnets
//	internal/chart     charts in braille
//	internal/layout    rectangles
//	internal/paint     rows and boxes
//	internal/text      safe text and numbers
//	internal/theme     colours and glyphs
//
// The frame knows no screen by name, and no screen knows another one.
//
// Update never blocks: commands go to the exploration from goroutines of the event loop and their outcome comes back as a
// message. Drawing is split into panes, each cached by the revision of what it shows, its size, the look of the terminal
// and the state of its cursor, so that a frame costs what changed in it and a quiet program costs nothing.
//
// Errors of commands become messages on the screen that stay until they are read. [Run] itself fails only when the
// terminal does.
package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/lathe-llm/lathe/explorer"
)

// Exploration is what a viewer needs of an explorer.Exploration.
type Exploration interface {
	// Snapshot is the newest state, never nil.
	Snapshot() *explorer.Snapshot
	// Wait returns when there is a snapshot newer than revision, or with ctx's error.
	Wait(ctx context.Context, revision uint64) error
	// Do executes a command and returns as soon as it has taken effect.
	Do(ctx context.Context, a explorer.Actor, c explorer.Command) (explorer.Receipt, error)
}

var _ Exploration = (*explorer.Exploration)(nil)

// Color is how many colours to use; the zero value asks the terminal.
type Color string

// The colour settings.
const (
	ColorAuto Color = ""
	ColorNone Color = "none" // attributes only
	Color16   Color = "16"   // the terminal's own sixteen
	Color256  Color = "256"
	ColorTrue Color = "true"
)

// Options configure a viewer. The zero value is an owner on the process's own terminal.
type Options struct {
	Actor explorer.Actor // who gives the commands; without a name, the owner

	Input   io.Reader // nil: the process's terminal
	Output  io.Writer // nil: standard output
	Environ []string  // environment of the viewer's terminal; nil: the process's

	Color   Color
	Theme   Theme
	Colours string // name of the theme; "" is the default one
	Light   bool   // with ThemeAuto: assume a light background until the terminal reports its own
	ASCII   bool   // draw with ASCII only
	NoMouse bool   // start with the mouse released
	KeyFile string // TOML key map; "" for none
	Keys    string // content of such a file, which overrides KeyFile; "" for none
	Tour    bool   // show the first-run tour
	Screen  string // screen to start on: "search", "masks", "reform", "chat", "bench", "library"
	// Warnings are messages to show when the viewer opens.
	Warnings []string

	// KeepStyle keeps the look that a person has chosen; nil keeps nothing. It may take long.
	KeepStyle func(Style) error
	// Left is called with the name of the screen that was shown last, when the program ends; it may be nil.
	Left func(screen string)
	// Opener opens other models; nil opens none.
	Opener Opener

	// Hosted means that the exploration outlives this viewer, as on a server: quitting stops nothing.
	Hosted bool
	// Files allows actions that write files on the machine the program runs on, other than through the exploration.
	Files bool
	// Folder is the program's current one, which names of files without a folder are in; "" where it is unknown.
	Folder string
	// Panes is a store of drawn panes shared by the viewers of one exploration; nil: the viewer has its own.
	Panes *Panes
	// Pace is the least time between two looks at a changing exploration; nil: 80 ms. It is asked before each look, so a
	// server can slow its sessions down under load.
	Pace func() time.Duration
	Now  func() time.Time // nil: time.Now
}

// Run shows the exploration until the user quits or ctx ends. Its error is an *[Opening] when the user has opened another model.
func Run(ctx context.Context, ex Exploration, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := New(ctx, ex, o)
	p := tea.NewProgram(m, ProgramOptions(ctx, o)...)
	_, err := p.Run()
	if o.Left != nil {
		o.Left(m.active().Name())
	}
	if errors.Is(err, tea.ErrInterrupted) || ctx.Err() != nil && errors.Is(err, tea.ErrProgramKilled) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	if m.next != nil {
		return m.next
	}
	return context.Cause(ctx)
}

// ProgramOptions are the bubbletea options that Run uses, for hosts that make the program themselves.
func ProgramOptions(ctx context.Context, o Options) []tea.ProgramOption {
	opts := []tea.ProgramOption{tea.WithContext(ctx), tea.WithFPS(30)}
	if o.Input != nil {
		opts = append(opts, tea.WithInput(o.Input))
	}
	if o.Output != nil {
		opts = append(opts, tea.WithOutput(o.Output))
	}
	if o.Environ != nil {
		opts = append(opts, tea.WithEnvironment(o.Environ))
	}
	if p, ok := o.Color.profile(); ok {
		opts = append(opts, tea.WithColorProfile(p))
	}
	return opts
}

// profile is the profile that the setting asks for; ok is false where the terminal decides.
func (c Color) profile() (p colorprofile.Profile, ok bool) {
	switch c {
	case ColorNone:
		return colorprofile.ASCII, true
	case Color16:
		return colorprofile.ANSI, true
	case Color256:
		return colorprofile.ANSI256, true
	case ColorTrue:
		return colorprofile.TrueColor, true
	default: // nothing for the others
	}
	return colorprofile.ANSI256, false
}
