package sshserver

import (
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"time"

	"charm.land/ssh"
	gossh "golang.org/x/crypto/ssh"
)

// contextKey is the type of this package's keys of connection values.
type contextKey int

const (
	connectionKey contextKey = iota // *connection
	sessionKey                      // *session
)

// Exit statuses of sessions that the server ends or refuses.
const (
	exitEnded = 1
	exitUsage = 2
)

// connect decides whether a new connection is served.
func (s *Server) connect(ctx ssh.Context, c net.Conn) net.Conn {
	admission, reason := s.gate.admit(c.RemoteAddr())
	if admission == nil {
		s.audit.write(Event{Event: eventRefuse, What: "connection", Result: reason, Remote: c.RemoteAddr().String()})
		return nil
	}
	mine := newConnection(c, admission, s.limits.Linger)
	ctx.SetValue(connectionKey, mine)
	return mine
}

// handshake returns the configuration of a connection's key exchange and authentication.
func (s *Server) handshake(ctx ssh.Context) *gossh.ServerConfig {
	return &gossh.ServerConfig{
		PublicKeyAuthAlgorithms: []string{
			gossh.KeyAlgoED25519, gossh.KeyAlgoSKED25519, gossh.KeyAlgoSKECDSA256, gossh.KeyAlgoECDSA256, gossh.KeyAlgoECDSA384,
			gossh.KeyAlgoECDSA521, gossh.KeyAlgoRSASHA256, gossh.KeyAlgoRSASHA512,
		},
		AuthLogCallback: func(c gossh.ConnMetadata, method string, err error) {
			switch {
			case err == nil:
				ctx.Value(connectionKey).(*connection).authenticated()
			case method != "none": // every client tries none first, to learn the methods
				s.audit.write(Event{Event: eventRefuse, What: "login", Result: method, User: c.User(), Remote: c.RemoteAddr().String()})
			}
		},
	}
}

// offered reports whether a key may try to authenticate. That alone gives no rights: admit looks up the key that signed.
func (s *Server) offered(ctx ssh.Context, key ssh.PublicKey) bool {
	_, ok := s.principal(key, ctx.Value(connectionKey).(*connection).RemoteAddr())
	return ok
}

// principal returns the principal of a key; ok is false if it may not log in from an address now.
func (s *Server) principal(key gossh.PublicKey, from net.Addr) (_ principal, ok bool) {
	list, err := s.keys.load()
	if err != nil {
		s.log.Error("all logins are refused", "err", err)
		return principal{}, false
	}
	p, ok := list.find(key)
	return p, ok && p.admits(from, time.Now())
}

// channel serves one session channel through the filter.
func (s *Server) channel(l *ssh.Server, c *gossh.ServerConn, n gossh.NewChannel, ctx ssh.Context) {
	mine := ctx.Value(connectionKey).(*connection)
	refused := func(what string) { s.refused(ctx, what) }
	if !mine.enter() {
		refused("session: too many over one connection")
		_ = n.Reject(gossh.ResourceShortage, "too many sessions over one connection") // the client may have disconnected
		return
	}
	defer mine.leave()
	filtered := newChannel(ctx, n, s.limits, refused)
	ssh.DefaultSessionHandler(l, c, filtered, &channelContext{Context: ctx, channel: filtered})
}

// refuseChannel refuses all channels other than sessions: they are for forwarding.
func (s *Server) refuseChannel(_ *ssh.Server, _ *gossh.ServerConn, n gossh.NewChannel, ctx ssh.Context) {
	what := "other channel"
	switch n.ChannelType() {
	case "direct-tcpip", "direct-streamlocal@openssh.com":
		what = "port forwarding"
	}
	s.refused(ctx, what)
	_ = n.Reject(gossh.Prohibited, "forwarding is not allowed")
}

// refuseRequest refuses all requests that concern the connection as a whole.
func (s *Server) refuseRequest(ctx ssh.Context, _ *ssh.Server, r *gossh.Request) (bool, []byte) {
	switch r.Type {
	case "tcpip-forward", "streamlocal-forward@openssh.com":
		s.refused(ctx, "remote port forwarding")
	}
	return false, nil
}

// refused writes the refusal of a request of an authenticated connection to the audit log.
func (s *Server) refused(ctx ssh.Context, what string) {
	e := Event{Event: eventRefuse, What: what, User: ctx.User(), Remote: ctx.RemoteAddr().String()}
	if key, ok := ctx.Value(ssh.ContextKeyPublicKey).(gossh.PublicKey); ok {
		e.Key = gossh.FingerprintSHA256(key)
	}
	s.audit.write(e)
}

// recoverPanic is a middleware that ends a session whose handler panics with a message and exit status 1. With the one of wish
// such a session would end without a message and with status 0.
func (s *Server) recoverPanic(next ssh.Handler) ssh.Handler {
	return func(sess ssh.Session) {
		defer func() {
			if r := recover(); r != nil {
				s.log.Error("panic in a session", "panic", r, "stack", string(debug.Stack()))
				s.fail(sess, exitEnded, errFault)
			}
		}()
		next(sess)
	}
}

// fail writes an error to the client and ends the session.
func (s *Server) fail(sess ssh.Session, status int, err error) {
	var w io.Writer = sess.Stderr()
	if _, _, terminal := sess.Pty(); terminal {
		w = sess
	}
	c := sess.Context().Value(connectionKey).(*connection)
	fmt.Fprintf(&output{w: w, timeout: s.limits.Stall, stalled: c.cut}, "lathe: %v\n", err)
	s.exit(sess, status)
}

// exit sends the session's exit status and closes it.
func (s *Server) exit(sess ssh.Session, status int) {
	alarm := time.AfterFunc(s.limits.Stall, sess.Context().Value(connectionKey).(*connection).cut)
	defer alarm.Stop()
	_ = sess.Exit(status) // the client may have disconnected
}

// output returns a writer to the client of a session, which ends the session if the client stops reading.
func (s *Server) output(w io.Writer, session *session) *output {
	return &output{w: w, timeout: s.limits.Stall, stalled: func() {
		session.end(errStalled)
		session.connection.cut() // which ends the write
	}}
}

// admit is a middleware that authorises a session by the key that its connection authenticated with, and audits its beginning
// and end.
func (s *Server) admit(next ssh.Handler) ssh.Handler {
	return func(sess ssh.Session) {
		ctx := sess.Context().(*channelContext)
		mine := ctx.Value(connectionKey).(*connection)
		p, ok := s.principal(sess.PublicKey(), mine.RemoteAddr())
		if !ok {
			s.refused(ctx, "session: key is not allowed")
			s.fail(sess, exitEnded, errRevoked)
			return
		}
		session := &session{
			key: p.key, fingerprint: p.fingerprint, noPTY: p.noPTY, user: sess.User(), remote: mine.RemoteAddr().String(), connection: mine,
			what: "terminal", opened: time.Now(), notices: make(chan string, 1), ending: make(chan struct{}),
		}
		session.actor.Name, session.actor.Role = p.name, p.role
		if sess.RawCommand() != "" {
			session.what = commandWords(sess.Command())
		}
		if err := s.sessions.enter(session); err != nil {
			s.refused(ctx, "session: "+err.Error())
			s.fail(sess, exitEnded, err)
			return
		}
		mine.begin()
		defer mine.end()
		defer s.sessions.leave(session)
		opened := session.event(eventOpen)
		opened.What = session.what
		s.audit.write(opened)
		defer func() {
			closed := session.event(eventClose)
			closed.What, closed.Result, closed.Seconds = session.what, "left", time.Since(session.opened).Round(time.Millisecond).Seconds()
			if reason := session.reason(); reason != nil {
				closed.Result = reason.Error()
			}
			s.audit.write(closed)
		}()
		ctx.SetValue(sessionKey, session)
		next(sess)
	}
}
