package sshserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"charm.land/ssh"
	"charm.land/wish/v2"
	gossh "golang.org/x/crypto/ssh"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
)

// shutdownTime is how long Serve takes to stop at most.
const shutdownTime = 10 * time.Second

// A Server serves an exploration over SSH. It can serve once.
type Server struct {
	options  Options
	limits   Limits
	log      *slog.Logger
	signer   gossh.Signer
	keys     *keyring
	gate     *gate
	audit    *auditor
	sessions *sessions
	presence *presence
	pacer    *pacer
	ssh      *ssh.Server

	stop     sync.Once
	stopping chan struct{} // closed when Shutdown begins
	stopped  chan struct{} // and when it has ended
}

// New checks the options, reads the keys, and creates the host key if it does not exist.
func New(o Options) (*Server, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Server{
		options: o, limits: o.Limits.filled(), log: o.Log, keys: &keyring{file: o.AuthorizedKeys, own: o.OwnKeys, role: o.DefaultRole},
		audit: newAuditor(o.Audit, o.Log), pacer: newPacer(), stopping: make(chan struct{}), stopped: make(chan struct{}),
	}
	s.gate = newGate(s.limits)
	s.sessions = &sessions{limits: s.limits, open: map[*session]struct{}{}, left: make(chan struct{})}
	s.presence = &presence{count: map[string]int{}, do: s.announce}
	list, err := s.keys.load()
	if err != nil {
		return nil, err
	}
	s.report(list)
	if s.signer, err = hostKey(o.HostKey); err != nil {
		return nil, err
	}
	s.ssh, err = wish.NewServer(
		func(l *ssh.Server) error { l.AddHostKey(s.signer); return nil },
		ssh.EmulatePty(), // a real one would consume the resizes
		ssh.PublicKeyAuth(s.offered),
		ssh.WrapConn(s.connect),
		wish.WithVersion("lathe"),
		wish.WithMaxTimeout(s.limits.Longest+time.Minute), // sessions are ended before
		s.configure,
		// The last one is the first to run.
		wish.WithMiddleware(s.run, s.admit, s.recoverPanic),
	)
	if err != nil {
		return nil, fmt.Errorf("sshserver: %w", err)
	}
	return s, nil
}

// configure sets what the library has no options for: the handshake's timeout, refusals, and the filter of channels.
func (s *Server) configure(l *ssh.Server) error {
	l.HandshakeTimeout = s.limits.Handshake
	l.ServerConfigCallback = s.handshake
	l.SubsystemHandlers = map[string]ssh.SubsystemHandler{}
	l.ChannelHandlers = map[string]ssh.ChannelHandler{"session": s.channel, "default": s.refuseChannel}
	l.RequestHandlers = map[string]ssh.RequestHandler{"default": s.refuseRequest}
	return nil
}

// Fingerprint returns the host key's fingerprint as clients show it.
func (s *Server) Fingerprint() string { return gossh.FingerprintSHA256(s.signer.PublicKey()) }

// ListenAndServe serves on a TCP address until ctx ends; then it shuts down and returns nil.
func (s *Server) ListenAndServe(ctx context.Context, address string) error {
	if s.options.AuthorizedKeys == "" {
		if err := loopbackOnly(ctx, address); err != nil {
			return err
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return s.Serve(ctx, l)
}

// loopbackOnly returns ErrExposed unless all addresses of a host are loopback addresses.
func loopbackOnly(ctx context.Context, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if host == "" {
		return fmt.Errorf("%w: %q is every address of this machine", ErrExposed, address)
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if !a.Unmap().IsLoopback() {
			return fmt.Errorf("%w: %s", ErrExposed, a)
		}
	}
	return nil
}

// Serve is like ListenAndServe on a listener, which it closes.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if ip := addressOf(l.Addr()); s.options.AuthorizedKeys == "" && !ip.IsLoopback() {
		return errors.Join(fmt.Errorf("%w: %s", ErrExposed, l.Addr()), l.Close())
	}
	s.audit.write(Event{Event: eventListen, What: l.Addr().String(), Key: s.Fingerprint()})
	s.log.Info("listening", "address", l.Addr().String(), "host key", s.Fingerprint())
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { s.watchKeys(watching) })
	served := make(chan error, 1)
	go func() { served <- s.ssh.Serve(l) }()
	var err error
	select {
	case err = <-served:
		if errors.Is(err, ssh.ErrServerClosed) {
			err = nil
		}
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	err = errors.Join(err, s.Shutdown(ending))
	stop()
	wg.Wait()
	return err
}

// Stopping returns a channel that is closed when the server begins to stop. From then on the owner of the exploration may
// close it: clients of commands that fail because of that are shown the reason.
func (s *Server) Stopping() <-chan struct{} { return s.stopping }

// Shutdown stops listening, notifies the sessions, ends them after Limits.Grace and returns when they have ended. It cuts off
// sessions that are open when ctx ends. It may be called more than once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop.Do(func() {
		defer close(s.stopped)
		s.sessions.close()
		close(s.stopping)
		listening, cancel := context.WithCancel(ctx)
		cancel()
		_ = s.ssh.Shutdown(listening) // closes the listener and does not wait
		open := s.sessions.all()
		s.audit.write(Event{Event: eventStop, What: format.Counted(len(open), "session")})
		for _, session := range open {
			session.notify("The server is stopping: running work is saved.")
		}
		grace, cancel := context.WithTimeout(ctx, s.limits.Grace)
		defer cancel()
		if s.sessions.wait(grace) != nil {
			for _, session := range s.sessions.all() {
				session.end(errStopped)
			}
		}
		if err := s.sessions.wait(ctx); err != nil {
			s.log.Warn("sessions were cut off", "sessions", len(s.sessions.all()))
		}
		// Let the last output reach the clients, which then close by themselves.
		parting, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = s.ssh.Shutdown(parting)
		_ = s.ssh.Close() // remaining connections
	})
	<-s.stopped
	return nil
}

// announce reports presence to the exploration. A failure is logged and has no other effect.
func (s *Server) announce(a explorer.Actor, c explorer.Command) {
	if _, err := s.options.Exploration.Do(context.Background(), a, c); err != nil && !errors.Is(err, explorer.ErrClosed) {
		s.log.Warn("presence", "name", a.Name, "err", err)
	}
}

// report logs the rejected lines of the key file.
func (s *Server) report(r *allowlist) {
	for _, p := range r.problems {
		s.log.Warn("authorized keys: " + p)
	}
	if len(r.principals) == 0 {
		s.log.Warn("authorized keys: no key is allowed")
	}
}

// watchKeys ends the sessions of keys that are no longer allowed, until ctx ends.
func (s *Server) watchKeys(ctx context.Context) {
	tick := time.NewTicker(s.limits.KeyPoll)
	defer tick.Stop()
	settled, _ := s.keys.load() // New has returned or logged its errors
	seen, failed := settled, false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now, err := s.keys.load()
		if err != nil {
			if failed {
				continue
			}
			now = &allowlist{}
		}
		agree := seen != nil && now.digest == seen.digest
		seen = now
		if !agree {
			continue // the file changed, or is being written
		}
		if failed = err != nil; failed {
			s.log.Error("all logins are refused", "err", err)
		}
		if settled == nil || settled.digest != now.digest {
			s.audit.write(Event{Event: eventKeys, What: format.Counted(len(now.principals), "key")})
			s.report(now)
		}
		settled = now
		s.recheck(settled)
	}
}

// recheck ends the sessions whose key was removed, expired or has other rights.
func (s *Server) recheck(r *allowlist) {
	now := time.Now()
	for _, session := range s.sessions.all() {
		p, ok := r.find(session.key)
		switch {
		case !ok || !p.admits(session.connection.RemoteAddr(), now):
			session.end(errRevoked)
		case p.role != session.actor.Role || p.name != session.actor.Name || p.noPTY != session.noPTY:
			session.end(errChanged)
		}
	}
}
