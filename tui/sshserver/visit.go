package sshserver

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/lathe-llm/lathe/explorer"
)

// Why the server ends a session. The texts are for the person who sits at it.
var (
	errIdle    = errors.New("the session was idle for too long")
	errLongest = errors.New("the session reached the longest time allowed")
	errRevoked = errors.New("your key is no longer allowed in")
	errChanged = errors.New("what your key may do has changed: log in again")
	errStopped = errors.New("the server stops; work that runs is kept and goes on when it is back")
	errStalled = errors.New("the terminal took no output for too long")
	errGone    = errors.New("the client is gone")
	errFault   = errors.New("internal error; the server's log has it")
)

// A visit is one session from the server's side: whose it is, and how to end it.
type visit struct {
	id          string
	actor       explorer.Actor
	key         gossh.PublicKey
	fingerprint string
	noPTY       bool
	user        string // the login name, which means nothing here
	remote      string
	connection  *connection
	what        string // "terminal", or the first words of a command
	opened      time.Time

	notices chan string // what the session should be told next; only the newest counts

	once   sync.Once
	ending chan struct{} // closed by end
	why    error         // set before ending is closed
}

// end asks the session to end; the first reason is the one it is told. With nil it has ended by itself.
func (v *visit) end(why error) {
	v.once.Do(func() {
		v.why = why
		close(v.ending)
	})
}

// reason is why the server ended the session; nil if it did not, or not yet.
func (v *visit) reason() error {
	select {
	case <-v.ending:
		return v.why
	default:
		return nil
	}
}

// tell shows the session a line, in place of one that was not shown yet. It never waits.
func (v *visit) tell(text string) {
	for {
		select {
		case v.notices <- text:
			return
		default:
		}
		select {
		case <-v.notices:
		default:
		}
	}
}

// event is an audit event of this session.
func (v *visit) event(kind string) Event {
	return Event{
		Event: kind, Session: v.id, Name: v.actor.Name, Role: v.actor.Role.String(), Key: v.fingerprint, User: v.user, Remote: v.remote,
	}
}

// visitors are the open sessions.
type visitors struct {
	limits Limits

	mu     sync.Mutex
	next   int
	closed bool
	open   map[*visit]struct{}
	left   chan struct{} // closed and replaced whenever a session has ended
}

// Errors of visitors.enter, for the person who wanted in.
var (
	errFull     = errors.New("too many sessions are open: try again later")
	errFullKey  = errors.New("too many sessions are open with your key: close one")
	errStopping = errors.New("the server is stopping")
)

// enter lets a session in, and gives it its id, or says why not.
func (s *visitors) enter(v *visit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := 0
	for o := range s.open {
		if o.fingerprint == v.fingerprint {
			same++
		}
	}
	switch {
	case s.closed:
		return errStopping
	case same >= s.limits.SessionsPerKey:
		return errFullKey
	case len(s.open) >= s.limits.Sessions:
		return errFull
	}
	s.next++
	v.id = "s" + strconv.Itoa(s.next)
	s.open[v] = struct{}{}
	return nil
}

func (s *visitors) leave(v *visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, v)
	close(s.left)
	s.left = make(chan struct{})
}

// all are the sessions that are open now.
func (s *visitors) all() []*visit {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*visit, 0, len(s.open))
	for v := range s.open {
		list = append(list, v)
	}
	return list
}

// close lets nobody in any more.
func (s *visitors) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// wait returns when no session is open, or with ctx's error.
func (s *visitors) wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		n, left := len(s.open), s.left
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-left:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
