package tui

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/layout"
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
	prose *prose
	costs costs
	// toASCII is applied to frames for terminals that show nothing else.
	toASCII *strings.Replacer
	w, h    int

	actions []*action
	keys    *keymap

	active   screenID
	screens  [screenCount]screen
	overlays []overlay // the last one has the keys

	notes    []note                                                // messages of this viewer
	readUpTo uint64                                                // the exploration's messages up to this one were read
	after    map[explorer.JobID]func(*Model, explorer.Job) tea.Cmd // what waits for jobs to end
	mouseOff bool
	clock    bool // a clock message is under way

	dirty bool // something changed since frame was drawn
	frame tea.View
}

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
	m := &Model{ctx: ctx, ex: ex, actor: o.Actor, opts: o, now: o.Now, panes: o.Panes, prose: newProse(), toASCII: newASCII(), after: map[explorer.JobID]func(*Model, explorer.Job) tea.Cmd{}, snap: ex.Snapshot(), mouseOff: o.NoMouse, dirty: true}
	profile, _ := o.Color.profile()
	m.theme = theme.New(theme.Look{Profile: profile, Light: o.Theme == ThemeLight || o.Theme == ThemeAuto && o.Light, ASCII: o.ASCII})
	m.actions = allActions()
	var problems []string
	m.keys, problems = loadKeymap(m.actions, o.KeyFile)
	for _, p := range append(problems, o.Warnings...) {
		m.say(levelWarning, p)
	}
	m.screens = newScreens()
	m.active = screenNamed(o.Screen)
	if o.Tour {
		m.open(newTour())
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
	doneMsg    struct { // a command was carried out
		command explorer.Command
		receipt explorer.Receipt
		err     error
		then    func(*Model, explorer.Receipt) tea.Cmd
		failed  func(*Model)
	}
)

// clockEvery is the pace of spinners and running times.
const clockEvery = 250 * time.Millisecond

// Init starts watching the exploration and asks the terminal for its background.
func (m *Model) Init() tea.Cmd {
	return tea.Batch(tea.RequestBackgroundColor, m.watch(0), m.do(explorer.Attach{Where: m.active.name()}, nil))
}

// watch waits for a newer snapshot, but not less than the pace that was agreed on.
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
	return tea.Tick(clockEvery, func(time.Time) tea.Msg { return clockMsg{} })
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

// do hands a command to the exploration; then, which may be nil, runs on success.
func (m *Model) do(c explorer.Command, then func(*Model, explorer.Receipt) tea.Cmd) tea.Cmd {
	return m.try(c, then, nil)
}

// try is do with something to run when the command fails, after its error was shown.
func (m *Model) try(c explorer.Command, then func(*Model, explorer.Receipt) tea.Cmd, failed func(*Model)) tea.Cmd {
	ctx, ex, actor := m.ctx, m.ex, m.actor
	return func() tea.Msg {
		r, err := ex.Do(ctx, actor, c)
		return doneMsg{c, r, err, then, failed}
	}
}

// Update takes a message in.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	return m, m.update(msg)
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
		if m.opts.Theme == ThemeAuto {
			m.look(func(l *theme.Look) { l.Light = !msg.IsDark() })
		}
	case tea.KeyPressMsg:
		return m.key(msg)
	case tea.PasteMsg:
		return m.paste(msg.Content)
	case tea.MouseMsg:
		return m.pointer(msg)
	case changedMsg:
		return tea.Batch(m.adopt(), m.watch(m.opts.Pace()), m.tick())
	case clockMsg:
		m.clock = false
		return m.tick()
	case doneMsg:
		return m.done(msg)
	case wroteMsg:
		if msg.err != nil {
			m.fail(msg.err)
		} else {
			m.say(levelInfo, "wrote "+msg.path)
		}
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

// adopt takes the newest snapshot, lets screens follow it, and goes on with what waited for a job.
func (m *Model) adopt() tea.Cmd {
	s := m.ex.Snapshot()
	if s.Revision == m.snap.Revision {
		return nil
	}
	m.announce(m.snap, s)
	m.snap = s
	for _, sc := range m.screens {
		sc.follow(m)
	}
	var cmds []tea.Cmd
	for id, then := range m.after {
		j, ok := s.Job(id)
		if ok && !j.State.Ended() {
			continue
		}
		delete(m.after, id)
		if j.State == explorer.Done {
			cmds = append(cmds, then(m, j))
		}
	}
	return tea.Batch(cmds...)
}

// when runs something once a job has ended well; it is forgotten when the job fails or is stopped.
func (m *Model) when(id explorer.JobID, then func(*Model, explorer.Job) tea.Cmd) tea.Cmd {
	if j, ok := m.snap.Job(id); ok && j.State.Ended() {
		if j.State == explorer.Done {
			return then(m, j)
		}
		return nil
	}
	m.after[id] = then
	return nil
}

// done takes the outcome of a command in.
func (m *Model) done(msg doneMsg) tea.Cmd {
	follow := m.adopt()
	m.masks().settled(m, msg)
	if msg.err != nil {
		if !errors.Is(msg.err, context.Canceled) {
			m.fail(msg.err)
		}
		if msg.failed != nil {
			msg.failed(m)
		}
		return tea.Batch(follow, m.masks().next(m))
	}
	var cmd tea.Cmd
	if msg.then != nil {
		cmd = msg.then(m, msg.receipt)
	}
	return tea.Batch(follow, cmd, m.masks().next(m), m.tick())
}

// View draws the screen, or hands out what it drew before when nothing changed.
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
		v.ProgressBar = tea.NewProgressBar(tea.ProgressBarDefault, int(100*j.Progress.Fraction()))
	}
	m.frame = v
	return v
}

// area is where the screens are drawn.
func (m *Model) area() layout.Frame {
	return layout.NewFrame(m.w, m.h, len(m.visibleNotes()))
}
