//go:build unix

package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/vt"

	gossh "golang.org/x/crypto/ssh"

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// patience is how long a test waits for what must come, on a machine that has much else to do.
const patience = 5 * time.Minute

// A team is a folder with a tiny model, text to calibrate on, and people's keys.
type team struct {
	t     *testing.T
	dir   string
	model string
	keys  map[string]gossh.Signer // by name: olga is an owner, ed an editor, vera a viewer
	env   []string
}

func newTeam(t *testing.T) *team {
	t.Helper()
	team := &team{t: t, dir: t.TempDir(), keys: map[string]gossh.Signer{}}
	team.model = team.path("tiny.gguf")
	if err := gguftest.Tiny("llama").Write(team.model); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(team.path("cache", "text"), 0o755); err != nil {
		t.Fatal(err)
	}
	words := strings.Repeat("The lathe turns a heavy block of wood until only the shape that was wanted remains. ", 40)
	team.write(words, 0o644, "cache", "text", "wiki.utf8")
	var allowed strings.Builder
	for name, role := range map[string]string{"olga": "owner", "ed": "editor", "vera": "viewer"} {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		block, err := gossh.MarshalPrivateKey(private, "")
		if err != nil {
			t.Fatal(err)
		}
		team.write(string(pem.EncodeToMemory(block)), 0o600, name)
		if team.keys[name], err = gossh.NewSignerFromKey(private); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&allowed, "lathe-role=%q %s %s\n", role, bytes.TrimSpace(gossh.MarshalAuthorizedKey(team.keys[name].PublicKey())), name)
	}
	team.write(allowed.String(), 0o600, "authorized_keys")
	team.env = append(os.Environ(), "HOME="+team.dir, "LATHE_CACHE="+team.path("cache"), "LATHE_WORKSPACES="+team.path("workspaces"), "TERM=xterm-256color")
	return team
}

// in is the same team for a part of the test.
func (m *team) in(t *testing.T) *team {
	part := *m
	part.t = t
	return &part
}

func (m *team) path(parts ...string) string {
	return filepath.Join(append([]string{m.dir}, parts...)...)
}

func (m *team) write(text string, mode os.FileMode, parts ...string) {
	m.t.Helper()
	if err := os.WriteFile(m.path(parts...), []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
}

// lathe runs the real program, which the test's own binary is by that name (see TestMain).
func (m *team) lathe(args ...string) (stdout, stderr string, status int) {
	m.t.Helper()
	return m.run(exec.CommandContext(m.t.Context(), "lathe", args...))
}

func (m *team) run(cmd *exec.Cmd) (stdout, stderr string, status int) {
	m.t.Helper()
	var out, words bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = m.dir, m.env, &out, &words
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		m.t.Fatalf("%v: %v", cmd.Args, err)
	}
	return out.String(), words.String(), cmd.ProcessState.ExitCode()
}

// A served is a running `lathe serve`.
type served struct {
	*team
	cmd     *exec.Cmd
	address string
	host    gossh.PublicKey
	log     *logged
	ended   chan error
}

// logged is what a server logs, and what of it a test waits for.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
	news chan struct{} // closed and replaced with every line
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// until waits for a line and returns what its first group matched.
func (l *logged) until(t *testing.T, pattern string) string {
	t.Helper()
	late := time.After(patience)
	for {
		l.mu.Lock()
		match, news := regexp.MustCompile(pattern).FindStringSubmatch(l.text.String()), l.news
		l.mu.Unlock()
		if match != nil {
			return match[len(match)-1]
		}
		select {
		case <-news:
		case <-late:
			t.Fatalf("the server does not log %s:\n%s", pattern, l)
		}
	}
}

// serve starts a server on a workspace and waits until it listens.
func (m *team) serve(workspace string) *served {
	m.t.Helper()
	return m.start(exec.Command("lathe", "serve", m.model, "--workspace", m.path(workspace), "--listen", "127.0.0.1:0",
		"--authorized-keys", m.path("authorized_keys"), "--host-key", m.path("host_key"), "--audit", m.path("audit.jsonl")), m.path("host_key.pub"))
}

// start starts a server and waits until it listens. Its host key is then in the file named.
func (m *team) start(cmd *exec.Cmd, hostKey string) *served {
	m.t.Helper()
	s := &served{team: m, cmd: cmd, log: &logged{news: make(chan struct{})}, ended: make(chan error, 1)}
	s.cmd.Dir, s.cmd.Env = m.dir, m.env
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			s.log.mu.Lock()
			fmt.Fprintln(&s.log.text, lines.Text())
			close(s.log.news)
			s.log.news = make(chan struct{})
			s.log.mu.Unlock()
		}
		s.ended <- s.cmd.Wait()
	}()
	m.t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.ended
	})
	s.address = s.log.until(m.t, `msg=listening address=(\S+)`)
	public, err := os.ReadFile(hostKey)
	if err != nil {
		m.t.Fatal(err)
	}
	if s.host, _, _, _, err = gossh.ParseAuthorizedKey(public); err != nil {
		m.t.Fatal(err)
	}
	return s
}

// end sends a signal, waits for the server's end and returns its exit status, -1 where a signal ended it.
func (s *served) end(signal syscall.Signal) int {
	s.t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
	select {
	case err := <-s.ended:
		s.ended <- err
	case <-time.After(patience):
		s.t.Fatalf("the server does not end:\n%s", s.log)
	}
	return s.cmd.ProcessState.ExitCode()
}

// connect connects without the OpenSSH client, for many sessions over one connection.
func (s *served) connect(name string) *gossh.Client {
	s.t.Helper()
	c, err := gossh.Dial("tcp", s.address, &gossh.ClientConfig{
		User: "anyone", Auth: []gossh.AuthMethod{gossh.PublicKeys(s.keys[name])}, HostKeyCallback: gossh.FixedHostKey(s.host), Timeout: patience,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// ssh runs a command over SSH with somebody's key, with the OpenSSH client if it is installed.
func (s *served) ssh(name string, args ...string) (stdout, stderr string, status int) {
	s.t.Helper()
	if _, err := exec.LookPath("ssh"); err == nil {
		return s.run(exec.CommandContext(s.t.Context(), "ssh", append(s.options(name), args...)...))
	}
	session, err := s.connect(name).NewSession()
	if err != nil {
		s.t.Fatal(err)
	}
	var out, words bytes.Buffer
	session.Stdout, session.Stderr = &out, &words
	err = session.Run(strings.Join(args, " "))
	if exit := (*gossh.ExitError)(nil); errors.As(err, &exit) {
		status = exit.ExitStatus()
	} else if err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	return out.String(), words.String(), status
}

// options are the OpenSSH client's, up to the host's name.
func (s *served) options(name string) []string {
	s.t.Helper()
	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(fmt.Sprintf("[%s]:%s %s", host, port, gossh.MarshalAuthorizedKey(s.host)), 0o600, "known_hosts")
	return []string{
		"-F", "none", "-i", s.path(name), "-p", port, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
		"-o", "UserKnownHostsFile=" + s.path("known_hosts"), "-o", "GlobalKnownHostsFile=none", "-o", "LogLevel=ERROR", host,
	}
}

// until asks for the status over one connection until it is as it should be.
func (s *served) until(what string, done func(statusResult) bool) statusResult {
	s.t.Helper()
	c := s.connect("vera")
	defer func() { _ = c.Close() }()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	late := time.After(patience)
	for {
		session, err := c.NewSession()
		if err != nil {
			s.t.Fatalf("%v\n%s", err, s.log)
		}
		text, err := session.Output("status --json")
		if err != nil {
			s.t.Fatalf("status: %v\n%s", err, s.log)
		}
		var r statusResult
		if err := json.Unmarshal(text, &r); err != nil {
			s.t.Fatal(err)
		}
		if done(r) {
			return r
		}
		select {
		case <-look.C:
		case <-late:
			s.t.Fatalf("no %s: %s", what, text)
		}
	}
}

// watched is an interactive session: what is typed into it, and all that its terminal was sent once it has ended.
type watched struct {
	keys io.Writer
	sent <-chan string
}

// watch opens a terminal with an environment of KEY=VALUE strings and waits until it shows a text.
func (s *served) watch(name, text string, environ ...string) watched {
	s.t.Helper()
	session, err := s.connect(name).NewSession()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range environ {
		key, value, _ := strings.Cut(e, "=")
		if err := session.Setenv(key, value); err != nil {
			s.t.Fatalf("%s: %v", e, err)
		}
	}
	keys, err := session.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := session.RequestPty("xterm-256color", 40, 120, nil); err != nil {
		s.t.Fatal(err)
	}
	if err := session.Shell(); err != nil {
		s.t.Fatal(err)
	}
	shown, all := make(chan struct{}), make(chan string, 1)
	go func() {
		var sent []byte
		screen := vt.NewEmulator(120, 40) // what is drawn over an earlier frame need not be sent in one piece
		go func() { _, _ = io.Copy(io.Discard, screen) }()
		b := make([]byte, 1<<14)
		for seen := false; ; {
			n, err := out.Read(b)
			sent = append(sent, b[:n]...)
			if !seen {
				_, _ = screen.Write(b[:n])
				if strings.Contains(ansi.Strip(screen.Render()), text) {
					close(shown)
					seen = true
				}
			}
			if err != nil {
				all <- string(sent)
				return
			}
		}
	}()
	select {
	case <-shown:
	case <-time.After(patience):
		s.t.Fatalf("the terminal does not show %q", text)
	}
	return watched{keys, all}
}
