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

// resizeTime is the least time between two resizes that reach the program.
const resizeTime = 50 * time.Millisecond

// leavingTime is what a program gets to restore the terminal before it is killed, and then again before the connection is
// cut.
const leavingTime = 2 * time.Second

// A Session is an interactive session as its program sees it. All of it belongs to the session alone.
type Session struct {
	ID    string
	Actor explorer.Actor // the key's holder
	// Exploration gives every command in the actor's name, whatever actor it is called with, and audits it. Only owners'
	// commands may name files of the server's machine.
	Exploration Exploration
	Environ     []string // what the client may set of its environment, and TERM
	Term        string
	Profile     colorprofile.Profile
	Width       int // at the beginning; the program is sent changes
	Height      int
	Remote      string
	// Pace is the least time from one look at a changing exploration to the next. It grows with the load.
	Pace func() time.Duration
}

// errNoScreen is for terminals that cannot place text.
var errNoScreen = errors.New("this kind of terminal (TERM) cannot show the screens; try a command: ssh HOST status")

// terminal runs the interactive program and returns the exit status.
func (s *Server) terminal(sess ssh.Session, v *visit, c *channel) int {
	pty, _, _ := sess.Pty()
	window := c.window()
	environ := append(sess.Environ(), "TERM="+pty.Term)
	profile := colorprofile.Env(environ)
	out := s.output(sess, v)
	if profile == colorprofile.NoTTY || pty.Term == "" {
		fmt.Fprintf(out, "lathe: %v\n", errNoScreen)
		return exitEnded
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	model, options := s.options.Program(ctx, &Session{
		ID: v.id, Actor: v.actor, Exploration: newDesk(s, v, v.actor.Role >= explorer.RoleOwner), Environ: environ, Term: pty.Term, Profile: profile,
		Width: window.width, Height: window.height, Remote: v.remote, Pace: s.pacer.pace,
	})
	g := newGuard(model, s.pacer, func(panicked any) {
		s.log.Error("panic in a session's program", "session", v.id, "panic", fmt.Sprint(panicked), "stack", string(debug.Stack()))
		v.end(errFault)
	})
	p := tea.NewProgram(g, append(append([]tea.ProgramOption{tea.WithColorProfile(profile), tea.WithEnvironment(environ)}, options...),
		tea.WithContext(ctx), tea.WithInput(silence{ctx}), tea.WithOutput(out), tea.WithWindowSize(window.width, window.height),
		tea.WithoutSignalHandler(), tea.WithFilter(unsuspended))...)

	s.presence.enter(v.actor)
	defer s.presence.leave(v.actor)
	s.pacer.enter()
	defer s.pacer.leave()
	h := &host{server: s, visit: v, channel: c, program: p, cancel: cancel, news: make(chan struct{}, 1), finished: make(chan struct{}), awake: make(chan struct{}, 1)}
	h.typed.Store(time.Now().UnixNano())
	var wg sync.WaitGroup
	wg.Go(func() { h.deliver(ctx) })
	wg.Go(func() { h.preside(ctx) })
	go h.listen(ctx, sess, pty.Term) // ends with the channel
	_, err := p.Run()
	close(h.finished)
	cancel()
	wg.Wait()

	switch {
	case c.ctx.Err() != nil:
		v.end(errGone)
	case err != nil:
		s.log.Error("a session's program failed", "session", v.id, "err", err)
		v.end(errFault) // unless it was ended for another reason
	}
	why := v.reason()
	switch {
	case why == nil:
		return 0
	case !errors.Is(why, errStalled) && !errors.Is(why, errGone):
		fmt.Fprintf(out, "lathe: %v\n", why)
	}
	return exitEnded
}

// unsuspended takes away what would stop the server's process rather than the session.
func unsuspended(_ tea.Model, msg tea.Msg) tea.Msg {
	if _, ok := msg.(tea.SuspendMsg); ok {
		return tea.ResumeMsg{}
	}
	return msg
}

// silence is the input that the program reads for itself: nothing, until its end. Events come from host.listen, which goes on taking
// them when the program does not, so that none of its goroutines is left behind with an event nobody wants.
type silence struct{ ctx context.Context }

// Read returns when the session ends.
func (s silence) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, io.EOF
}

// A host is what goes on around a session's program. Nothing but deliver ever waits for the program: a client that takes
// no output stops its program, and the host must still be able to end it.
type host struct {
	server   *Server
	visit    *visit
	channel  *channel
	program  *tea.Program
	cancel   context.CancelFunc
	finished chan struct{} // closed when the program has ended
	typed    atomic.Int64  // when a person last did something, Unix nanoseconds
	warned   atomic.Bool   // that the session will end
	awake    chan struct{} // holds a token when a person did something after the warning

	mu      sync.Mutex
	size    size
	notice  *string
	leaving bool
	news    chan struct{} // holds a token while one of the above is news
}

// post changes what is to be delivered.
func (h *host) post(change func()) {
	h.mu.Lock()
	change()
	h.mu.Unlock()
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// deliver hands the newest of each kind of news to the program.
func (h *host) deliver(ctx context.Context) {
	for {
		select {
		case <-h.news:
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

// preside watches over the session until ctx ends: resizes, notices, the time without a key, the longest time, and its end.
func (h *host) preside(ctx context.Context) {
	l, v := h.server.limits, h.visit
	longest := v.connection.opened.Add(l.Longest)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.ending:
			h.leave(ctx)
			return
		case <-h.channel.resized:
			h.post(func() { h.size = h.channel.window() })
			rest(ctx, resizeTime)
		case text := <-v.notices:
			h.post(func() { h.notice = &text })
		case <-h.awake:
			timer.Reset(0)
		case <-timer.C:
			end, why := longest, errLongest
			if idle := time.Unix(0, h.typed.Load()).Add(l.Idle); l.Idle > 0 && idle.Before(end) {
				end, why = idle, errIdle
			}
			warn := end.Add(-l.Warning)
			now := time.Now()
			switch {
			case !now.Before(end):
				v.end(why)
			case !now.Before(warn):
				if !h.warned.Swap(true) {
					text := warning(why, end.Sub(now))
					h.post(func() { h.notice = &text })
				}
				timer.Reset(time.Until(end))
			default:
				if h.warned.Swap(false) {
					nothing := ""
					h.post(func() { h.notice = &nothing })
				}
				timer.Reset(time.Until(warn))
			}
		}
	}
}

// warning says that a session will end.
func warning(why error, in time.Duration) string {
	after := in.Round(time.Second).String()
	if errors.Is(why, errIdle) {
		return "Nothing was typed for long: the session ends in " + after + ". Press any key to stay."
	}
	return "The session reaches the longest time allowed in " + after + "."
}

// leave ends the program: politely, then by killing it, then by cutting its connection.
func (h *host) leave(ctx context.Context) {
	h.post(func() { h.leaving = true })
	if rest(ctx, leavingTime) {
		return
	}
	h.cancel()
	timer := time.NewTimer(leavingTime)
	defer timer.Stop()
	select {
	case <-h.finished:
	case <-timer.C:
		h.visit.connection.cut() // what it writes is not taken, and now never will be
	}
}

// rest waits, and reports whether ctx ended meanwhile.
func rest(ctx context.Context, d time.Duration) bool {
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

// listen turns what the client sends into events for the program, until the channel ends.
func (h *host) listen(ctx context.Context, sess io.Reader, term string) {
	events := make(chan uv.Event)
	reader := uv.NewTerminalReader(newInput(h.channel.ctx, sess), term)
	go func() {
		defer close(events)
		_ = reader.StreamEvents(ctx, events) // how reading ends is how the session ends
	}()
	for e := range events {
		switch e.(type) {
		case uv.WindowSizeEvent:
			continue // the size comes with the protocol, within its limits
		case uv.KeyPressEvent, uv.PasteEvent, uv.MouseEvent:
			h.typed.Store(time.Now().UnixNano())
			if h.warned.Load() {
				select {
				case h.awake <- struct{}{}:
				default:
				}
			}
		}
		h.program.Send(e)
	}
	h.visit.end(errGone)
}
