package sshserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/ssh"
	"github.com/charmbracelet/colorprofile"
	uv "github.com/charmbracelet/ultraviolet"

	"github.com/lathe-llm/lathe/explorer"
)

// resizeTime is the minimum time between two resizes that reach the program.
const resizeTime = 50 * time.Millisecond

// leavingTime is how long a program may take to restore the terminal before it is killed, and then again until the connection
// is cut.
const leavingTime = 2 * time.Second

// A Session is what the program of an interactive session gets. Nothing in it is shared with other sessions.
type Session struct {
	Actor explorer.Actor // the principal of the key
	// Exploration runs all commands as Actor, whatever actor they are called with, and audits them. Only owners' commands may
	// name files of the server's machine.
	Exploration Exploration
	Environ     []string // the client's variables that may be set, and TERM
	// Pace returns the minimum time between two reads of a changing exploration. It grows with the load.
	Pace func() time.Duration
}

// errNoScreen is for terminals that cannot position text.
var errNoScreen = errors.New("this terminal type (TERM) cannot display the explorer; use a command, such as ssh HOST status")

// terminal runs the interactive program and returns the exit status.
func (s *Server) terminal(sess ssh.Session, session *session, c *channel) int {
	pty, _, _ := sess.Pty()
	window := c.window()
	environ := append(sess.Environ(), "TERM="+pty.Term)
	profile := colorprofile.Env(environ)
	out := s.output(sess, session)
	if profile == colorprofile.NoTTY || pty.Term == "" {
		fmt.Fprintf(out, "lathe: %v\n", errNoScreen)
		return exitEnded
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	model, options := s.options.Program(ctx, &Session{
		Actor: session.actor, Exploration: newSessionView(s, session, session.actor.Role >= explorer.RoleOwner), Environ: environ, Pace: s.pacer.pace,
	})
	g := newGuard(model, s.pacer, func(panicked any) {
		s.log.Error("panic in a session's program", "session", session.id, "panic", fmt.Sprint(panicked), "stack", string(debug.Stack()))
		session.end(errFault)
	})
	p := tea.NewProgram(g, append(append([]tea.ProgramOption{tea.WithColorProfile(profile), tea.WithEnvironment(environ)}, options...),
		tea.WithContext(ctx), tea.WithInput(noInput{ctx}), tea.WithOutput(out), tea.WithWindowSize(window.width, window.height),
		tea.WithoutSignalHandler(), tea.WithFilter(filter(c.window)))...)

	s.presence.enter(session.actor)
	defer s.presence.leave(session.actor)
	s.pacer.enter()
	defer s.pacer.leave()
	h := &host{server: s, session: session, channel: c, program: p, cancel: cancel, changed: make(chan struct{}, 1), finished: make(chan struct{}), awake: make(chan struct{}, 1)}
	h.input.Store(time.Now().UnixNano())
	var wg sync.WaitGroup
	wg.Go(func() { h.deliver(ctx) })
	wg.Go(func() { h.run(ctx) })
	go h.listen(ctx, sess, pty.Term) // ends with the channel
	_, err := p.Run()
	close(h.finished)
	cancel()
	wg.Wait()

	switch {
	case c.ctx.Err() != nil:
		session.end(errGone)
	case err != nil:
		s.log.Error("a session's program failed", "session", session.id, "err", err)
		session.end(errFault) // unless it was ended already
	}
	reason := session.reason()
	switch {
	case reason == nil:
		return 0
	case !errors.Is(reason, errStalled) && !errors.Is(reason, errGone):
		fmt.Fprintf(out, "lathe: %v\n", reason)
	}
	return exitEnded
}

// filter returns a filter of messages to a program. It replaces one that would suspend the server's process, and gives every size the
// newest values: a program sends the size that it started with to itself at some later time, perhaps after a resize.
func filter(window func() size) func(tea.Model, tea.Msg) tea.Msg {
	return func(_ tea.Model, msg tea.Msg) tea.Msg {
		switch msg.(type) {
		case tea.SuspendMsg:
			return tea.ResumeMsg{}
		case tea.WindowSizeMsg:
			now := window()
			return tea.WindowSizeMsg{Width: now.width, Height: now.height}
		}
		return msg
	}
}

// noInput is the input of the program itself, which is empty. Events come from host.listen, which also reads them when the
// program does not, so that none of its goroutines blocks on an event after the program's end.
type noInput struct{ ctx context.Context }

// Read returns when the session ends.
func (s noInput) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, io.EOF
}

// A host runs beside a session's program and ends it. Only deliver ever waits for the program: a client that reads no output
// blocks its program, and the host must still be able to end it.
type host struct {
	server   *Server
	session  *session
	channel  *channel
	program  *tea.Program
	cancel   context.CancelFunc
	finished chan struct{} // closed when the program ends
	input    atomic.Int64  // time of the last input, Unix nanoseconds
	warned   atomic.Bool   // a warning of the session's end is shown
	awake    chan struct{} // has a token after input while warned

	mu      sync.Mutex
	size    size
	notice  *string
	leaving bool
	changed chan struct{} // has a token if one of the above changed
}

// post changes what deliver sends.
func (h *host) post(change func()) {
	h.mu.Lock()
	change()
	h.mu.Unlock()
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// deliver sends the newest size, notice and request to quit to the program, until ctx ends.
func (h *host) deliver(ctx context.Context) {
	for {
		select {
		case <-h.changed:
		case <-ctx.Done():
			return
		}
		h.mu.Lock()
		size, notice, leaving := h.size, h.notice, h.leaving
		h.size.width, h.notice = 0, nil
		h.mu.Unlock()
		if size.width > 0 {
			h.program.Send(tea.WindowSizeMsg{Width: size.width, Height: size.height})
		}
		if notice != nil {
			h.program.Send(noticeMsg(*notice))
		}
		if leaving {
			h.program.Send(leaveMsg{})
		}
	}
}

// run handles resizes, notices, time limits and the end of the session, until ctx ends.
func (h *host) run(ctx context.Context) {
	l, session := h.server.limits, h.session
	longest := session.connection.opened.Add(l.Longest)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-session.ending:
			h.leave(ctx)
			return
		case <-h.channel.resized:
			h.post(func() { h.size = h.channel.window() })
			sleep(ctx, resizeTime)
		case text := <-session.notices:
			h.post(func() { h.notice = &text })
		case <-h.awake:
			timer.Reset(0)
		case <-timer.C:
			end, cause := longest, errLongest
			if idle := time.Unix(0, h.input.Load()).Add(l.Idle); l.Idle > 0 && idle.Before(end) {
				end, cause = idle, errIdle
			}
			warn := end.Add(-l.Warning)
			now := time.Now()
			switch {
			case !now.Before(end):
				session.end(cause)
			case !now.Before(warn):
				if !h.warned.Swap(true) {
					text := warning(cause, end.Sub(now))
					h.post(func() { h.notice = &text })
				}
				timer.Reset(time.Until(end))
			default:
				if h.warned.Swap(false) {
					h.post(func() { h.notice = new(string) })
				}
				timer.Reset(time.Until(warn))
			}
		}
	}
}

// warning returns the warning that a session will end for a cause.
func warning(cause error, in time.Duration) string {
	after := in.Round(time.Second).String()
	if errors.Is(cause, errIdle) {
		return "No input: the session ends in " + after + ". Press any key to stay."
	}
	return "The session reaches its time limit in " + after + "."
}

// leave ends the program: by a message, then by cancelling it, then by cutting its connection.
func (h *host) leave(ctx context.Context) {
	h.post(func() { h.leaving = true })
	if sleep(ctx, leavingTime) {
		return
	}
	h.cancel()
	timer := time.NewTimer(leavingTime)
	defer timer.Stop()
	select {
	case <-h.finished:
	case <-timer.C:
		h.session.connection.cut() // the program blocks on a write
	}
}

// sleep waits for d, and reports whether ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() != nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return true
	case <-timer.C:
		return false
	}
}

// listen sends the client's input to the program as events, until the channel ends.
func (h *host) listen(ctx context.Context, sess io.Reader, term string) {
	events := make(chan uv.Event)
	reader := uv.NewTerminalReader(newInput(h.channel.ctx, sess), term)
	go func() {
		defer close(events)
		_ = reader.StreamEvents(ctx, events) // fails when the session ends
	}()
	for e := range events {
		switch e.(type) {
		case uv.WindowSizeEvent:
			continue // the size comes from the protocol, clamped to the limits
		case uv.KeyPressEvent, uv.PasteEvent, uv.MouseEvent:
			h.input.Store(time.Now().UnixNano())
			if h.warned.Load() {
				select {
				case h.awake <- struct{}{}:
				default:
				}
			}
		}
		h.program.Send(e)
	}
	h.session.end(errGone)
}
