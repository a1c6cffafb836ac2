// Package screen is the contract between the frame of the interface and its screens.
//
// A [Screen] lays out panes, takes keys through its actions, and reaches everything else through a [Host], which the frame
// implements: the snapshot, commands, overlays, messages and other screens. No screen knows another one: what it wants
// of one is a [Request], answered by whichever screen can.
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
	// Title is what its tab shows: "Masks".
	Title() string
	// Actions returns the table of what can be done on the screen, in the order of the footer and of the help. The frame
	// sets their scope.
	Actions() []*action.Action
	// Panes lays the screen out in an area. Panes lie inside the area and do not overlap.
	Panes(area layout.Rect) []Pane
	// Follow adjusts cursors and the like to a new snapshot.
	Follow()
	// Status is the right end of the footer: a few live numbers, or "".
	Status() string
	// Mouse takes a mouse event inside one of the panes.
	Mouse(p Pane, e MouseEvent) tea.Cmd
	// Back does what esc means on the screen and reports whether it meant anything.
	Back() (bool, tea.Cmd)
}

// What a screen may do besides.
type (
	// A TextInput is a screen with a text field of its own.
	TextInput interface {
		// Typing reports whether the field has the keys.
		Typing() bool
		// Typed takes a key that no action claimed.
		Typed(k tea.KeyPressMsg) tea.Cmd
		// Pasted takes pasted text.
		Pasted(s string)
		// Cursor is where the cursor is, on the screen; ok is false where it is not shown.
		Cursor(area layout.Rect) (x, y int, ok bool)
	}
	// A Hinter is a screen that has its own hints at times.
	Hinter interface {
		// Hints returns nil when the footer shows the actions of the screen.
		Hints() []Hint
	}
	// An Undoer is a screen on which undo means something else than on the draft, or shows in the footer.
	Undoer interface {
		// UndoLabel is the footer's word for it.
		UndoLabel() string
		// CannotUndo returns why there is nothing to undo, or "".
		CannotUndo() string
		Undo() tea.Cmd
	}
	// An Answerer answers requests of other screens.
	Answerer interface {
		// Answer carries a request out; ok is false where another screen must.
		Answer(r Request) (cmd tea.Cmd, ok bool)
	}
	// A Selector is a screen that subnets are selected on.
	Selector interface {
		// Selection returns the selected subnets in the order shown.
		Selection() []explorer.SubnetID
	}
	// An Announcer reports jobs of its kind that ended well.
	Announcer interface {
		// Announce returns a message about a finished job; "" if there is nothing to report or it is not of its kind.
		Announce(j explorer.Job) string
	}
)

// A Request is something that one screen wants of another.
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
	// Made moves the cursor of a list of subnets to a new one, unless the list is on the screen.
	Made struct{ Subnet explorer.SubnetID }
)

func (ChatWith) request()      {}
func (EditMasks) request()     {}
func (Refit) request()         {}
func (OneShot) request()       {}
func (Benchmark) request()     {}
func (ShowCandidate) request() {}
func (Made) request()          {}

// A Host is the frame, as screens and overlays see it.
type Host interface {
	// Snapshot is the newest state of the exploration that the viewer has; never nil.
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

	// Do hands a command to the exploration; then, which may be nil, runs on success. An error becomes a message.
	Do(c explorer.Command, then func(explorer.Receipt) tea.Cmd) tea.Cmd
	// Try is Do with something to run when the command fails. failed reports whether it dealt with the error; otherwise the
	// error becomes a message.
	Try(c explorer.Command, then func(explorer.Receipt) tea.Cmd, failed func(error) bool) tea.Cmd
	// AfterJob runs something once a job has ended well; it is dropped when the job fails or is stopped.
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
	// Ask has a request answered by the screen that can.
	Ask(r Request) tea.Cmd
	// Selection returns the subnets that are selected, wherever that is.
	Selection() []explorer.SubnetID
	// Open puts an overlay on top; Close removes one, and everything above it.
	Open(o Overlay) tea.Cmd
	Close(o Overlay)
	// Note shows a message until it is read. Of mere information only the newest stays.
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
	// State is whatever else the drawing depends on: cursor, scroll position, focus. It must be comparable.
	State any
	// Draw returns the rows of the pane; it must depend on nothing but Rev, State, theme and size.
	Draw func(t *theme.Theme, w, h int) []string
}

// A Hint is a key and what it does, for the footer.
type Hint struct {
	Key, Label string
	Action     string // its ID; "" where a text field or an overlay takes the key itself
}

// An Overlay is a box over the screen that has the keys while it is on top. esc closes it before it sees the key.
type Overlay interface {
	// Place is the box within the body.
	Place(host Host, body layout.Rect) layout.Rect
	// Draw draws the box, border included, on w × h cells.
	Draw(host Host, w, h int) []string
	Key(host Host, k tea.KeyPressMsg) tea.Cmd
	Paste(s string)
	Mouse(host Host, e MouseEvent) tea.Cmd
	// Typing reports whether printable keys go into a text field.
	Typing() bool
	// Cursor is where the cursor of the field is, from the corner of the box.
	Cursor(w, h int) (x, y int, ok bool)
	Hints(host Host) []Hint
}

// NoText is the part of an overlay without a text field.
type NoText struct{}

// Paste drops the text.
func (NoText) Paste(string) {}

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

// A MouseKind is what the mouse did.
type MouseKind int

// The kinds of mouse events.
const (
	Click MouseKind = iota
	Drag
	Release
	Wheel
)
