package sshserver

import (
	"context"
	"net"
	"sync"
	"time"
)

// The rate at which one connection may send, in bytes per second, and its burst, in bytes: enough to upload a recipe, too
// little to keep a core busy with requests.
const (
	inboundRate  = 1 << 20
	inboundBurst = 1 << 20
)

// A connection is a client's connection, with its admission, its budget of incoming bytes and a timer that closes it if it has
// no session.
type connection struct {
	net.Conn
	admission *admission
	opened    time.Time
	budget    *throttle
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	linger    time.Duration

	mu       sync.Mutex
	channels int
	running  int // sessions
	unused   *time.Timer
}

func newConnection(c net.Conn, p *admission, linger time.Duration) *connection {
	ctx, cancel := context.WithCancel(context.Background())
	return &connection{
		Conn: c, admission: p, linger: linger, opened: time.Now(), ctx: ctx, cancel: cancel,
		budget: newThrottle(inboundRate, inboundBurst),
	}
}

// Read reads, then waits until the budget allows the bytes read.
func (c *connection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:min(len(b), inboundBurst)])
	if n > 0 && !c.budget.take(c.ctx, n) && err == nil {
		err = net.ErrClosed
	}
	return n, err
}

// Close closes the connection and releases its admission.
func (c *connection) Close() error {
	c.cancel()
	c.admission.release()
	c.mu.Lock()
	if c.unused != nil {
		c.unused.Stop()
	}
	c.mu.Unlock()
	return c.Conn.Close()
}

// cut closes the connection and ignores errors.
func (c *connection) cut() { _ = c.Close() }

// authenticated starts the timer within which a session must begin.
func (c *connection) authenticated() {
	c.admission.authenticated()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wait()
}

// enter counts a new channel; it reports false if there are too many.
func (c *connection) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.channels >= maxChannels {
		return false
	}
	c.channels++
	return true
}

// leave counts the end of a channel.
func (c *connection) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.channels--
}

// begin counts a new session.
func (c *connection) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running++
	if c.unused != nil {
		c.unused.Stop()
	}
}

// end counts the end of a session.
func (c *connection) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	c.wait()
}

// wait starts the timer if no session runs. The caller holds mu.
func (c *connection) wait() {
	if c.running > 0 || c.ctx.Err() != nil {
		return
	}
	if c.unused != nil {
		c.unused.Stop()
	}
	c.unused = time.AfterFunc(c.linger, func() {
		c.mu.Lock()
		unused := c.running == 0
		c.mu.Unlock()
		if unused {
			c.cut()
		}
	})
}
