package sshserver

import (
	"context"
	"encoding/binary"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"charm.land/ssh"
	gossh "golang.org/x/crypto/ssh"
)

// Limits of the requests of one connection and channel.
const (
	maxChannels       = 4   // sessions over one connection
	requestsPerSecond = 100 // of a channel, sustained
	requestsAtOnce    = 200
	maxCommandLine    = 32 << 10 // bytes
	maxTerm           = 64       // bytes of a terminal's name
	maxEnvValue       = 128      // bytes
	maxKeyMap         = 16 << 10 // bytes of LATHE_KEYS
	maxEnv            = 16       // variables
	defaultWidth      = 80
	defaultHeight     = 24
)

// environment lists the variables that a client may set: they describe its terminal and the preferences of its user. A name
// that ends in * stands for all names with that prefix.
const environment = "LANG LC_* COLORTERM NO_COLOR CLICOLOR CLICOLOR_FORCE TERM_PROGRAM TERM_PROGRAM_VERSION LATHE_COLOR LATHE_THEME LATHE_ASCII LATHE_KEYS"

// keysVariable is the variable of environment that holds a key map.
const keysVariable = "LATHE_KEYS"

// size is a window's size in cells.
type size struct{ width, height int }

// termLetters are the characters that a terminal's name may have: it becomes part of paths in the terminal database.
const termLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-._"

// A channel filters the requests of a session channel before the library's session gets them: those that the library accepts
// without limit (environment, resizes, signals) are checked, and those that it would accept and ignore (agent forwarding) are
// refused.
type channel struct {
	gossh.NewChannel
	limits  Limits
	refused func(what string)
	ctx     context.Context // ends with the channel
	cancel  context.CancelFunc
	signals chan string // the first signal that was not handled yet
	budget  *throttle   // of requests

	mu      sync.Mutex
	size    size
	resized chan struct{} // has a token if size changed
}

func newChannel(ctx context.Context, n gossh.NewChannel, l Limits, refused func(string)) *channel {
	ctx, cancel := context.WithCancel(ctx)
	return &channel{
		NewChannel: n, limits: l, refused: refused, ctx: ctx, cancel: cancel, budget: newThrottle(requestsPerSecond, requestsAtOnce),
		size: size{defaultWidth, defaultHeight}, signals: make(chan string, 1), resized: make(chan struct{}, 1),
	}
}

// Accept accepts the channel and filters its requests.
func (c *channel) Accept() (gossh.Channel, <-chan *gossh.Request, error) {
	ch, requests, err := c.NewChannel.Accept()
	if err != nil {
		c.cancel()
		return nil, nil, err
	}
	passed := make(chan *gossh.Request)
	go c.filter(requests, passed)
	return ch, passed, nil
}

// filter answers requests or passes them on, until the client closes the channel.
func (c *channel) filter(requests <-chan *gossh.Request, passed chan<- *gossh.Request) {
	defer close(passed)
	defer c.cancel()
	reported := map[string]bool{}
	variables := 0
	for r := range requests {
		if !c.budget.take(c.ctx, 1) {
			gossh.DiscardRequests(requests)
			return
		}
		ok := false
		switch r.Type {
		case "shell":
			ok = true
		case "exec":
			ok = len(r.Payload) <= maxCommandLine
		case "env":
			if ok = variables < maxEnv && allowedVariable(r.Payload); ok {
				variables++
			}
		case "pty-req":
			ok = c.terminal(r)
		case "window-change":
			s, good := parseSize(r.Payload)
			if good {
				c.resize(s)
			}
			c.answer(r, good)
			continue
		case "signal":
			c.signal(r.Payload)
			c.answer(r, true)
			continue
		}
		if ok {
			select {
			case passed <- r:
			case <-c.ctx.Done():
				gossh.DiscardRequests(requests)
				return
			}
			continue
		}
		c.answer(r, false)
		if what := refusal(r); !reported[what] {
			reported[what] = true
			c.refused(what)
		}
	}
}

// answer replies to a request; the client may have disconnected.
func (c *channel) answer(r *gossh.Request, ok bool) { _ = r.Reply(ok, nil) }

// refusal returns one of a fixed set of names of a refused request, for the audit log.
func refusal(r *gossh.Request) string {
	switch r.Type {
	case "subsystem":
		if name, _, ok := cutString(r.Payload); ok && name == "sftp" {
			return "sftp"
		}
		return "subsystem"
	case "auth-agent-req@openssh.com":
		return "agent forwarding"
	case "x11-req":
		return "X11 forwarding"
	case "exec", "env", "pty-req":
		return r.Type
	}
	return "other request"
}

// terminal checks a request for a terminal and rewrites it, with a size within the limits and without modes.
func (c *channel) terminal(r *gossh.Request) bool {
	term, rest, ok := cutString(r.Payload)
	if !ok || len(term) > maxTerm || strings.Trim(term, termLetters) != "" {
		return false
	}
	s, ok := parseSize(rest)
	if !ok {
		return false
	}
	c.mu.Lock()
	c.size = s.within(c.limits)
	s = c.size
	c.mu.Unlock()
	r.Payload = gossh.Marshal(struct {
		Term                         string
		Width, Height, PixelW, Pixel uint32
		Modes                        string
	}{Term: term, Width: uint32(s.width), Height: uint32(s.height)})
	return true
}

// resize stores the newest size. It never blocks.
func (c *channel) resize(s size) {
	c.mu.Lock()
	c.size = s.within(c.limits)
	c.mu.Unlock()
	select {
	case c.resized <- struct{}{}:
	default:
	}
}

// window returns the newest size.
func (c *channel) window() size {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

func (c *channel) signal(payload []byte) {
	if name, _, ok := cutString(payload); ok {
		select {
		case c.signals <- name:
		default:
		}
	}
}

// within clamps a size; zero, which means unknown, becomes the default.
func (s size) within(l Limits) size {
	if s.width <= 0 {
		s.width = defaultWidth
	}
	if s.height <= 0 {
		s.height = defaultHeight
	}
	return size{min(s.width, l.Width), min(s.height, l.Height)}
}

// allowedVariable reports whether an env request sets a variable of the list to a short printable value.
func allowedVariable(payload []byte) bool {
	name, rest, ok := cutString(payload)
	if !ok {
		return false
	}
	value, _, ok := cutString(rest)
	longest, control := maxEnvValue, unicode.IsControl
	if name == keysVariable { // a file of lines
		longest, control = maxKeyMap, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' }
	}
	if !ok || len(value) > longest || !utf8.ValidString(value) || strings.ContainsFunc(value, control) {
		return false
	}
	for _, allowed := range strings.Fields(environment) {
		prefix, open := strings.CutSuffix(allowed, "*")
		if name == allowed || open && len(name) <= 32 && strings.HasPrefix(name, prefix) && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == "" {
			return true
		}
	}
	return false
}

// cutString returns the SSH string at the start of a payload, and the rest.
func cutString(b []byte) (text string, rest []byte, ok bool) {
	if len(b) < 4 {
		return "", nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if uint64(n) > uint64(len(b)-4) {
		return "", nil, false
	}
	return string(b[4 : 4+n]), b[4+n:], true
}

// parseSize reads columns and rows at the start of a payload.
func parseSize(b []byte) (size, bool) {
	if len(b) < 8 {
		return size{}, false
	}
	const huge = 1 << 20 // far beyond any limit, and an int everywhere
	w, h := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	return size{int(min(w, huge)), int(min(h, huge))}, true
}

// channelContext is the library's context of a connection with values of one channel, so that what the library sets for a
// session (such as its terminal) does not affect other sessions of the connection.
type channelContext struct {
	ssh.Context
	channel *channel

	mu     sync.Mutex
	values map[any]any
}

// SetValue sets a value of this channel.
func (c *channelContext) SetValue(key, value any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil {
		c.values = map[any]any{}
	}
	c.values[key] = value
}

// Value returns the channel's value, else the connection's.
func (c *channelContext) Value(key any) any {
	c.mu.Lock()
	v, ok := c.values[key]
	c.mu.Unlock()
	if ok {
		return v
	}
	return c.Context.Value(key)
}

// Done is closed when the channel ends.
func (c *channelContext) Done() <-chan struct{} { return c.channel.ctx.Done() }

// Err returns the reason for closing Done.
func (c *channelContext) Err() error { return c.channel.ctx.Err() }
