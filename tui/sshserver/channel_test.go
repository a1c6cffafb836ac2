package sshserver

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// str is an SSH string.
func str(text string) []byte { return gossh.Marshal(struct{ S string }{text}) }

func TestForwardingAndSubsystemsAreRefused(t *testing.T) {
	f := serve(t, nil)
	c := f.connect(f.owner)
	if l, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
		t.Error("remote forwarding works")
	}
	if conn, err := c.Dial("tcp", f.address); err == nil {
		conn.Close()
		t.Error("local forwarding works")
	}
	if conn, err := c.Dial("unix", "/tmp/socket"); err == nil {
		conn.Close()
		t.Error("socket forwarding works")
	}
	for _, kind := range []string{"x11", "auth-agent@openssh.com", "tun@openssh.com", "anything"} {
		if ch, _, err := c.OpenChannel(kind, nil); err == nil {
			ch.Close()
			t.Errorf("a channel of type %s opens", kind)
		}
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, r := range []struct {
		kind    string
		payload []byte
	}{
		{"subsystem", str("sftp")},
		{"subsystem", str("default")},
		{"auth-agent-req@openssh.com", nil},
		{"x11-req", make([]byte, 16)},
		{"anything", nil},
	} {
		if ok, err := s.SendRequest(r.kind, true, r.payload); ok || err != nil {
			t.Errorf("%s: %v, %v", r.kind, ok, err)
		}
	}
	if out, err := s.Output("status"); err != nil || !strings.Contains(string(out), "olga") {
		t.Errorf("after all that: %s, %v", out, err)
	}
	for _, what := range []string{"port forwarding", "remote port forwarding", "sftp", "agent forwarding", "X11 forwarding"} {
		f.journal.until(t, what, func(e Event) bool {
			return e.Event == eventRefuse && e.What == what && strings.HasPrefix(e.Key, "SHA256:")
		})
	}
}

func TestEnvironmentIsListedAndBounded(t *testing.T) {
	f := serve(t, nil)
	s := f.session(f.viewer)
	for _, v := range []struct {
		name, value string
		want        bool
	}{
		{"LANG", "de_DE.UTF-8", true},
		{"LC_TIME", "C", true},
		{"COLORTERM", "truecolor", true},
		{"PATH", "/evil", false},
		{"LD_PRELOAD", "/evil.so", false},
		{"LC_lower", "x", false},
		{"LC_" + strings.Repeat("A", 100), "x", false},
		{"LATHE_CACHE", "/evil", false},
		{"LANG", strings.Repeat("x", maxEnvValue+1), false},
		{"LANG", "C\n", false},
		{"LATHE_KEYS", "[keys]\n\"search.toggle\" = \"P\"\n", true},
		{"LATHE_KEYS", strings.Repeat("x", maxKeyMap), true},
		{"LATHE_KEYS", strings.Repeat("x", maxKeyMap+1), false},
		{"LATHE_KEYS", "[keys]\x1b", false},
		{"LANG", "a\nb", false},
		{"LANG", "a\x1b[2J", false},
		{"LANG", "\xff", false},
	} {
		if err := s.Setenv(v.name, v.value); (err == nil) != v.want {
			t.Errorf("%s=%q: %v", v.name, v.value, err)
		}
	}
	for i := 5; i < maxEnv+5; i++ {
		if err := s.Setenv("NO_COLOR", ""); (err == nil) != (i < maxEnv) {
			t.Errorf("variable %d: %v", i, err)
		}
	}
	if ok, err := s.SendRequest("env", true, []byte{0, 0, 0, 99, 'x'}); ok || err != nil {
		t.Errorf("broken request: %v, %v", ok, err)
	}
	out, err := s.Output("environ")
	if err != nil || !strings.HasPrefix(string(out), "LANG=de_DE.UTF-8\nLC_TIME=C\nCOLORTERM=truecolor\n") {
		t.Errorf("%s, %v", out, err)
	}
}

func TestTerminalRequestsAreChecked(t *testing.T) {
	f := serve(t, nil)
	request := func(term string, width, height uint32) []byte {
		return gossh.Marshal(struct {
			Term       string
			W, H, X, Y uint32
			Modes      string
		}{term, width, height, 1 << 31, 1 << 31, "\x01\x00"})
	}
	for _, bad := range [][]byte{
		nil,
		{0, 0, 0, 9},
		request("../../etc/passwd", 80, 24),
		request(strings.Repeat("x", maxTerm+1), 80, 24),
		request("xterm\x1b[2J", 80, 24),
		request("xterm", 80, 24)[:16],
	} {
		if ok, err := f.session(f.viewer).SendRequest("pty-req", true, bad); ok || err != nil {
			t.Errorf("%q: %v, %v", bad, ok, err)
		}
	}
	huge := f.open(f.viewer, "xterm", 1<<31, 1<<31)
	huge.until("size 400x150.")
	none := f.open(f.viewer, "xterm", 0, 0)
	none.until("size 80x24.")
	if err := none.session.WindowChange(1<<31-1, 1<<31-1); err != nil {
		t.Fatal(err)
	}
	none.until("size 400x150.")
}

func TestResizesReachTheProgramAndAFloodDoesNot(t *testing.T) {
	f := serve(t, nil)
	s := f.open(f.viewer, "xterm-256color", 80, 24)
	s.until("size 80x24.")
	for w := 300; w > 100; w-- {
		if err := s.session.WindowChange(30, w); err != nil {
			t.Fatal(err)
		}
	}
	s.until("size 101x30.")
	s.keysDown("alive")
	s.until("typed alive.")
}

func TestResizesBeforeTheShellHoldNothingUp(t *testing.T) {
	f := serve(t, nil)
	c := f.connect(f.viewer)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if err := s.WindowChange(40, 120); err != nil {
			t.Fatal(err)
		}
	}
	// The library's own queue holds one size; a command reads none.
	out, err := s.Output("status")
	if err != nil || !strings.Contains(string(out), `"terminal":true`) {
		t.Errorf("%s, %v", out, err)
	}
}

func TestSessionsOverOneConnectionAreBounded(t *testing.T) {
	f := serve(t, nil)
	c := f.connect(f.viewer)
	var open []*gossh.Session
	for range maxChannels {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, s)
	}
	if _, err := c.NewSession(); err == nil {
		t.Error("one more session than allowed")
	}
	// A terminal and a command share the connection without sharing that one has a terminal.
	first := show(t, open[0], "xterm", 80, 24)
	first.until("vera is viewer")
	if out, err := open[1].Output("status"); err != nil || !strings.Contains(string(out), `"terminal":false`) {
		t.Errorf("%s, %v", out, err)
	}
}

func TestConnectionWithoutSessionIsClosed(t *testing.T) {
	t.Parallel()
	f := serve(t, func(o *Options) { o.Limits.Linger = 5 * time.Second })
	closed := func(c *gossh.Client) {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- c.Wait() }()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("the connection stays open")
		}
	}
	unused, idle := f.connect(f.viewer), f.connect(f.viewer)
	if _, err := idle.NewSession(); err != nil { // a channel, but nothing runs in it
		t.Fatal(err)
	}
	c := f.connect(f.viewer)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	terminal := show(t, s, "xterm", 80, 24)
	terminal.until("vera")
	terminal.keysDown("\x11")
	closed(unused)
	closed(idle)
	closed(c)
}

func TestHalfOpenConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	f := serve(t, func(o *Options) {
		o.Limits.Handshake, o.Limits.Pending = 5*time.Second, 4
	})
	first, second := silent(t, f.address), silent(t, f.address)
	for _, c := range []net.Conn{first, second} {
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := silent(t, f.address).Read(make([]byte, 1)); err == nil {
		t.Error("one address holds all places of those who have not logged in")
	}
	f.journal.until(t, "refused connection", func(e Event) bool { return e.Event == eventRefuse && e.What == "connection" })
	for _, c := range []net.Conn{first, second} {
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("half-open connections stay")
		}
	}
	f.gate.mu.Lock()
	defer f.gate.mu.Unlock()
	if f.gate.pending != 0 || f.gate.open != 0 {
		t.Errorf("half-open connections that were closed hold %d places of %d", f.gate.pending, f.gate.open)
	}
}
