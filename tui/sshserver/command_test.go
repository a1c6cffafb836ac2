package sshserver

import (
	"fmt"
	"io"
	"strings"
	"testing"

	gossh "golang.org/x/crypto/ssh"
)

func TestCommands(t *testing.T) {
	f := serve(t, nil)
	for _, test := range []struct {
		command        string
		stdout, stderr string
		status         int
	}{
		{"echo a 'b c' \"d\\\"e\" f\\ g", "a|b c|d\"e|f g\n", "", 0},
		{"exit 7", "", "", 7},
		{"exit 255", "", "", 255},
		{"exit 256", "", "", exitEnded},
		{"nonsense", "", "unknown command \"nonsense\"\n", 2},
		{"scp -t /tmp", "", "unknown command \"scp\"\n", 2},
		{"echo 'open", "", "lathe: " + errQuotes.Error() + "\n", exitUsage},
		{"echo $(id) `id` $HOME ; id | cat > /tmp/x", "$(id)|`id`|$HOME|;|id|||cat|>|/tmp/x\n", "", 0},
	} {
		stdout, stderr, status := f.output(f.viewer, test.command)
		if stdout != test.stdout || stderr != test.stderr || status != test.status {
			t.Errorf("%s: %q, %q, status %d", test.command, stdout, stderr, status)
		}
	}
	s := f.session(f.viewer)
	if err := s.Start(strings.Repeat("x", maxCommandLine+1)); err == nil {
		t.Error("a command line that is too long runs")
	}
}

func TestCommandStreams(t *testing.T) {
	f := serve(t, nil)
	const size = 32 << 20
	s := f.session(f.editor)
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(fmt.Sprintf("bytes %d", size)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, out); err != nil || n != size {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	in := f.session(f.editor)
	binary := "a\r\nb\x03\x04\x00c"
	in.Stdin = strings.NewReader(binary)
	if got, err := in.Output("cat"); err != nil || string(got) != binary {
		t.Errorf("through: %q, %v", got, err)
	}
}

func TestCommandEndsWithItsClient(t *testing.T) {
	f := serve(t, nil)
	start := func() (*gossh.Client, *gossh.Session) {
		t.Helper()
		c := f.connect(f.editor)
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		return c, s
	}
	open := func(n int) {
		t.Helper()
		seen := 0
		f.journal.until(t, "close", func(e Event) bool {
			if e.Event == eventClose {
				seen++
			}
			return seen > n
		})
	}
	c, s := start()
	if err := s.Start("wait"); err != nil {
		t.Fatal(err)
	}
	c.Close()
	f.journal.until(t, "close", func(e Event) bool { return e.Event == eventClose })

	_, s = start()
	if err := s.Start("wait"); err != nil {
		t.Fatal(err)
	}
	if err := s.Signal(gossh.SIGINT); err != nil {
		t.Fatal(err)
	}
	if status := statusOf(s.Wait()); status != 130 {
		t.Errorf("after a signal: status %d", status)
	}
	open(1)

	_, s = start()
	if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
		t.Fatal(err)
	}
	keys, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("cat"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(keys, "line\r\x04"); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(out); err != nil || string(text) != "line\r\n" {
		t.Errorf("in a terminal: %q, %v", text, err)
	}
}

func TestNoTerminalNoScreens(t *testing.T) {
	f := serve(t, nil)
	s := f.session(f.viewer)
	var words strings.Builder
	s.Stderr = &words
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	if status := statusOf(s.Wait()); status != exitUsage || !strings.Contains(words.String(), errNoTerminal.Error()) {
		t.Errorf("status %d, %q", status, words.String())
	}
	f.allow(line(`no-pty`, f.viewer, "vera"))
	terminal := f.open(f.viewer, "xterm", 80, 24)
	if status := terminal.ended(); status != exitUsage || !strings.Contains(terminal.sent(), errNoPTY.Error()) {
		t.Errorf("status %d, %q", status, terminal.sent())
	}
	if _, _, status := f.output(f.viewer, "status"); status != 0 {
		t.Errorf("commands of a no-pty key: status %d", status)
	}
	for name, change := range map[string]func(*Options){
		errNoCommands.Error(): func(o *Options) { o.Commands = nil },
		errNoProgram.Error():  func(o *Options) { o.Program = nil },
	} {
		g := serve(t, change)
		if g.options.Commands == nil {
			if _, words, status := g.output(g.viewer, "status"); status != exitUsage || !strings.Contains(words, name) {
				t.Errorf("status %d, %q", status, words)
			}
			continue
		}
		terminal := g.open(g.viewer, "xterm", 80, 24)
		if status := terminal.ended(); status != exitUsage || !strings.Contains(terminal.sent(), name) {
			t.Errorf("status %d, %q", status, terminal.sent())
		}
	}
}

func TestSessionCaps(t *testing.T) {
	f := serve(t, func(o *Options) { o.Limits.Sessions, o.Limits.SessionsPerKey = 3, 2 })
	a, b := f.open(f.viewer, "xterm", 80, 24), f.open(f.viewer, "xterm", 80, 24)
	a.until("vera")
	b.until("vera")
	if _, words, status := f.output(f.viewer, "status"); status != exitEnded || !strings.Contains(words, errFullKey.Error()) {
		t.Errorf("third session of a key: status %d, %q", status, words)
	}
	f.open(f.editor, "xterm", 80, 24).until("ed is")
	if _, words, status := f.output(f.owner, "status"); status != exitEnded || !strings.Contains(words, errFull.Error()) {
		t.Errorf("one session too many: status %d, %q", status, words)
	}
	a.keysDown("\x11")
	a.ended()
	f.journal.until(t, "close", func(e Event) bool { return e.Event == eventClose && e.Name == "vera" && e.Result == "left" })
	if _, _, status := f.output(f.owner, "status"); status != 0 {
		t.Errorf("a place is not given back: status %d", status)
	}
}
