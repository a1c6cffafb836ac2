package sshserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"charm.land/ssh"
	"charm.land/wish/v2"
	gossh "golang.org/x/crypto/ssh"

	"github.com/lathe-llm/lathe/explorer"
)

// shutdownTime bounds how long a server takes to stop after it was asked to.
const shutdownTime = 10 * time.Second

// A Server serves an exploration over SSH. New makes one; it serves once.
type Server struct {
	options  Options
	limits   Limits
	log      *slog.Logger
	signer   gossh.Signer
	keys     *keyring
	gate     *gate
	audit    *auditor
	visitors *visitors
	presence *presence
	pacer    *pacer
	ssh      *ssh.Server

	stop     sync.Once
	stopping chan struct{} // closed when Shutdown begins
	stopped  chan struct{} // and when it has ended
}

// SessionInfo tells about an open session.
type SessionInfo struct {
	ID     string
	Name   string
	Role   explorer.Role
	Remote string
	What   string // "terminal", or the first words of a command
	Opened time.Time
}

// New checks the options, reads the keys and makes the host key where it is not there.
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
	s.visitors = &visitors{limits: s.limits, open: map[*visit]struct{}{}, left: make(chan struct{})}
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
		ssh.EmulatePty(), // a real one would take the resizes away from the program
		ssh.PublicKeyAuth(s.offered),
		ssh.WrapConn(s.connect),
		wish.WithVersion("lathe"),
		wish.WithMaxTimeout(s.limits.Longest+time.Minute), // sessions are told before
		s.configure,
		// The last one is the first to run.
		wish.WithMiddleware(s.run, s.admit, s.contain),
	)
	if err != nil {
		return nil, fmt.Errorf("sshserver: %w", err)
	}
	return s, nil
}

// configure sets what the library has no option for: the handshake's time, what is refused, and the filter of channels.
func (s *Server) configure(l *ssh.Server) error {
	l.HandshakeTimeout = s.limits.Handshake
	l.ServerConfigCallback = s.handshake
	l.SubsystemHandlers = map[string]ssh.SubsystemHandler{}
	l.ChannelHandlers = map[string]ssh.ChannelHandler{"session": s.channel, "default": s.refuseChannel}
	l.RequestHandlers = map[string]ssh.RequestHandler{"default": s.refuseRequest}
	return nil
}

// Fingerprint is the host key's, as clients show it.
func (s *Server) Fingerprint() string { return gossh.FingerprintSHA256(s.signer.PublicKey()) }

// Sessions lists the open sessions, the oldest first.
func (s *Server) Sessions() []SessionInfo {
	var list []SessionInfo
	for _, v := range s.visitors.all() {
		list = append(list, SessionInfo{v.id, v.actor.Name, v.actor.Role, v.remote, v.what, v.opened})
	}
	slices.SortFunc(list, func(a, b SessionInfo) int { return a.Opened.Compare(b.Opened) })
	return list
}

// ListenAndServe serves on a TCP address until ctx ends; it then shuts down and returns nil.
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

// loopbackOnly checks that an address leads nowhere but to this machine, before anything listens on it.
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

// Serve is ListenAndServe on a listener, which it closes.
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

// Stopping is closed when the server begins to stop. Whoever owns the work that sessions look at may break it off from then
// on: commands that end because of that tell their clients why.
func (s *Server) Stopping() <-chan struct{} { return s.stopping }

// Shutdown stops listening, tells the sessions, ends them after Limits.Grace and returns when they are gone; what is left
// when ctx ends is cut off. It is no error to call it twice.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop.Do(func() {
		defer close(s.stopped)
		s.visitors.close()
		close(s.stopping)
		listening, cancel := context.WithCancel(ctx)
		cancel()
		_ = s.ssh.Shutdown(listening) // closes the listener and does not wait
		open := s.visitors.all()
		s.audit.write(Event{Event: eventStop, What: fmt.Sprintf("%d sessions", len(open))})
		for _, v := range open {
			v.tell("The server stops now: work that runs is kept.")
		}
		grace, cancel := context.WithTimeout(ctx, s.limits.Grace)
		defer cancel()
		if s.visitors.wait(grace) != nil {
			for _, v := range s.visitors.all() {
				v.end(errStopped)
			}
		}
		if err := s.visitors.wait(ctx); err != nil {
			s.log.Warn("sessions were cut off", "sessions", len(s.visitors.all()))
		}
		// What was written last must reach the clients, which then close by themselves.
		parting, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = s.ssh.Shutdown(parting)
		_ = s.ssh.Close() // of the rest
	})
	<-s.stopped
	return nil
}

// announce tells the exploration who is there. That nobody is told where this fails is all that it costs.
func (s *Server) announce(a explorer.Actor, c explorer.Command) {
	if _, err := s.options.Exploration.Do(context.Background(), a, c); err != nil && !errors.Is(err, explorer.ErrClosed) {
		s.log.Warn("presence", "name", a.Name, "err", err)
	}
}

// report logs the lines of the key file that let nobody in.
func (s *Server) report(r *roll) {
	for _, p := range r.problems {
		s.log.Warn("authorized keys: " + p)
	}
	if len(r.holders) == 0 {
		s.log.Warn("authorized keys: no key is allowed in")
	}
}

// watchKeys ends the sessions of keys that are no longer allowed in, until ctx ends.
func (s *Server) watchKeys(ctx context.Context) {
	tick := time.NewTicker(s.limits.KeyPoll)
	defer tick.Stop()
	settled, _ := s.keys.load() // New has reported what is wrong with it
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
			now = &roll{}
		}
		agree := seen != nil && now.digest == seen.digest
		seen = now
		if !agree {
			continue // a change, or half of one
		}
		if failed = err != nil; failed {
			s.log.Error("nobody can log in", "err", err)
		}
		if settled == nil || settled.digest != now.digest {
			s.audit.write(Event{Event: eventKeys, What: fmt.Sprintf("%d keys", len(now.holders))})
			s.report(now)
		}
		settled = now
		s.recheck(settled)
	}
}

// recheck ends sessions whose key is gone, expired or has other rights.
func (s *Server) recheck(r *roll) {
	now := time.Now()
	for _, v := range s.visitors.all() {
		h, ok := r.find(v.key)
		switch {
		case !ok || !h.admits(v.connection.RemoteAddr(), now):
			v.end(errRevoked)
		case h.role != v.actor.Role || h.name != v.actor.Name || h.noPTY != v.noPTY:
			v.end(errChanged)
		}
	}
}
