// Package screen is the contract between the frame of the interface and its screens.
//
// A [Screen] lays out panes, takes keys through its actions, and reaches everything else through a [Host], which the frame
// implements: the snapshot, commands, overlays, messages and other screens. No screen knows another one: it sends a
// [Request], which the screen in charge answers.
//
// All methods run on the goroutine of the event loop and never block.
package screen

import (
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/action"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// ClockEvery is the pace of spinners and running times.
const ClockEvery = 250 * time.Millisecond

// A Screen is one of the tabs of the interface.
type Screen interface {
	// Name is the scope of its actions: "masks".
	Name() string
	// Title is the name of its tab: "Masks".
	Title() string
	// Actions returns the table of actions on the screen, in the order of the footer and of the help. The frame
	// sets their scope.
	Actions() []*action.Action
	// Panes lays the screen out in an area. Panes lie inside the area and do not overlap.
	Panes(area layout.Rect) []Pane
	// Follow adjusts the state of the screen, such as cursors, to a new snapshot.
	Follow()
	// Status returns the right end of the footer: a few live numbers, or "".
	Status() string
	// Mouse handles a mouse event inside one of the panes.
	Mouse(p Pane, e MouseEvent) tea.Cmd
	// Back handles esc and reports whether it had an effect.
	Back() (bool, tea.Cmd)
}

// Optional interfaces of screens.
type (
	// A TextInput is a screen with a text field of its own.
	TextInput interface {
		// Typing reports whether the field has the keys.
		Typing() bool
		// Typed handles a key that is not bound to an action.
		Typed(k tea.KeyPressMsg) tea.Cmd
		// Pasted handles pasted text.
		Pasted(s string) (lost int)
		// Cursor returns the position of the cursor on the screen; ok is false where it is hidden.
		Cursor(area layout.Rect) (x, y int, ok bool)
	}
	// A Hinter is a screen that has its own hints at times.
	Hinter interface {
		// Hints returns nil when the footer shows the actions of the screen.
		Hints() []Hint
	}
	// An Undoer is a screen with an undo of its own. On other screens undo and redo apply to the draft.
	Undoer interface {
		// UndoLabel is the footer's word for undo, RedoLabel for redo.
		UndoLabel() string
		RedoLabel() string
		// CannotUndo returns why there is nothing to undo, or "".
		CannotUndo() string
		Undo() tea.Cmd
		// CannotRedo returns why there is nothing that redo does again after an undo of this screen, or "".
		CannotRedo() string
		Redo() tea.Cmd
	}
	// An Answerer answers requests of other screens.
	Answerer interface {
		// Answer executes a request; ok is false where it is for another screen.
		Answer(r Request) (cmd tea.Cmd, ok bool)
	}
	// A Selector is a screen with a selection of subnets.
	Selector interface {
		// Selection returns the selected subnets in the order shown.
		Selection() []explorer.SubnetID
	}
	// A Finder is a screen with rows that a text finds.
	Finder interface {
		// Find narrows the rows to those that contain the text or, where all rows stay, goes to the first of them; "" shows all.
		Find(text string)
		// Found returns the present text, how many rows contain it, and how many there are.
		Found() (text string, n, of int)
		// Next moves to the next row that contains the text or, for by of -1, to the previous one.
		Next(by int)
	}
	// An Announcer reports jobs of its kind that ended well.
	Announcer interface {
		// Announce returns a message about a finished job; "" if there is nothing to report or it is not of its kind.
		Announce(j explorer.Job) string
	}
)

// A Request asks another screen for an action.
type Request interface{ request() }

// The requests.
type (
	// ChatWith goes to a chat of the dense model beside a subnet.
	ChatWith struct{ Subnet explorer.SubnetID }
	// EditMasks goes to the editor with a subnet's masks.
	EditMasks struct{ Subnet explorer.SubnetID }
	// Refit asks how to re-fit the weights of a subnet.
	Refit struct{ Subnet explorer.SubnetID }
	// OneShot asks how to cut the dense model in one step, without a search.
	OneShot struct{}
	// Benchmark asks how to benchmark subnets against the dense model.
	Benchmark struct{ Subnets []explorer.SubnetID }
	// ShowCandidate goes to a candidate of the search.
	ShowCandidate struct{ ID int }
	// ShowSubnet goes to a subnet of the library.
	ShowSubnet struct{ Subnet explorer.SubnetID }
	// ShowChat goes to a chat.
	ShowChat struct{ Chat explorer.ChatID }
	// ShowLayer goes to a layer of the draft.
	ShowLayer struct{ Layer int }
	// Made moves the cursor of a list of subnets to a new one, unless the list is on the screen.
	Made struct{ Subnet explorer.SubnetID }
)

func (ChatWith) request()      {}
func (EditMasks) request()     {}
func (Refit) request()         {}
func (OneShot) request()       {}
func (Benchmark) request()     {}
func (ShowCandidate) request() {}
func (ShowSubnet) request()    {}
func (ShowChat) request()      {}
func (ShowLayer) request()     {}
func (Made) request()          {}

// A Host is the frame, as screens and overlays see it.
type Host interface {
	// Snapshot returns the state of the exploration that is shown; never nil.
	Snapshot() *explorer.Snapshot
	// Theme is the look of the viewer's terminal.
	Theme() *theme.Theme
	// Body is the area that the active screen is drawn in.
	Body() layout.Rect
	Now() time.Time
	// Active is the name of the screen that is shown.
	Active() string
	// WritesFiles reports whether files may be written on the machine the program runs on, other than through the exploration.
	WritesFiles() bool
	// Folder is the current one of the program, "" where it is unknown.
	Folder() string

	// Do sends a command to the exploration; then, which may be nil, runs on success. An error becomes a message.
	Do(c explorer.Command, then func(explorer.Receipt) tea.Cmd) tea.Cmd
	// Try is Do with a function for errors, which reports whether it handled the error; otherwise the error becomes a message.
	Try(c explorer.Command, then func(explorer.Receipt) tea.Cmd, failed func(error) bool) tea.Cmd
	// AfterJob runs a function when a job has succeeded; it is dropped when the job fails or is stopped.
	AfterJob(id explorer.JobID, then func(explorer.Job) tea.Cmd) tea.Cmd
	// EditDraft queues a command on the draft: an Edit, Undo, Redo or Checkout.
	EditDraft(c explorer.Command) tea.Cmd
	// DraftMasks returns the masks as they will be once all queued edits have arrived, whether that is ahead of the snapshot,
	// and a number that grows with every change of the queue.
	DraftMasks() (masks subnet.Masks, ahead bool, revision int)

	// Key is the key of an action as it is shown, together with its twin's; "" where it has none.
	Key(id string) string
	// Hint is an action as the footer shows it.
	Hint(id string) Hint
	// Blocked returns why an action cannot run now, or "".
	Blocked(id string) string
	// Perform runs an action, or notes why it cannot run.
	Perform(id string) tea.Cmd

	// Show goes to a screen by its name.
	Show(name string) tea.Cmd
	// Ask sends a request to the screen that answers it.
	Ask(r Request) tea.Cmd
	// Selection returns the subnets that are selected on the screen with a selection.
	Selection() []explorer.SubnetID
	// Open puts an overlay on top; Close removes one, and everything above it.
	Open(o Overlay) tea.Cmd
	Close(o Overlay)
	// Shows reports whether an overlay is open.
	Shows(o Overlay) bool
	// Note shows a message until it is dismissed. Of informational messages only the newest stays.
	Note(level explorer.MessageLevel, s string)
	// Fail shows an error.
	Fail(err error)
	// Copy sends text to the terminal's clipboard; what names it in messages.
	Copy(s, what string) tea.Cmd
}

// A Pane is a rectangle of a screen that is drawn and cached on its own.
type Pane struct {
	ID   string // unique among all screens
	Rect layout.Rect
	Rev  uint64 // newest revision of the sections of the snapshot it shows
	// State is everything else that the drawing depends on: cursor, scroll position, focus. It must be comparable.
	State any
	// Draw returns the rows of the pane; it must depend on nothing but Rev, State, theme and size.
	Draw func(t *theme.Theme, w, h int) []string
}

// A Hint is a key with the name of its action, for the footer.
type Hint struct {
	Key, Label string
	Action     string // its ID; "" where a text field or an overlay handles the key
}

// An Overlay is a box over the screen that has the keys while it is on top. esc closes it before it sees the key.
type Overlay interface {
	// Place returns the rectangle of the box within the body.
	Place(host Host, body layout.Rect) layout.Rect
	// Draw draws the box, border included, on w × h cells.
	Draw(host Host, w, h int) []string
	Key(host Host, k tea.KeyPressMsg) tea.Cmd
	// Paste inserts pasted text and returns how many characters there is no room for.
	Paste(s string) (lost int)
	Mouse(host Host, e MouseEvent) tea.Cmd
	// Typing reports whether printable keys go into a text field.
	Typing() bool
	// Cursor returns the position of the text cursor, relative to the corner of the box.
	Cursor(w, h int) (x, y int, ok bool)
	Hints(host Host) []Hint
}

// NoText is the part of an overlay without a text field.
type NoText struct{}

// Paste drops the text.
func (NoText) Paste(string) int { return 0 }

// Typing reports false.
func (NoText) Typing() bool { return false }

// Cursor reports that there is none.
func (NoText) Cursor(int, int) (int, int, bool) { return 0, 0, false }

// Mouse drops the event.
func (NoText) Mouse(Host, MouseEvent) tea.Cmd { return nil }

// A MouseEvent is a mouse message in the coordinates of the pane or overlay it happened in.
type MouseEvent struct {
	Kind  MouseKind
	X, Y  int
	Delta int // of a wheel: -1 up, 1 down
	Shift bool
}

// A MouseKind is a kind of mouse event.
type MouseKind int

// The kinds of mouse events.
const (
	Click MouseKind = iota
	Drag
	Release
	Wheel
)
