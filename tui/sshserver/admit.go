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
	visitKey                        // *visit
)

// Exit statuses of sessions that the server ends or refuses.
const (
	exitEnded = 1
	exitUsage = 2
)

// connect decides whether a new connection is served.
func (s *Server) connect(ctx ssh.Context, c net.Conn) net.Conn {
	pass, why := s.gate.admit(c.RemoteAddr())
	if pass == nil {
		s.audit.write(Event{Event: eventRefuse, What: "connection", Result: why, Remote: c.RemoteAddr().String()})
		return nil
	}
	mine := newConnection(c, pass, s.limits.Linger)
	ctx.SetValue(connectionKey, mine)
	return mine
}

// handshake is the configuration of one connection's key exchange and authentication.
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
			case method != "none": // what every client begins with, to learn the methods
				s.audit.write(Event{Event: eventRefuse, What: "login", Result: method, User: c.User(), Remote: c.RemoteAddr().String()})
			}
		},
	}
}

// offered answers whether a key may try to authenticate. Saying yes gives nobody anything: admit looks at the key that did.
func (s *Server) offered(ctx ssh.Context, key ssh.PublicKey) bool {
	_, ok := s.holder(key, ctx.Value(connectionKey).(*connection).RemoteAddr())
	return ok
}

// holder finds who has a key, if it may log in from an address now.
func (s *Server) holder(key gossh.PublicKey, from net.Addr) (holder, bool) {
	list, err := s.keys.load()
	if err != nil {
		s.log.Error("nobody can log in", "err", err)
		return holder{}, false
	}
	h, ok := list.find(key)
	return h, ok && h.admits(from, time.Now())
}

// channel serves one session channel through the filter.
func (s *Server) channel(l *ssh.Server, c *gossh.ServerConn, n gossh.NewChannel, ctx ssh.Context) {
	mine := ctx.Value(connectionKey).(*connection)
	refused := func(what string) { s.refused(ctx, what) }
	if !mine.enter() {
		refused("session: too many over one connection")
		_ = n.Reject(gossh.ResourceShortage, "too many sessions over one connection") // a client that is gone needs no answer
		return
	}
	defer mine.leave()
	filtered := newChannel(ctx, n, s.limits, refused)
	ssh.DefaultSessionHandler(l, c, filtered, &channelContext{Context: ctx, channel: filtered})
}

// refuseChannel refuses every channel that is no session: all of them are ways of forwarding.
func (s *Server) refuseChannel(_ *ssh.Server, _ *gossh.ServerConn, n gossh.NewChannel, ctx ssh.Context) {
	what := "other channel"
	switch n.ChannelType() {
	case "direct-tcpip", "direct-streamlocal@openssh.com":
		what = "port forwarding"
	}
	s.refused(ctx, what)
	_ = n.Reject(gossh.Prohibited, "forwarding is not allowed")
}

// refuseRequest refuses every request that concerns the connection as a whole.
func (s *Server) refuseRequest(ctx ssh.Context, _ *ssh.Server, r *gossh.Request) (bool, []byte) {
	switch r.Type {
	case "tcpip-forward", "streamlocal-forward@openssh.com":
		s.refused(ctx, "remote port forwarding")
	}
	return false, nil
}

// refused writes down what an authenticated connection asked for in vain.
func (s *Server) refused(ctx ssh.Context, what string) {
	e := Event{Event: eventRefuse, What: what, User: ctx.User(), Remote: ctx.RemoteAddr().String()}
	if key, ok := ctx.Value(ssh.ContextKeyPublicKey).(gossh.PublicKey); ok {
		e.Key = gossh.FingerprintSHA256(key)
	}
	s.audit.write(e)
}

// contain keeps a session's panic to the session.
func (s *Server) contain(next ssh.Handler) ssh.Handler {
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

// fail tells the client why it gets nothing, and ends the session.
func (s *Server) fail(sess ssh.Session, status int, why error) {
	var w io.Writer = sess.Stderr()
	if _, _, terminal := sess.Pty(); terminal {
		w = sess
	}
	c := sess.Context().Value(connectionKey).(*connection)
	fmt.Fprintf(&output{w: w, patient: s.limits.Stall, stalled: c.cut}, "lathe: %v\n", why)
	s.exit(sess, status)
}

// exit sends the session's exit status and closes it. A client that is gone needs none.
func (s *Server) exit(sess ssh.Session, status int) {
	alarm := time.AfterFunc(s.limits.Stall, sess.Context().Value(connectionKey).(*connection).cut)
	defer alarm.Stop()
	_ = sess.Exit(status)
}

// output writes to the client of a session, and ends the session when the client takes nothing.
func (s *Server) output(w io.Writer, v *visit) *output {
	return &output{w: w, patient: s.limits.Stall, stalled: func() {
		v.end(errStalled)
		v.connection.cut() // which is what ends the write
	}}
}

// admit authorises a session from the key its connection authenticated with, finds it a place, and keeps record of it.
func (s *Server) admit(next ssh.Handler) ssh.Handler {
	return func(sess ssh.Session) {
		ctx := sess.Context().(*channelContext)
		mine := ctx.Value(connectionKey).(*connection)
		h, ok := s.holder(sess.PublicKey(), mine.RemoteAddr())
		if !ok {
			s.refused(ctx, "session: key is not allowed in")
			s.fail(sess, exitEnded, errRevoked)
			return
		}
		v := &visit{
			key: h.key, fingerprint: h.fingerprint, noPTY: h.noPTY, user: sess.User(), remote: mine.RemoteAddr().String(), connection: mine,
			what: "terminal", opened: time.Now(), notices: make(chan string, 1), ending: make(chan struct{}),
		}
		v.actor.Name, v.actor.Role = h.name, h.role
		if sess.RawCommand() != "" {
			v.what = commandWords(sess.Command())
		}
		if err := s.visitors.enter(v); err != nil {
			s.refused(ctx, "session: "+err.Error())
			s.fail(sess, exitEnded, err)
			return
		}
		mine.begin()
		defer mine.end()
		defer s.visitors.leave(v)
		opened := v.event(eventOpen)
		opened.What = v.what
		s.audit.write(opened)
		defer func() {
			closed := v.event(eventClose)
			closed.What, closed.Result, closed.Seconds = v.what, "left", time.Since(v.opened).Round(time.Millisecond).Seconds()
			if why := v.reason(); why != nil {
				closed.Result = why.Error()
			}
			s.audit.write(closed)
		}()
		ctx.SetValue(visitKey, v)
		next(sess)
	}
}
