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

// Exploration is the part of an exploration that sessions use.
type Exploration interface {
	Snapshot() *explorer.Snapshot
	Wait(ctx context.Context, revision uint64) error
	Do(ctx context.Context, a explorer.Actor, c explorer.Command) (explorer.Receipt, error)
}

var _ Exploration = (*explorer.Exploration)(nil)

// Options configure a Server.
type Options struct {
	Exploration Exploration

	// Program returns the interactive program of a session and its options. The server sets input, output, window size and
	// context. ctx ends with the session. nil: no interactive sessions.
	Program func(ctx context.Context, s *Session) (tea.Model, []tea.ProgramOption)
	// Commands runs the command line of `ssh host COMMAND` and returns its exit status. ctx ends when the client
	// disconnects or sends ctrl+c, or the server stops. nil: no commands.
	Commands func(ctx context.Context, c Command) int

	// AuthorizedKeys is the path of the authorized_keys file, which must exist when New is called.
	AuthorizedKeys string
	// OwnKeys are files with one public key each, of owners. They are used only if AuthorizedKeys is "", and the server then
	// listens on loopback only. UserKeys returns those of the user who runs the process.
	OwnKeys []string
	// DefaultRole is the role of a key whose line sets none.
	DefaultRole explorer.Role
	// HostKey is the path of the server's private key, which New creates if it does not exist.
	HostKey string

	Limits Limits
	Audit  io.Writer    // receives one JSON object per line; nil: no audit log
	Log    *slog.Logger // for the operator; nil: slog.Default
}

// Limits bound what clients may use. Zero fields default to those of DefaultLimits.
type Limits struct {
	Sessions       int     // open sessions
	SessionsPerKey int     // open sessions with one key
	Pending        int     // connections before authentication; at most half of them from one address
	ConnectRate    float64 // new connections per second from one address, sustained
	ConnectBurst   int     // new connections from one address at once

	Handshake time.Duration // from connection to authentication
	Linger    time.Duration // of a connection without a session
	Idle      time.Duration // of an interactive session without input; negative: no limit
	Warning   time.Duration // between a warning and the end of a session by Idle or Longest
	Longest   time.Duration // of any session
	Stall     time.Duration // of a write to the client
	Grace     time.Duration // between notifying sessions of the server's stop and ending them

	Width, Height int // of a window, in cells; larger windows are drawn up to this size
	// KeyPoll is the interval of reading the authorized_keys file. A change ends sessions once two reads agree on it, so that
	// reading a partially written file does not end all sessions.
	KeyPoll time.Duration
}

// DefaultLimits returns limits for a team on one machine.
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

// filled returns l with zero fields set to their defaults.
func (l Limits) filled() Limits {
	d := DefaultLimits()
	for _, f := range []struct{ field, preset *int }{
		{&l.Sessions, &d.Sessions},
		{&l.SessionsPerKey, &d.SessionsPerKey},
		{&l.Pending, &d.Pending},
		{&l.ConnectBurst, &d.ConnectBurst},
		{&l.Width, &d.Width},
		{&l.Height, &d.Height},
	} {
		if *f.field <= 0 {
			*f.field = *f.preset
		}
	}
	if l.ConnectRate <= 0 {
		l.ConnectRate = d.ConnectRate
	}
	if l.Idle == 0 {
		l.Idle = d.Idle
	}
	for _, f := range []struct{ field, preset *time.Duration }{
		{&l.Handshake, &d.Handshake},
		{&l.Linger, &d.Linger},
		{&l.Longest, &d.Longest},
		{&l.Stall, &d.Stall},
		{&l.Grace, &d.Grace},
		{&l.KeyPoll, &d.KeyPoll},
	} {
		if *f.field <= 0 {
			*f.field = *f.preset
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

// Errors of New and Serve, for errors.Is.
var (
	// ErrNoKeys: nobody could log in, since there is neither an authorized_keys file nor a key of the user.
	ErrNoKeys = errors.New("no public key is allowed")
	// ErrExposed: the address is reachable from other machines and there is no authorized_keys file.
	ErrExposed = errors.New("listening beyond loopback requires an authorized_keys file")
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
