package sshserver

import (
	"context"
	"errors"
	"sync"

	"github.com/lathe-llm/lathe/explorer"
)

// How many commands one session may give to the exploration, sustained and at once. Each publishes a snapshot that all
// viewers look at.
const (
	commandsPerSecond = 50 // more than a held key gives
	commandsAtOnce    = 200
)

// Errors of commands that a session may not give.
var (
	// ErrTooFast: the session gives more commands than one session may.
	ErrTooFast = errors.New("too many commands at once: wait a moment")
	// ErrFiles: the command names a file of the server's machine, which only owners may do.
	ErrFiles = errors.New("only owners may name files of the server's machine: `ssh HOST subnets export SUBNET -o - > FILE` brings one home")
)

// A desk is the exploration as one session sees it. Whatever actor a command names, the session's own gives it; what is
// done is audited, and who is there is counted by the server.
type desk struct {
	server *Server
	visit  *visit
	budget *throttle
	files  bool // commands may name files of the server's machine

	mu    sync.Mutex
	where string // what the session last said it looks at
}

func newDesk(s *Server, v *visit, files bool) *desk {
	return &desk{server: s, visit: v, files: files, budget: newThrottle(commandsPerSecond, commandsAtOnce)}
}

// Snapshot is the newest state.
func (d *desk) Snapshot() *explorer.Snapshot { return d.server.options.Exploration.Snapshot() }

// Wait returns when there is something newer than revision.
func (d *desk) Wait(ctx context.Context, revision uint64) error {
	return d.server.options.Exploration.Wait(ctx, revision)
}

// Do carries a command out in the name of the session's holder.
func (d *desk) Do(ctx context.Context, _ explorer.Actor, c explorer.Command) (explorer.Receipt, error) {
	switch c := c.(type) {
	case explorer.Attach:
		return explorer.Receipt{}, d.attach(ctx, c)
	case explorer.Detach:
		return explorer.Receipt{}, nil // the server does it when the holder's last session ends
	}
	if !d.budget.allow() {
		return explorer.Receipt{}, ErrTooFast
	}
	var r explorer.Receipt
	err := ErrFiles
	if d.files || !namesFile(c) {
		r, err = d.server.options.Exploration.Do(ctx, d.visit.actor, c)
	}
	e := d.visit.event(eventDo)
	e.What, e.Result = describe(c), outcome(err)
	d.server.audit.write(e)
	return r, err
}

// attach says where the holder is, unless that is known.
func (d *desk) attach(ctx context.Context, c explorer.Attach) error {
	d.mu.Lock()
	news := c.Where != d.where
	d.where = c.Where
	d.mu.Unlock()
	if !news || !d.budget.allow() {
		return nil
	}
	_, err := d.server.options.Exploration.Do(ctx, d.visit.actor, c)
	return err
}

// namesFile reports whether a command names a file or folder to read or to write. Whoever may give it can find out what is
// on the machine, and write over what its user may write.
func namesFile(c explorer.Command) bool {
	switch c := c.(type) {
	case explorer.Export, explorer.ExportRecipe, explorer.BuildRecipe, explorer.ImportFile:
		return true
	case explorer.GatherStatistics:
		return c.Calibration.Text != ""
	case explorer.Cut:
		return c.Calibration.Text != ""
	case explorer.Refit:
		return c.Calibration.Text != ""
	case explorer.StartSearch:
		return c.Calibration.Text != ""
	case explorer.Measure:
		return c.Text != ""
	}
	return false
}

// presence counts the interactive sessions of each holder, who is present as long as there is one.
type presence struct {
	mu    sync.Mutex
	count map[string]int
	do    func(explorer.Actor, explorer.Command)
}

// enter announces a holder's first session. Order matters, so the announcement is made under the lock.
func (p *presence) enter(a explorer.Actor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count[a.Name]++
	p.do(a, explorer.Attach{})
}

// leave takes the announcement back with the last one.
func (p *presence) leave(a explorer.Actor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count[a.Name]--; p.count[a.Name] == 0 {
		delete(p.count, a.Name)
		p.do(a, explorer.Detach{})
	}
}
