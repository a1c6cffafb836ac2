package sshserver

import (
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// silent opens a connection that sends nothing.
func silent(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestViewersLookAndEditorsEdit(t *testing.T) {
	f := serve(t, nil)
	viewer, editor := f.open(f.viewer, "xterm", 80, 24), f.open(f.editor, "xterm", 80, 24)
	viewer.until("vera is viewer on xterm.")
	viewer.keysDown("\x05")
	viewer.until("result not allowed for this role")
	viewer.until("steps 0.")
	editor.until("ed is editor")
	editor.keysDown("\x05")
	viewer.until("steps 1.") // everybody sees it
	s := explorertest.Until(t, f.exploration, "the edit", func(s *explorer.Snapshot) bool { return len(s.Draft.Steps) == 1 })
	if s.Draft.Steps[0].Author != "ed" {
		t.Errorf("author %q", s.Draft.Steps[0].Author)
	}
	if _, words, status := f.output(f.viewer, "edit"); status != 4 || !strings.Contains(words, "not allowed for this role") {
		t.Errorf("command of a viewer: %q, status %d", words, status)
	}
	f.journal.until(t, "refused edit", func(e Event) bool {
		return e.Event == eventDo && e.Name == "vera" && e.What == "Edit" && e.Result == "forbidden"
	})
	f.journal.until(t, "edit", func(e Event) bool {
		return e.Event == eventDo && e.Name == "ed" && e.Role == "editor" && e.Result == "ok"
	})
	if strings.Contains(f.journal.String(), "mallory") {
		t.Error("a session acts under another name")
	}
}

func TestColoursFollowTheTerminal(t *testing.T) {
	f := serve(t, nil)
	for _, test := range []struct{ term, variable, value, profile, colour string }{
		{"xterm-256color", "LANG", "C", "ANSI256", "\x1b[38;5;196m"},
		{"xterm-256color", "COLORTERM", "truecolor", "TrueColor", "\x1b[38;2;255;0;0m"},
		{"xterm", "LANG", "C", "ANSI", "\x1b[91m"},
		{"linux", "LANG", "C", "ANSI", "\x1b[91m"},
		{"xterm-256color", "NO_COLOR", "1", "Ascii", ""},
	} {
		t.Run(test.term+" "+test.variable, func(t *testing.T) {
			session := f.session(f.viewer)
			if err := session.Setenv(test.variable, test.value); err != nil {
				t.Fatal(err)
			}
			s := show(t, session, test.term, 80, 24)
			s.until("profile " + test.profile + ".")
			s.until("swatch")
			if sent := s.sent(); test.colour != "" && !strings.Contains(sent, test.colour) || test.colour == "" && strings.Contains(sent, "\x1b[38") {
				t.Errorf("%q", sent)
			}
			session.Close()
		})
	}
	for _, term := range []string{"dumb", ""} {
		s := f.open(f.viewer, term, 80, 24)
		if status := s.ended(); status != exitEnded || !strings.Contains(s.sent(), errNoScreen.Error()) || strings.Contains(s.sent(), "\x1b") {
			t.Errorf("TERM=%q: status %d, %q", term, status, s.sent())
		}
	}
}

func TestIdleSessionIsWarnedAndEnds(t *testing.T) {
	t.Parallel()
	f := serve(t, func(o *Options) { o.Limits.Idle, o.Limits.Warning = 8*time.Second, 5*time.Second })
	s := f.open(f.viewer, "xterm", 100, 24)
	s.until("Press any key to stay.")
	s.keysDown("x")
	s.until("typed x.")
	s.gone("Press any key")
	// Others change what is shown all the time: output is no input.
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				_, _ = f.exploration.Do(t.Context(), explorertest.Owner, explorer.Attach{Where: strings.Repeat("x", i%9)})
			}
		}
	}()
	s.until("Press any key to stay.")
	if status := s.ended(); status != exitEnded {
		t.Errorf("exit status %d", status)
	}
	close(stop)
	<-done
	s.until(errIdle.Error())
}

func TestLongestTimeEndsTerminalsAndCommands(t *testing.T) {
	t.Parallel()
	f := serve(t, func(o *Options) { o.Limits.Longest, o.Limits.Warning = 8*time.Second, 7*time.Second })
	command := f.session(f.editor)
	var words strings.Builder
	command.Stderr = &words
	if err := command.Start("wait"); err != nil {
		t.Fatal(err)
	}
	s := f.open(f.viewer, "xterm", 100, 24)
	s.until("time limit in")
	if status := s.ended(); status != exitEnded {
		t.Errorf("terminal: exit status %d", status)
	}
	s.until(errLongest.Error())
	if status := statusOf(command.Wait()); status != 130 || !strings.Contains(words.String(), errLongest.Error()) {
		t.Errorf("command: %q, status %d", words.String(), status)
	}
}

func TestPanicEndsOneSession(t *testing.T) {
	f := serve(t, nil)
	other := f.open(f.editor, "xterm", 80, 24)
	other.until("ed is editor")
	for name, key := range map[string]string{"Update": "\x10", "View": "V"} {
		s := f.open(f.viewer, "xterm", 80, 24)
		s.until("vera is viewer")
		s.keysDown(key)
		if status := s.ended(); status != exitEnded {
			t.Errorf("%s: exit status %d", name, status)
		}
		s.until(errFault.Error())
		if !strings.Contains(s.sent(), "\x1b[?1049l") || strings.Contains(s.sent(), "goroutine") {
			t.Errorf("%s: %q", name, s.sent())
		}
	}
	if _, words, status := f.output(f.viewer, "panic"); status != exitEnded || !strings.Contains(words, errFault.Error()) {
		t.Errorf("command: %q, status %d", words, status)
	}
	other.keysDown("on")
	other.until("typed on.")
}

func TestSuspendStopsNothing(t *testing.T) {
	f := serve(t, nil)
	s := f.open(f.viewer, "xterm", 80, 24)
	s.until("vera")
	s.keysDown("\x1aafter")
	s.until("typed after.")
}

func TestFloodOfKeysIsSlowedDown(t *testing.T) {
	f := serve(t, nil)
	flood := f.open(f.viewer, "xterm", 80, 24)
	other := f.open(f.editor, "xterm", 80, 24)
	flood.until("vera")
	other.until("ed is")
	go func() { // until the session ends
		noise := strings.Repeat("\x1b]never ending \x1b[<0;1;1", 1<<10)
		for {
			if _, err := io.WriteString(flood.keys, noise); err != nil {
				return
			}
		}
	}()
	for i, key := range "quickly" {
		other.keysDown(string(key))
		other.until("quickly"[:i+1])
	}
	flood.session.Close()
}

func TestLongPasteIsCut(t *testing.T) {
	i := newInput(t.Context(), strings.NewReader(
		"a\x1b[200~"+strings.Repeat("p", 2*maxPaste)+"\x1b[201~b"))
	new(still).pass(i.budget)
	got, err := io.ReadAll(i)
	if err != nil {
		t.Fatal(err)
	}
	text := string(got)
	if n := strings.Count(text, "p"); n < maxPaste-maxRead || n > maxPaste+maxRead {
		t.Errorf("%d bytes of the paste came through", n)
	}
	if !strings.HasPrefix(text, "a\x1b[200~ppp") || !strings.HasSuffix(text, "p\x1b[201~b") {
		t.Errorf("%.20q … %q", text, text[len(text)-20:])
	}
}

func TestInputMarksAcrossReads(t *testing.T) {
	want := "x\x1b[200~pa\x1b[201y\x1b[201~z\x1b[200~\x1b[201~"
	for size := 1; size < len(want); size++ {
		i := newInput(t.Context(), nil)
		var got []byte
		for from := 0; from < len(want); from += size {
			i.take([]byte(want[from:min(len(want), from+size)]))
			got = append(got, i.ready...)
		}
		if string(got) != want || i.pasting {
			t.Errorf("in pieces of %d: %q, pasting %v", size, got, i.pasting)
		}
	}
}

func TestEndlessInputOutsideOfPastesGetsEndMarks(t *testing.T) {
	i := newInput(t.Context(), nil)
	marks := 0
	for range 8 * maxPaste / maxRead {
		i.take([]byte(strings.Repeat("k", maxRead)))
		marks += strings.Count(string(i.ready), string(pasteEnds))
	}
	if marks != 7 {
		t.Errorf("%d end marks", marks)
	}
}

// stall is long enough for a reader on a busy machine not to count as one that has stopped.
const stall = 5 * time.Second

func TestStalledReaderEndsAloneAndSlowsNobody(t *testing.T) {
	t.Parallel()
	f := serve(t, func(o *Options) { o.Limits.Stall = stall })
	// A terminal whose output is never read, over a connection that is: the channel's window fills up.
	session := f.session(f.viewer)
	if _, err := session.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := session.Start("bytes 16777216"); err != nil {
		t.Fatal(err)
	}
	other := f.open(f.editor, "xterm", 80, 24)
	other.until("ed is")
	other.keysDown("still here")
	other.until("typed stillspacehere.")
	f.journal.until(t, "end of the stalled session", func(e Event) bool {
		return e.Event == eventClose && e.What == "bytes" && e.Name == "vera" && e.Result == errStalled.Error()
	})
}

// stuck is a connection that stops reading on request.
type stuck struct {
	net.Conn
	stop chan struct{}
	gone chan struct{}
}

func (s *stuck) Read(b []byte) (int, error) {
	select {
	case <-s.stop:
		<-s.gone
		return 0, io.EOF
	default:
		return s.Conn.Read(b)
	}
}

func (s *stuck) Close() error {
	select {
	case <-s.gone:
	default:
		close(s.gone)
	}
	return s.Conn.Close()
}

func TestStalledTerminalIsCutOff(t *testing.T) {
	t.Parallel()
	f := serve(t, func(o *Options) { o.Limits.Stall = stall })
	raw, err := net.Dial("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	dead := &stuck{Conn: raw, stop: make(chan struct{}), gone: make(chan struct{})}
	defer dead.Close()
	conn, channels, requests, err := gossh.NewClientConn(dead, f.address, &gossh.ClientConfig{
		User: "x", Auth: []gossh.AuthMethod{gossh.PublicKeys(f.viewer)}, HostKeyCallback: gossh.FixedHostKey(f.signer.PublicKey()),
	})
	if err != nil {
		t.Fatal(err)
	}
	session, err := gossh.NewClient(conn, channels, requests).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	s := show(t, session, "xterm-256color", 400, 150)
	s.until("vera is viewer")
	s.keysDown("\x02") // from now on every frame is another
	s.until("busy true.")
	close(dead.stop)
	other := f.open(f.editor, "xterm", 80, 24)
	other.until("ed is")
	f.journal.until(t, "end of the stalled session", func(e Event) bool { return e.Event == eventClose && e.Name == "vera" && e.Result == errStalled.Error() })
	other.keysDown("on")
	other.until("typed on.")
}

func TestSessionsLeaveNothingBehind(t *testing.T) {
	f := serve(t, nil)
	session := func() {
		c := f.connect(f.viewer)
		session, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		s := show(t, session, "xterm", 80, 24)
		s.until("vera")
		s.keysDown("left over \x1b]") // input that the program never gets to
		c.Close()
		s.ended()
		s.close()
	}
	gone := func() {
		t.Helper()
		for len(f.sessions.all()) > 0 {
			f.sessions.mu.Lock()
			left := f.sessions.left
			f.sessions.mu.Unlock()
			select {
			case <-left:
			case <-time.After(patience):
				t.Fatal("a session stays")
			}
		}
	}
	session()
	gone()
	before := runtime.NumGoroutine()
	const visits = 20
	for range visits {
		session()
	}
	gone()
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() >= before+visits/2 {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}
