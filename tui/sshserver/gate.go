package sshserver

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxAddresses is the number of addresses that the gate remembers. Beyond it, it forgets addresses without recent
// connections, and refuses new ones if there are none to forget.
const maxAddresses = 4096

// A gate decides which connections are served, before the first byte of SSH.
type gate struct {
	limits Limits
	now    func() time.Time

	mu        sync.Mutex
	addresses map[netip.Addr]*client
	pending   int // not authenticated yet
	open      int // all
}

// client is the state of one address, or of one /64 for IPv6.
type client struct {
	rate    *rate.Limiter
	pending int
}

// An admission is the permission to serve one connection.
type admission struct {
	gate    *gate
	from    netip.Addr
	pending bool // guarded by gate.mu
	done    bool
}

func newGate(l Limits) *gate {
	return &gate{limits: l, now: time.Now, addresses: map[netip.Addr]*client{}}
}

// admit returns an admission, or nil and the reason for refusing the connection.
func (g *gate) admit(from net.Addr) (*admission, string) {
	key := addressOf(from)
	if key.Is6() {
		if p, err := key.Prefix(64); err == nil {
			key = p.Addr()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.addresses[key]
	if c == nil {
		if len(g.addresses) >= maxAddresses && !g.forget() {
			return nil, "too many addresses"
		}
		c = &client{rate: rate.NewLimiter(rate.Limit(g.limits.ConnectRate), g.limits.ConnectBurst)}
		g.addresses[key] = c
	}
	switch {
	case !c.rate.AllowN(g.now(), 1):
		return nil, "too many connections from this address"
	case g.pending >= g.limits.Pending:
		return nil, "too many connections that have not logged in"
	case c.pending >= max(1, g.limits.Pending/2):
		return nil, "too many connections from this address that have not logged in"
	case g.open >= g.limits.Pending+g.limits.Sessions:
		return nil, "too many connections"
	}
	g.pending++
	g.open++
	c.pending++
	return &admission{gate: g, from: key, pending: true}, ""
}

// forget removes the addresses whose rate is fully restored, and reports whether there were any.
func (g *gate) forget() bool {
	before := len(g.addresses)
	for a, c := range g.addresses {
		if c.pending == 0 && c.rate.TokensAt(g.now()) >= float64(g.limits.ConnectBurst) {
			delete(g.addresses, a)
		}
	}
	return len(g.addresses) < before
}

// authenticated removes the connection from those that have not logged in.
func (p *admission) authenticated() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.settle()
}

// release ends the admission. It may be called more than once.
func (p *admission) release() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	if p.done {
		return
	}
	p.done = true
	p.settle()
	p.gate.open--
}

func (p *admission) settle() {
	if p.pending {
		p.pending = false
		p.gate.pending--
		p.gate.addresses[p.from].pending--
	}
}
