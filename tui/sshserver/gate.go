package sshserver

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxAddresses bounds how many addresses the gate remembers. Beyond it, addresses that have not been seen for a while are
// forgotten, and where all are busy new ones have to wait.
const maxAddresses = 4096

// A gate decides which connections are served at all, before a byte of SSH is spoken.
type gate struct {
	limits Limits
	now    func() time.Time

	mu        sync.Mutex
	addresses map[netip.Addr]*visitor
	pending   int // not authenticated yet
	open      int // all
}

// visitor is what the gate knows of one address; of an IPv6 address it is the /64 that counts.
type visitor struct {
	rate    *rate.Limiter
	pending int
}

// A pass is one connection's leave to be served.
type pass struct {
	gate    *gate
	from    netip.Addr
	pending bool // guarded by gate.mu
	done    bool
}

func newGate(l Limits) *gate {
	return &gate{limits: l, now: time.Now, addresses: map[netip.Addr]*visitor{}}
}

// admit returns a pass, or why there is none.
func (g *gate) admit(from net.Addr) (*pass, string) {
	key := addressOf(from)
	if key.Is6() {
		if p, err := key.Prefix(64); err == nil {
			key = p.Addr()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.addresses[key]
	if v == nil {
		if len(g.addresses) >= maxAddresses && !g.forget() {
			return nil, "too many addresses"
		}
		v = &visitor{rate: rate.NewLimiter(rate.Limit(g.limits.ConnectRate), g.limits.ConnectBurst)}
		g.addresses[key] = v
	}
	switch {
	case !v.rate.AllowN(g.now(), 1):
		return nil, "too many connections from this address"
	case g.pending >= g.limits.Pending:
		return nil, "too many connections that have not logged in"
	case v.pending >= max(1, g.limits.Pending/2):
		return nil, "too many connections from this address that have not logged in"
	case g.open >= g.limits.Pending+g.limits.Sessions:
		return nil, "too many connections"
	}
	g.pending++
	g.open++
	v.pending++
	return &pass{gate: g, from: key, pending: true}, ""
}

// forget drops the addresses that could come again at full rate, and reports whether there were any.
func (g *gate) forget() bool {
	before := len(g.addresses)
	for a, v := range g.addresses {
		if v.pending == 0 && v.rate.TokensAt(g.now()) >= float64(g.limits.ConnectBurst) {
			delete(g.addresses, a)
		}
	}
	return len(g.addresses) < before
}

// authenticated takes the connection out of those that have not logged in.
func (p *pass) authenticated() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.settle()
}

// release gives the pass back. Giving it back twice is no error.
func (p *pass) release() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	if p.done {
		return
	}
	p.done = true
	p.settle()
	p.gate.open--
}

func (p *pass) settle() {
	if p.pending {
		p.pending = false
		p.gate.pending--
		p.gate.addresses[p.from].pending--
	}
}
