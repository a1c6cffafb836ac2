package sshserver

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	gossh "golang.org/x/crypto/ssh"
)

// A screen is a terminal emulator at the end of an SSH session.
type screen struct {
	t       testing.TB
	session *gossh.Session
	keys    io.WriteCloser
	done    chan error // receives what the session ended with

	mu   sync.Mutex
	term *vt.Emulator
	raw  bytes.Buffer
	news chan struct{}
}

// open opens a terminal.
func (f *fixture) open(s gossh.Signer, term string, width, height int) *screen {
	f.t.Helper()
	return show(f.t, f.session(s), term, width, height)
}

// emulated is how large an emulator is where a client claims a size.
func emulated(claim, usual int) int {
	if claim == 0 {
		return usual
	}
	return min(claim, 500)
}

func show(t testing.TB, session *gossh.Session, term string, width, height int) *screen {
	t.Helper()
	s := &screen{t: t, session: session, done: make(chan error, 1), term: vt.NewEmulator(emulated(width, 80), emulated(height, 24)), news: make(chan struct{})}
	session.Stdout, session.Stderr = s, s
	var err error
	if s.keys, err = session.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(s.keys, s.term) }() // what a terminal answers, until it is closed
	t.Cleanup(s.close)
	if err := session.RequestPty(term, height, width, gossh.TerminalModes{}); err != nil {
		t.Fatalf("terminal: %v", err)
	}
	if err := session.Shell(); err != nil {
		t.Fatalf("shell: %v", err)
	}
	go func() { s.done <- session.Wait() }()
	return s
}

// close ends what the emulator answers with. Its own Close may not run beside Read.
func (s *screen) close() { s.term.InputPipe().(io.Closer).Close() }

// Write takes output in.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw.Write(b)
	n, err := s.term.Write(b)
	close(s.news)
	s.news = make(chan struct{})
	return n, err
}

// text is what is on the screen.
func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.term.String()
}

// sent is all output so far, control sequences included.
func (s *screen) sent() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raw.String()
}

// until waits until the screen shows a text.
func (s *screen) until(text string) {
	s.t.Helper()
	s.wait("show "+text, func(shown string) bool { return strings.Contains(shown, text) })
}

// gone waits until the screen does not show a text.
func (s *screen) gone(text string) {
	s.t.Helper()
	s.wait("take away "+text, func(shown string) bool { return !strings.Contains(shown, text) })
}

// wait waits until what is on the screen is as it should be.
func (s *screen) wait(what string, done func(shown string) bool) {
	s.t.Helper()
	late := time.After(patience)
	for {
		s.mu.Lock()
		now, news := s.term.String(), s.news
		s.mu.Unlock()
		if done(now) {
			return
		}
		select {
		case <-news:
		case <-late:
			s.t.Fatalf("the screen does not %s:\n%.4000s", what, now)
		}
	}
}

// keysDown types.
func (s *screen) keysDown(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.keys, text); err != nil {
		s.t.Fatal(err)
	}
}

// ended waits for the session's end and returns its exit status, as statusOf does.
func (s *screen) ended() int {
	s.t.Helper()
	select {
	case err := <-s.done:
		s.done <- err
		return statusOf(err)
	case <-time.After(patience):
		s.t.Fatalf("the session does not end:\n%s", s.text())
		return -1
	}
}
