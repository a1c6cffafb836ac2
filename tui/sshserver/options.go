package sshserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
)

// Exploration is what sessions look at and give commands to.
type Exploration interface {
	Snapshot() *explorer.Snapshot
	Wait(ctx context.Context, revision uint64) error
	Do(ctx context.Context, a explorer.Actor, c explorer.Command) (explorer.Receipt, error)
}

var _ Exploration = (*explorer.Exploration)(nil)

// Options configure a Server.
type Options struct {
	Exploration Exploration

	// Program makes the interactive program of a session and the options it wants. Input, output, window size, colour
	// profile and context are the server's. ctx ends when the session does. nil: no interactive sessions.
	Program func(ctx context.Context, s *Session) (tea.Model, []tea.ProgramOption)
	// Commands runs the command line of `ssh host COMMAND` and returns its exit status. ctx ends when the client goes
	// away, sends ctrl+c or the server stops. nil: no commands.
	Commands func(ctx context.Context, c Command) int

	// AuthorizedKeys is the path of the authorized_keys file. It must exist when the server is made.
	AuthorizedKeys string
	// OwnKeys are files with one public key each whose holders are owners. They count only where AuthorizedKeys is "",
	// and the server then listens on loopback only. UserKeys finds those of the user who runs the process.
	OwnKeys []string
	// DefaultRole is the role of a key whose line names none.
	DefaultRole explorer.Role
	// HostKey is the path of the server's private key. It is made where it is not there.
	HostKey string

	Limits Limits
	Audit  io.Writer    // gets one JSON object a line; nil: no audit log
	Log    *slog.Logger // what the person who runs the server should know; nil: slog.Default
}

// Limits bound what clients may use. Zero fields take the values of DefaultLimits.
type Limits struct {
	Sessions       int     // open at once
	SessionsPerKey int     // open at once with one key
	Pending        int     // connections that have not authenticated yet; half of them from one address
	ConnectRate    float64 // new connections a second from one address, sustained
	ConnectBurst   int     // and at once

	Handshake time.Duration // from connecting to being authenticated
	Linger    time.Duration // a connection without a session
	Idle      time.Duration // no key, click or paste in an interactive session; negative: no limit
	Warning   time.Duration // how long before Idle and Longest the session is warned
	Longest   time.Duration // any session
	Stall     time.Duration // a write that the client does not take
	Grace     time.Duration // from telling sessions that the server stops to ending them

	Width, Height int // cells of a window; larger ones are drawn up to here
	// KeyPoll is how often the authorized_keys file is looked at. A change ends sessions once two looks agree on it, so
	// that a file caught half written does not throw everybody out.
	KeyPoll time.Duration
}

// DefaultLimits are meant for a team on one machine.
func DefaultLimits() Limits {
	return Limits{
		Sessions:       64,
		SessionsPerKey: 8,
		Pending:        32,
		ConnectRate:    2,
		ConnectBurst:   30,
		Handshake:      15 * time.Second,
		Linger:         time.Minute,
		Idle:           30 * time.Minute,
		Warning:        2 * time.Minute,
		Longest:        12 * time.Hour,
		Stall:          time.Minute,
		Grace:          2 * time.Second,
		Width:          400,
		Height:         150,
		KeyPoll:        time.Second,
	}
}

// filled returns l with the defaults in place of zero fields.
func (l Limits) filled() Limits {
	d := DefaultLimits()
	for _, f := range []struct{ have, want *int }{
		{&l.Sessions, &d.Sessions},
		{&l.SessionsPerKey, &d.SessionsPerKey},
		{&l.Pending, &d.Pending},
		{&l.ConnectBurst, &d.ConnectBurst},
		{&l.Width, &d.Width},
		{&l.Height, &d.Height},
	} {
		if *f.have <= 0 {
			*f.have = *f.want
		}
	}
	if l.ConnectRate <= 0 {
		l.ConnectRate = d.ConnectRate
	}
	if l.Idle == 0 {
		l.Idle = d.Idle
	}
	for _, f := range []struct{ have, want *time.Duration }{
		{&l.Handshake, &d.Handshake},
		{&l.Linger, &d.Linger},
		{&l.Longest, &d.Longest},
		{&l.Stall, &d.Stall},
		{&l.Grace, &d.Grace},
		{&l.KeyPoll, &d.KeyPoll},
	} {
		if *f.have <= 0 {
			*f.have = *f.want
		}
	}
	if l.Warning <= 0 {
		l.Warning = d.Warning
		if l.Idle > 0 {
			l.Warning = min(l.Warning, l.Idle/4)
		}
		l.Warning = min(l.Warning, l.Longest/4)
	}
	return l
}

// Errors that callers tell apart with errors.Is.
var (
	// ErrNoKeys: there is nobody who could log in: no authorized_keys file and no key of the user either.
	ErrNoKeys = errors.New("no public key is allowed in")
	// ErrExposed: the address can be reached from other machines and no authorized_keys file was given.
	ErrExposed = errors.New("will not listen beyond loopback without an authorized_keys file")
)

func (o Options) check() error {
	switch {
	case o.Exploration == nil:
		return errors.New("sshserver: no exploration")
	case o.Program == nil && o.Commands == nil:
		return errors.New("sshserver: neither a program nor commands")
	case o.HostKey == "":
		return errors.New("sshserver: no host key path")
	case o.AuthorizedKeys == "" && len(o.OwnKeys) == 0:
		return fmt.Errorf("%w: give an authorized_keys file, or make a key with ssh-keygen", ErrNoKeys)
	}
	return nil
}
