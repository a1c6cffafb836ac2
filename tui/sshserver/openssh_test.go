//go:build unix

package sshserver

import (
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
	gossh "golang.org/x/crypto/ssh"
)

// TestOpenSSH runs the scripts of testdata/openssh with the OpenSSH client, each against a server of its own on loopback.
// Beside testscript's own commands there are
//
//	allow NAME...           only these keys (viewer, editor, owner, nobody) are let in from now on
//	exits STATUS COMMAND    run a command that ends with this exit status
//	audit PATTERN           wait for a line of the audit log
//	screen NAME WxH COMMAND start a command in a terminal of that size
//	shows NAME TEXT         wait until the terminal shows a text
//	sent [!] NAME PATTERN   look for a pattern in all the terminal was sent
//	type NAME TEXT          type; \xNN are control characters
//	resize NAME WxH         change the terminal's size
//	ended NAME STATUS       wait for the command's end
//
// and files for the client: config, in which the server is called host, and a private key of each name.
func TestOpenSSH(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("needs the OpenSSH client: ssh is not installed")
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/openssh",
		Setup: func(e *testscript.Env) error {
			f := serve(e.T().(testing.TB), nil)
			e.Values["fixture"] = f
			e.Values["screens"] = map[string]*localScreen{}
			return f.prepare(e.WorkDir)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"allow":  scriptAllow,
			"exits":  scriptExits,
			"audit":  scriptAudit,
			"screen": scriptScreen,
			"shows":  scriptShows,
			"sent":   scriptSent,
			"type":   scriptType,
			"resize": scriptResize,
			"ended":  scriptEnded,
		},
	})
}

// prepare writes keys, known hosts and a client configuration into a folder.
func (f *fixture) prepare(folder string) error {
	for name, s := range f.signers() {
		block, err := gossh.MarshalPrivateKey(s.private, "")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	host, port, err := net.SplitHostPort(f.address)
	if err != nil {
		return err
	}
	known := fmt.Sprintf("[%s]:%s %s", host, port, gossh.MarshalAuthorizedKey(f.signer.PublicKey()))
	if err := os.WriteFile(filepath.Join(folder, "known_hosts"), []byte(known), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "config"), fmt.Appendf(nil, `Host host
  HostName %s
  Port %s
  User anyone
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile %s
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  LogLevel ERROR
`, host, port, filepath.Join(folder, "known_hosts")), 0o600)
}

func (f *fixture) signers() map[string]keyPair {
	return map[string]keyPair{"viewer": f.viewer, "editor": f.editor, "owner": f.owner, "nobody": f.nobody}
}

func scriptFixture(ts *testscript.TestScript) *fixture { return ts.Value("fixture").(*fixture) }

func want(ts *testscript.TestScript, ok bool, usage string) {
	if !ok {
		ts.Fatalf("usage: %s", usage)
	}
}

func scriptAllow(ts *testscript.TestScript, _ bool, names []string) {
	f := scriptFixture(ts)
	var lines []string
	for _, n := range names {
		h := map[string]struct{ role, name string }{
			"viewer": {"viewer", "vera"}, "editor": {"editor", "ed"}, "owner": {"owner", "olga"}, "nobody": {"viewer", "newcomer"},
		}[n]
		lines = append(lines, line(fmt.Sprintf("lathe-role=%q", h.role), f.signers()[n], h.name))
	}
	f.allow(lines...)
}

func scriptExits(ts *testscript.TestScript, _ bool, args []string) {
	want(ts, len(args) >= 2, "exits STATUS COMMAND [ARGUMENT...]")
	err := ts.Exec(args[1], args[2:]...)
	status := 0
	if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // testscript hands it on as it is
		status = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(status) != args[0] {
		ts.Fatalf("exit status %d", status)
	}
}

func scriptAudit(ts *testscript.TestScript, _ bool, args []string) {
	want(ts, len(args) == 1, "audit PATTERN")
	j, pattern := scriptFixture(ts).journal, regexp.MustCompile(args[0])
	late := time.After(patience)
	for {
		j.mu.Lock()
		text, news := j.text.String(), j.news
		j.mu.Unlock()
		if pattern.MatchString(text) {
			return
		}
		select {
		case <-news:
		case <-late:
			ts.Fatalf("no such line in the audit log:\n%s", text)
		}
	}
}

// localScreen is a terminal emulator at the near end of the OpenSSH client.
type localScreen struct {
	screen
	file *os.File
	cmd  *exec.Cmd
}

func parseScreenSize(ts *testscript.TestScript, text string) *pty.Winsize {
	w, h, _ := strings.Cut(text, "x")
	width, err1 := strconv.ParseUint(w, 10, 16)
	height, err2 := strconv.ParseUint(h, 10, 16)
	if err1 != nil || err2 != nil {
		ts.Fatalf("%q is not a size like 80x24", text)
	}
	return &pty.Winsize{Cols: uint16(width), Rows: uint16(height)}
}

func scriptScreen(ts *testscript.TestScript, _ bool, args []string) {
	want(ts, len(args) >= 3, "screen NAME WxH COMMAND [ARGUMENT...]")
	size := parseScreenSize(ts, args[1])
	s := &localScreen{cmd: exec.Command(args[2], args[3:]...)}
	s.done, s.news = make(chan error, 1), make(chan struct{})
	s.term = vt.NewEmulator(int(size.Cols), int(size.Rows))
	s.cmd.Dir = ts.Getenv("WORK")
	for _, name := range []string{"PATH", "HOME", "TERM", "COLORTERM", "NO_COLOR"} {
		if v := ts.Getenv(name); v != "" {
			s.cmd.Env = append(s.cmd.Env, name+"="+v)
		}
	}
	var err error
	if s.file, err = pty.StartWithSize(s.cmd, size); err != nil {
		ts.Fatalf("%v", err)
	}
	s.keys = s.file
	go func() { // until the emulator is closed
		b := make([]byte, 1<<10)
		for {
			n, err := s.term.Read(b)
			if err != nil {
				return
			}
			_, _ = s.file.Write(b[:n])
		}
	}()
	go func() { // until the client has ended
		b := make([]byte, 1<<15)
		for {
			n, err := s.file.Read(b)
			_, _ = s.Write(b[:n])
			if err != nil {
				s.done <- s.cmd.Wait()
				return
			}
		}
	}()
	ts.Value("screens").(map[string]*localScreen)[args[0]] = s
	ts.Defer(func() {
		_ = s.cmd.Process.Kill()
		err := <-s.done
		s.done <- err
		s.close()
		_ = s.file.Close()
	})
}

func scriptTerminal(ts *testscript.TestScript, name string) *localScreen {
	s := ts.Value("screens").(map[string]*localScreen)[name]
	if s == nil {
		ts.Fatalf("no screen %s", name)
	}
	return s
}

func scriptShows(ts *testscript.TestScript, _ bool, args []string) {
	want(ts, len(args) == 2, "shows NAME TEXT")
	s := scriptTerminal(ts, args[0])
	late := time.After(patience)
	for {
		s.mu.Lock()
		now, news := s.term.String(), s.news
		s.mu.Unlock()
		if strings.Contains(now, args[1]) {
			return
		}
		select {
		case <-news:
		case <-late:
			ts.Fatalf("%s does not show %q:\n%s", args[0], args[1], now)
		}
	}
}

func scriptSent(ts *testscript.TestScript, _ bool, args []string) {
	absent := len(args) > 0 && args[0] == "!"
	if absent {
		args = slices.Delete(args, 0, 1)
	}
	want(ts, len(args) == 2, "sent [!] NAME PATTERN")
	if sent := scriptTerminal(ts, args[0]).sent(); regexp.MustCompile(args[1]).MatchString(sent) == absent {
		ts.Fatalf("%s was sent %q", args[0], sent)
	}
}

func scriptType(ts *testscript.TestScript, _ bool, args []string) {
	want(ts, len(args) == 2, "type NAME TEXT")
	text, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	_, err = scriptTerminal(ts, args[0]).file.WriteString(text)
	ts.Check(err)
}

func scriptResize(ts *testscript.TestScript, _ bool, args []string) {
	want(ts, len(args) == 2, "resize NAME WxH")
	size, s := parseScreenSize(ts, args[1]), scriptTerminal(ts, args[0])
	s.mu.Lock()
	s.term.Resize(int(size.Cols), int(size.Rows))
	s.mu.Unlock()
	ts.Check(pty.Setsize(s.file, size))
}

func scriptEnded(ts *testscript.TestScript, _ bool, args []string) {
	want(ts, len(args) == 2, "ended NAME STATUS")
	s := scriptTerminal(ts, args[0])
	select {
	case err := <-s.done:
		s.done <- err
		if got := strconv.Itoa(s.cmd.ProcessState.ExitCode()); got != args[1] {
			ts.Fatalf("exit status %s", got)
		}
	case <-time.After(patience):
		ts.Fatalf("%s does not end:\n%s", args[0], s.text())
	}
}
