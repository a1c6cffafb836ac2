package tui

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/action"
	"github.com/lathe-llm/lathe/tui/internal/draft"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// Model is one viewer of an exploration. It implements tea.Model; all of it belongs to the goroutine of the event loop.
type Model struct {
	ctx   context.Context
	ex    Exploration
	actor explorer.Actor
	opts  Options
	now   func() time.Time

	snap  *explorer.Snapshot
	theme *theme.Theme
	panes *Panes
	// toASCII is applied to frames for terminals that show nothing else.
	toASCII *strings.Replacer
	w, h    int

	actions []*action.Action
	keys    *action.Keymap

	screens  []screen.Screen
	at       int              // index of the screen that is shown
	overlays []screen.Overlay // the last one has the keys
	draft    draft.Queue      // of this viewer's edits

	notes    []note                                        // messages of this viewer that are on the screen
	noted    []note                                        // the last messages of this viewer, for the list of messages
	readUpTo uint64                                        // the exploration's messages up to this one were read
	after    map[explorer.JobID]func(explorer.Job) tea.Cmd // runs when jobs end
	mouseOff bool
	reported bool     // the terminal reports a light background
	models   []string // that the palette offers to open
	next     *Opening // what to open when the program has ended; nil for nothing
	clock    bool     // a clock message is under way
	fades    bool     // a message that a note has faded is under way

	dirty bool // something changed since frame was drawn
	frame tea.View
}

// mostProblems is how many problems of a key map are shown.
const mostProblems = 5

// New returns a viewer of an exploration. ctx bounds the commands it gives and its waiting for snapshots: end it when the
// program that runs the model has ended.
func New(ctx context.Context, ex Exploration, o Options) *Model {
	if o.Actor.Name == "" {
		o.Actor = explorer.Actor{Name: userName(), Role: explorer.RoleOwner}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Panes == nil {
		o.Panes = NewPanes()
	}
	if o.Pace == nil {
		o.Pace = func() time.Duration { return 80 * time.Millisecond }
	}
	m := &Model{ctx: ctx, ex: ex, actor: o.Actor, opts: o, now: o.Now, panes: o.Panes, toASCII: newASCII(), after: map[explorer.JobID]func(explorer.Job) tea.Cmd{}, snap: ex.Snapshot(), mouseOff: o.NoMouse, dirty: true}
	profile, _ := o.Color.profile()
	m.theme = theme.New(theme.Look{Profile: profile, Light: o.Theme == ThemeLight || o.Theme == ThemeAuto && o.Light, ASCII: o.ASCII, Name: o.Colours})
	m.reported = o.Light
	m.screens = newScreens(host{m})
	m.actions = m.table()
	var problems []string
	if o.Keys != "" {
		m.keys, problems = action.Parse(m.actions, []byte(o.Keys))
	} else {
		m.keys, problems = action.Load(m.actions, o.KeyFile)
	}
	if more := len(problems) - mostProblems; more > 0 {
		problems = append(problems[:mostProblems:mostProblems], fmt.Sprintf("key map: %d more problems", more))
	}
	for _, p := range append(problems, o.Warnings...) {
		m.note(explorer.Warning, p)
	}
	m.at = m.screenNamed(o.Screen)
	if o.Tour {
		m.open(tour{m})
	}
	return m
}

func userName() string {
	for _, key := range []string{"USER", "LOGNAME", "USERNAME"} {
		if name := os.Getenv(key); name != "" {
			return name
		}
	}
	return "you"
}

// Messages of the event loop.
type (
	changedMsg struct{} // the exploration has a newer snapshot
	clockMsg   struct{} // time passed while something runs
	doneMsg    struct { // the outcome of a command
		receipt explorer.Receipt
		err     error
		then    func(explorer.Receipt) tea.Cmd
		failed  func(error) bool
	}
)

// Init starts watching the exploration and asks the terminal for its background.
func (m *Model) Init() tea.Cmd {
	return tea.Batch(tea.RequestBackgroundColor, m.watch(0), m.try(explorer.Attach{Where: m.active().Name()}, nil, nil))
}

// watch waits for a newer snapshot, at least for a time of rest.
func (m *Model) watch(rest time.Duration) tea.Cmd {
	ctx, ex, revision := m.ctx, m.ex, m.snap.Revision
	return func() tea.Msg {
		if rest > 0 {
			t := time.NewTimer(rest)
			defer t.Stop()
			select {
			case <-t.C:
			case <-ctx.Done():
				return nil
			}
		}
		if ex.Wait(ctx, revision) != nil {
			return nil
		}
		return changedMsg{}
	}
}

// tick keeps the clock going while something runs.
func (m *Model) tick() tea.Cmd {
	if m.clock || !m.busy() {
		return nil
	}
	m.clock = true
	return tea.Tick(screen.ClockEvery, func(time.Time) tea.Msg { return clockMsg{} })
}

// busy reports whether something on the screen changes with time alone.
func (m *Model) busy() bool {
	for _, j := range m.snap.Jobs {
		if j.State == explorer.Running {
			return true
		}
	}
	for _, c := range m.snap.Chats {
		if c.Busy {
			return true
		}
	}
	return false
}

// try hands a command to the exploration. then runs on success; failed runs on an error and reports whether it dealt with
// it, otherwise the error becomes a message. Both may be nil.
func (m *Model) try(c explorer.Command, then func(explorer.Receipt) tea.Cmd, failed func(error) bool) tea.Cmd {
	ctx, ex, actor := m.ctx, m.ex, m.actor
	return func() tea.Msg {
		r, err := ex.Do(ctx, actor, c)
		return doneMsg{r, err, then, failed}
	}
}

// Update handles a message.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	cmd := m.update(msg)
	if fades := m.fading(); fades != nil {
		cmd = tea.Batch(cmd, fades)
	}
	return m, cmd
}

func (m *Model) update(msg tea.Msg) tea.Cmd {
	m.dirty = true
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.w, m.h = max(0, msg.Width), max(0, msg.Height)
	case tea.ColorProfileMsg:
		m.look(func(l *theme.Look) {
			if _, fixed := m.opts.Color.profile(); !fixed {
				l.Profile = msg.Profile
			}
		})
	case tea.BackgroundColorMsg:
		m.reported = !msg.IsDark()
		if m.opts.Theme == ThemeAuto {
			m.look(func(l *theme.Look) { l.Light = !msg.IsDark() })
		}
	case tea.KeyPressMsg:
		return m.key(msg)
	case tea.PasteMsg:
		m.paste(msg.Content)
	case tea.MouseMsg:
		return m.pointer(msg)
	case changedMsg:
		return tea.Batch(m.adopt(), m.watch(m.opts.Pace()), m.tick())
	case clockMsg:
		m.clock = false
		return m.tick()
	case fadedMsg:
		m.fades = false
	case doneMsg:
		return m.done(msg)
	case keptMsg:
		m.kept(msg)
	case modelsMsg:
		m.models = msg.paths
	case openingMsg:
		return m.opening(msg)
	case subnets.WroteMsg:
		return msg.Take(host{m})
	default:
		m.dirty = false
	}
	return nil
}

// look changes the terminal's look and rebuilds the theme where that makes a difference.
func (m *Model) look(change func(*theme.Look)) {
	l := m.theme.Look
	change(&l)
	if l.Profile == colorprofile.Unknown {
		l.Profile = colorprofile.NoTTY
	}
	if l != m.theme.Look {
		m.theme = theme.New(l)
	}
}

// adopt takes the newest snapshot, lets screens follow it, and runs the functions that wait for jobs.
func (m *Model) adopt() tea.Cmd {
	s := m.ex.Snapshot()
	if s.Revision == m.snap.Revision {
		return nil
	}
	before := m.snap
	m.snap = s
	m.announce(before)
	for _, sc := range m.screens {
		sc.Follow()
	}
	var cmds []tea.Cmd
	for id, then := range m.after {
		j, ok := s.Job(id)
		if ok && !j.State.Ended() {
			continue
		}
		delete(m.after, id)
		if j.State == explorer.Done {
			cmds = append(cmds, then(j))
		}
	}
	return tea.Batch(cmds...)
}

// announce reports the jobs that ended well since an earlier snapshot. The exploration itself reports failures.
func (m *Model) announce(before *explorer.Snapshot) {
	for _, j := range slices.Backward(m.snap.Jobs) { // those that ended come newest first
		if j.State != explorer.Done {
			continue
		}
		if was, ok := before.Job(j.ID); ok && was.State.Ended() {
			continue
		}
		if j.Result != "" && j.Kind != explorer.JobMeasure {
			host{m}.Ask(screen.Made{Subnet: j.Result})
		}
		for _, sc := range m.screens {
			if a, ok := sc.(screen.Announcer); ok {
				if s := a.Announce(j); s != "" {
					m.noteEnd(j, s)
				}
			}
		}
	}
}

// done takes in the outcome of a command.
func (m *Model) done(msg doneMsg) tea.Cmd {
	follow := m.adopt()
	if msg.err != nil {
		handled := msg.failed != nil && msg.failed(msg.err)
		if !handled && !errors.Is(msg.err, context.Canceled) {
			m.fail(msg.err)
		}
		return follow
	}
	var cmd tea.Cmd
	if msg.then != nil {
		cmd = msg.then(msg.receipt)
	}
	return tea.Batch(follow, cmd, m.tick())
}

// View returns the frame, which it draws again only if something changed.
func (m *Model) View() tea.View {
	if !m.dirty {
		return m.frame
	}
	m.dirty = false
	content, cursor := m.draw()
	v := tea.NewView(content)
	v.AltScreen = true
	v.Cursor = cursor
	v.WindowTitle = m.windowTitle()
	if !m.mouseOff {
		v.MouseMode = tea.MouseModeCellMotion
	}
	if j, ok := m.leading(); ok && j.State == explorer.Running && j.Progress.Total > 0 {
		v.ProgressBar = tea.NewProgressBar(tea.ProgressBarDefault, int(100*j.Progress.Whole()))
	}
	m.frame = v
	return v
}

// area is where the screens are drawn.
func (m *Model) area() layout.Frame {
	return layout.NewFrame(m.w, m.h, len(m.visibleNotes()))
}
