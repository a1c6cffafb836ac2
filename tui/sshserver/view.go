package sshserver

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/lathe-llm/lathe/explorer"
)

// The rate of commands of one session, per second, and their burst. Each command publishes a snapshot that all viewers read.
const (
	commandsPerSecond = 50 // more than a held key sends
	commandsAtOnce    = 200
)

// Errors of commands that a session may not run.
var (
	// ErrTooFast: the session exceeds the rate of commands.
	ErrTooFast = errors.New("too many commands: wait a moment")
	// ErrFiles: the command names a file of the server's machine, which is reserved to owners.
	ErrFiles = errors.New("only owners may name files of the server's machine; to download a subnet, run `ssh HOST subnets export SUBNET -o - > FILE`")
)

// A sessionView is the exploration as one session uses it. It runs all commands as the session's principal, whatever actor they
// name, and audits them.
type sessionView struct {
	server  *Server
	session *session
	budget  *throttle
	files   bool // commands may name files of the server's machine

	mu    sync.Mutex
	where string // the screen of the last Attach
}

func newSessionView(s *Server, v *session, files bool) *sessionView {
	return &sessionView{server: s, session: v, files: files, budget: newThrottle(commandsPerSecond, commandsAtOnce)}
}

// Snapshot returns the newest state.
func (v *sessionView) Snapshot() *explorer.Snapshot { return v.server.options.Exploration.Snapshot() }

// Wait returns when there is a snapshot newer than revision.
func (v *sessionView) Wait(ctx context.Context, revision uint64) error {
	return v.server.options.Exploration.Wait(ctx, revision)
}

// Do runs a command as the session's principal.
func (v *sessionView) Do(ctx context.Context, _ explorer.Actor, c explorer.Command) (explorer.Receipt, error) {
	switch c := c.(type) {
	case explorer.Attach:
		return explorer.Receipt{}, v.attach(ctx, c)
	case explorer.Detach:
		return explorer.Receipt{}, nil // the server detaches the principal after the last session
	}
	if !v.budget.allow() {
		return explorer.Receipt{}, ErrTooFast
	}
	var r explorer.Receipt
	err := ErrFiles
	if v.files || !namesFile(c) {
		r, err = v.server.options.Exploration.Do(ctx, v.session.actor, c)
	}
	e := v.session.event(eventDo)
	e.What, e.Result = describe(c), outcome(err)
	v.server.audit.write(e)
	return r, err
}

// attach reports the screen that the principal looks at, if it changed.
func (v *sessionView) attach(ctx context.Context, c explorer.Attach) error {
	v.mu.Lock()
	changed := c.Where != v.where
	v.where = c.Where
	v.mu.Unlock()
	if !changed || !v.budget.allow() {
		return nil
	}
	_, err := v.server.options.Exploration.Do(ctx, v.session.actor, c)
	return err
}

// namesFile reports whether a command names a file or folder to read or to write. Such commands can reveal files of the machine
// and overwrite those that its user may write.
func namesFile(c explorer.Command) bool {
	switch c := c.(type) {
	case explorer.Export, explorer.ExportRecipe, explorer.BuildRecipe, explorer.ImportFile:
		return true
	case explorer.GatherStatistics:
		return c.Calibration.NamesFile() || c.Machines.NamesFile()
	case explorer.Cut:
		return c.Calibration.NamesFile()
	case explorer.Refit:
		return c.Calibration.NamesFile()
	case explorer.Tune:
		return c.Calibration.NamesFile()
	case explorer.TrimVocab:
		return c.Calibration.NamesFile()
	case explorer.StartSearch:
		return c.Calibration.NamesFile() || c.Machines.NamesFile()
	case explorer.MeasureAll:
		return c.Machines.NamesFile() || slices.ContainsFunc(c.Of, func(of explorer.Measure) bool { return namesFile(of) })
	case explorer.Measure:
		return c.Text != "" || c.Against != "" && c.Against != explorer.AgainstDense
	}
	return false
}

// presence counts the interactive sessions of each principal, who is present while there is one.
type presence struct {
	mu    sync.Mutex
	count map[string]int
	do    func(explorer.Actor, explorer.Command)
}

// enter announces a principal's first session, under the lock, to keep the order of announcements.
func (p *presence) enter(a explorer.Actor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count[a.Name]++
	p.do(a, explorer.Attach{})
}

// leave revokes the announcement with the last session.
func (p *presence) leave(a explorer.Actor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count[a.Name]--; p.count[a.Name] == 0 {
		delete(p.count, a.Name)
		p.do(a, explorer.Detach{})
	}
}
