package sshserver

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"
)

func tcp(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }

// still is a clock that advances only when a test moves it.
type still struct{ now time.Time }

func (s *still) Now() time.Time { return s.now }

// pass makes a throttle go by this time, which passes while it waits and at no other moment.
func (s *still) pass(t *throttle) {
	t.now = s.Now
	t.sleep = func(ctx context.Context, d time.Duration) bool {
		s.now = s.now.Add(d)
		return ctx.Err() != nil
	}
}

func testGate(l Limits) (*gate, *still) {
	clock := &still{time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}
	g := newGate(l.filled())
	g.now = clock.Now
	return g, clock
}

func TestGateLimitsTheRateOfOneAddress(t *testing.T) {
	g, clock := testGate(Limits{ConnectRate: 1, ConnectBurst: 3, Pending: 100})
	admitted := func(ip string) bool {
		p, _ := g.admit(tcp(ip))
		if p != nil {
			p.release()
		}
		return p != nil
	}
	for i := range 5 {
		if got := admitted("192.0.2.1"); got != (i < 3) {
			t.Errorf("connection %d: %v", i, got)
		}
	}
	if !admitted("192.0.2.2") {
		t.Error("another address has to wait too")
	}
	clock.now = clock.now.Add(time.Second)
	if !admitted("192.0.2.1") || admitted("192.0.2.1") {
		t.Error("one more a second")
	}
	for i := range 4 {
		if got := admitted(fmt.Sprintf("2001:db8::%d", i+1)); got != (i < 3) {
			t.Errorf("address %d of one IPv6 network: %v", i, got)
		}
	}
}

func TestGateLimitsThoseWhoHaveNotLoggedIn(t *testing.T) {
	g, _ := testGate(Limits{Pending: 4, Sessions: 2, ConnectBurst: 100})
	var all []*admission
	admit := func(ip string, want bool) {
		t.Helper()
		p, why := g.admit(tcp(ip))
		if (p != nil) != want {
			t.Fatalf("%s: %v %s", ip, p != nil, why)
		}
		if p != nil {
			all = append(all, p)
		}
	}
	admit("192.0.2.1", true)
	admit("192.0.2.1", true)
	admit("192.0.2.1", false) // half of them are for others
	admit("192.0.2.2", true)
	admit("192.0.2.3", true)
	admit("192.0.2.4", false)
	all[0].authenticated()
	all[0].authenticated()
	admit("192.0.2.4", true)
	for _, p := range all {
		p.authenticated()
	}
	admit("192.0.2.5", true)
	admit("192.0.2.6", false) // Pending + Sessions in all
	for _, p := range all {
		p.release()
		p.release()
	}
	if g.open != 0 || g.pending != 0 {
		t.Errorf("open %d, pending %d", g.open, g.pending)
	}
}

func TestGateForgetsAddresses(t *testing.T) {
	g, clock := testGate(Limits{ConnectRate: 1, ConnectBurst: 2, Pending: 10})
	come := func(i int) bool {
		p, _ := g.admit(tcp(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)))
		if p != nil {
			p.release()
		}
		return p != nil
	}
	for i := range maxAddresses {
		if !come(i) {
			t.Fatal(i)
		}
	}
	if come(maxAddresses) {
		t.Error("more addresses are kept than there is room for")
	}
	clock.now = clock.now.Add(time.Minute)
	if !come(maxAddresses) || len(g.addresses) > maxAddresses {
		t.Errorf("addresses that were long not seen are not forgotten: %d", len(g.addresses))
	}
}
