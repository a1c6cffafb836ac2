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

// Reasons for ending a session, as shown to its person.
var (
	errIdle    = errors.New("the session was idle for too long")
	errLongest = errors.New("the session reached its time limit")
	errRevoked = errors.New("your key is no longer allowed")
	errChanged = errors.New("the rights of your key have changed: log in again")
	errStopped = errors.New("the server is stopping; running work is saved and resumes later")
	errStalled = errors.New("the terminal accepted no output for too long")
	errGone    = errors.New("the client disconnected")
	errFault   = errors.New("internal error; see the server's log")
)

// A session is the server's state of one session, interactive or not. Session is what its program gets.
type session struct {
	id          string
	actor       explorer.Actor
	key         gossh.PublicKey
	fingerprint string
	noPTY       bool
	user        string // the login name, which is not used
	remote      string
	connection  *connection
	what        string // "terminal", or the first words of a command
	opened      time.Time

	notices chan string // the newest notice that was not shown yet

	once   sync.Once
	ending chan struct{} // closed by end
	cause  error         // set before ending is closed
}

// end asks the session to end; the first cause is the one that is shown. With nil it ended by itself.
func (s *session) end(cause error) {
	s.once.Do(func() {
		s.cause = cause
		close(s.ending)
	})
}

// reason returns the cause of the session's end; nil if it has not ended or ended by itself.
func (s *session) reason() error {
	select {
	case <-s.ending:
		return s.cause
	default:
		return nil
	}
}

// notify shows a notice, instead of one that was not shown yet. It never blocks.
func (s *session) notify(text string) {
	for {
		select {
		case s.notices <- text:
			return
		default:
		}
		select {
		case <-s.notices:
		default:
		}
	}
}

// event returns an audit event of this session.
func (s *session) event(kind string) Event {
	return Event{
		Event: kind, Session: s.id, Name: s.actor.Name, Role: s.actor.Role.String(), Key: s.fingerprint, User: s.user, Remote: s.remote,
	}
}

// sessions are the open sessions.
type sessions struct {
	limits Limits

	mu     sync.Mutex
	next   int
	closed bool
	open   map[*session]struct{}
	left   chan struct{} // closed and replaced whenever a session ends
}

// Errors of sessions.enter, as shown to the client.
var (
	errFull     = errors.New("too many sessions are open: try again later")
	errFullKey  = errors.New("too many sessions are open with your key: close one")
	errStopping = errors.New("the server is stopping")
)

// enter adds a session and sets its id, or returns the reason for refusing it.
func (s *sessions) enter(v *session) error {
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

func (s *sessions) leave(v *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, v)
	close(s.left)
	s.left = make(chan struct{})
}

// all returns the open sessions.
func (s *sessions) all() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*session, 0, len(s.open))
	for v := range s.open {
		list = append(list, v)
	}
	return list
}

// close refuses further sessions.
func (s *sessions) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// wait returns when no session is open, or with ctx's error.
func (s *sessions) wait(ctx context.Context) error {
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
