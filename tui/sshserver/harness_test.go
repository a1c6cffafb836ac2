package sshserver

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/explorer/draft"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/colorprofile"
	gossh "golang.org/x/crypto/ssh"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// patience is how long a test waits for what must come, on a machine that has much else to do.
const patience = 2 * time.Minute

// A keyPair is a client's key.
type keyPair struct {
	gossh.Signer
	private ed25519.PrivateKey
}

// newKey makes a key pair.
func newKey(t testing.TB) keyPair {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := gossh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return keyPair{s, private}
}

// line is an authorized_keys line.
func line(options string, s gossh.Signer, comment string) string {
	key := strings.TrimSpace(string(gossh.MarshalAuthorizedKey(s.PublicKey())))
	return strings.TrimSpace(options+" "+key+" "+comment) + "\n"
}

// journal is an audit log in memory.
type journal struct {
	mu     sync.Mutex
	events []Event
	text   bytes.Buffer
	news   chan struct{} // closed and replaced with every event
}

func (j *journal) Write(b []byte) (int, error) {
	var e Event
	if err := json.Unmarshal(b, &e); err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
	j.text.Write(b)
	close(j.news)
	j.news = make(chan struct{})
	return len(b), nil
}

// until waits for an event.
func (j *journal) until(t testing.TB, what string, match func(Event) bool) Event {
	t.Helper()
	late := time.After(patience)
	for {
		j.mu.Lock()
		for _, e := range j.events {
			if match(e) {
				j.mu.Unlock()
				return e
			}
		}
		news, text := j.news, j.text.String()
		j.mu.Unlock()
		select {
		case <-news:
		case <-late:
			t.Fatalf("no audit event: %s\n%s", what, text)
		}
	}
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// testLog sends the server's log to the test.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// fixture is a server with a viewer's, an editor's and an owner's key.
type fixture struct {
	*Server
	t                             testing.TB
	exploration                   *explorer.Exploration
	backend                       *explorertest.Backend
	address                       string
	keys                          string // path of the authorized_keys file
	viewer, editor, owner, nobody keyPair
	journal                       *journal
	served                        chan error
	stop                          context.CancelFunc
}

// serve starts a server on loopback; change may change its options first.
func serve(t testing.TB, change func(*Options)) *fixture {
	t.Helper()
	f := &fixture{
		t: t, backend: explorertest.New(), keys: filepath.Join(t.TempDir(), "authorized_keys"),
		viewer: newKey(t), editor: newKey(t), owner: newKey(t), nobody: newKey(t),
		journal: &journal{news: make(chan struct{})}, served: make(chan error, 1),
	}
	f.exploration = explorertest.Open(t, f.backend, "")
	f.allow(line(`lathe-role="viewer"`, f.viewer, "vera"), line(`lathe-role="editor"`, f.editor, "ed"), line(`lathe-role="owner"`, f.owner, "olga"))
	o := Options{
		Exploration: f.exploration, AuthorizedKeys: f.keys, HostKey: filepath.Join(t.TempDir(), "host_key"), Audit: f.journal, Log: testLog(t),
		Program: func(ctx context.Context, s *Session) (tea.Model, []tea.ProgramOption) { return newProbe(ctx, s), nil },
		Commands: func(ctx context.Context, c Command) int {
			return commands(ctx, f, c)
		},
		Limits: Limits{KeyPoll: 20 * time.Millisecond, Grace: 50 * time.Millisecond, ConnectBurst: 1000, Pending: 200},
	}
	if change != nil {
		change(&o)
	}
	var err error
	if f.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	go func() { f.served <- f.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-f.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		f.served <- nil
	})
	return f
}

// allow writes the authorized_keys file, all at once.
func (f *fixture) allow(lines ...string) {
	f.t.Helper()
	next := f.keys + ".new"
	if err := os.WriteFile(next, []byte(strings.Join(lines, "")), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(next, f.keys); err != nil {
		f.t.Fatal(err)
	}
}

// dial connects with the given ways to authenticate.
func (f *fixture) dial(auth ...gossh.AuthMethod) (*gossh.Client, error) {
	return gossh.Dial("tcp", f.address, &gossh.ClientConfig{
		User: "anyone", Auth: auth, HostKeyCallback: gossh.FixedHostKey(f.signer.PublicKey()), Timeout: patience,
	})
}

// connect connects with a key that must be let in.
func (f *fixture) connect(s gossh.Signer) *gossh.Client {
	f.t.Helper()
	c, err := f.dial(gossh.PublicKeys(s))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c
}

// session opens a session channel.
func (f *fixture) session(s gossh.Signer) *gossh.Session {
	f.t.Helper()
	session, err := f.connect(s).NewSession()
	if err != nil {
		f.t.Fatal(err)
	}
	return session
}

// output runs a command and returns its standard output, standard error and exit status.
func (f *fixture) output(s gossh.Signer, command string) (stdout, stderr string, status int) {
	f.t.Helper()
	session := f.session(s)
	var out, words bytes.Buffer
	session.Stdout, session.Stderr = &out, &words
	status = statusOf(session.Run(command))
	if status < 0 {
		f.t.Fatalf("%s: no exit status (stdout %q, stderr %q)", command, out.String(), words.String())
	}
	return out.String(), words.String(), status
}

// statusOf is the exit status a session ended with; -1 where the connection was cut.
func statusOf(err error) int {
	var exit *gossh.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitStatus()
	}
	return -1
}

// probe is a program that shows the state of its session.
type probe struct {
	ctx           context.Context
	s             *Session
	width, height int
	profile       colorprofile.Profile
	typed         string
	pasted        int
	sizes         int
	result        string
	busy          bool // draw something else in every cell all the time
	ticks         int
	snapshot      *explorer.Snapshot
}

type (
	didMsg     struct{ err error }
	changedMsg struct{}
	tickMsg    struct{}
)

func newProbe(ctx context.Context, s *Session) *probe {
	return &probe{ctx: ctx, s: s, snapshot: s.Exploration.Snapshot()}
}

func (p *probe) watch() tea.Msg {
	if p.s.Exploration.Wait(p.ctx, p.snapshot.Revision) != nil {
		return nil
	}
	return changedMsg{}
}

func (p *probe) Init() tea.Cmd { return tea.Batch(p.watch, p.do(explorer.Attach{Where: "probe"})) }

func (p *probe) do(c explorer.Command) tea.Cmd {
	return func() tea.Msg {
		// A program that lies about who it is must get nowhere.
		_, err := p.s.Exploration.Do(p.ctx, explorer.Actor{Name: "mallory", Role: explorer.RoleOwner}, c)
		return didMsg{err}
	}
}

func (p *probe) tick() tea.Cmd {
	return tea.Tick(10*time.Millisecond, func(time.Time) tea.Msg { return tickMsg{} })
}

func (p *probe) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		p.width, p.height = msg.Width, msg.Height
		p.sizes++
	case tea.ColorProfileMsg:
		p.profile = msg.Profile
	case changedMsg:
		p.snapshot = p.s.Exploration.Snapshot()
		return p, p.watch
	case tickMsg:
		p.ticks++
		return p, p.tick()
	case didMsg:
		if p.result = "done"; msg.err != nil {
			p.result = msg.err.Error()
		}
	case tea.PasteMsg:
		p.pasted += len(msg.Content)
	case tea.KeyPressMsg:
		switch msg.String() {
		case "ctrl+q":
			return p, tea.Quit
		case "ctrl+e":
			return p, p.do(explorer.Edit{Mutations: []draft.Mutation{draft.DropAttention{Layers: []int{14}}}})
		case "ctrl+b":
			p.busy = true
			return p, p.tick()
		case "ctrl+p":
			panic("update of the probe")
		case "ctrl+z":
			return p, tea.Suspend
		default:
			p.typed += msg.String()
		}
	}
	return p, nil
}

// term is the terminal type that the client requested.
func (p *probe) term() string {
	for _, e := range p.s.Environ {
		if term, ok := strings.CutPrefix(e, "TERM="); ok {
			return term
		}
	}
	return ""
}

func (p *probe) View() tea.View {
	if strings.Contains(p.typed, "V") {
		panic("view of the probe")
	}
	var here []string
	for _, v := range p.snapshot.Presence {
		here = append(here, v.Name)
	}
	swatch := lipgloss.NewStyle().Foreground(lipgloss.Color("#ff0000")).Render("swatch")
	rows := []string{
		fmt.Sprintf("size %dx%d.", p.width, p.height),
		fmt.Sprintf("%s is %s on %s.", p.s.Actor.Name, p.s.Actor.Role, p.term()),
		"profile " + p.profile.String() + ".",
		"typed " + p.typed + ".",
		fmt.Sprintf("pasted %d.", p.pasted),
		fmt.Sprintf("steps %d.", len(p.snapshot.Draft.Steps)),
		"present " + strings.Join(here, ",") + ".",
		"result " + p.result + ".",
		fmt.Sprintf("busy %v.", p.busy),
		"environ " + strings.Join(p.s.Environ, " ") + ".",
		swatch,
	}
	for y := len(rows); p.busy && y < p.height; y++ {
		row := make([]byte, p.width)
		for x := range row {
			row[x] = byte('!' + (x*7+y*13+p.ticks*(x+y+1))%90)
		}
		rows = append(rows, string(row))
	}
	v := tea.NewView(strings.Join(rows, "\n"))
	v.AltScreen = true
	return v
}

// commands is a small command line.
func commands(ctx context.Context, f *fixture, c Command) int {
	switch c.Args[0] {
	case "status":
		fmt.Fprintf(c.Stdout, "{\"name\":%q,\"role\":%q,\"terminal\":%v}\n", c.Actor.Name, c.Actor.Role, c.Terminal)
	case "exit":
		n := 0
		fmt.Sscan(c.Args[1], &n)
		return n
	case "edit":
		if _, err := c.Exploration.Do(ctx, explorer.Actor{Name: "mallory", Role: explorer.RoleOwner},
			explorer.Edit{Mutations: []draft.Mutation{draft.DropAttention{Layers: []int{3}}}}); err != nil {
			fmt.Fprintln(c.Stderr, err)
			return 4
		}
	case "echo":
		fmt.Fprintln(c.Stdout, strings.Join(c.Args[1:], "|"))
	case "cat":
		if _, err := io.Copy(c.Stdout, c.Stdin); err != nil {
			return 1
		}
	case "wait":
		fmt.Fprintln(c.Stdout, "waiting")
		<-ctx.Done()
		return 130
	case "work": // which its owner breaks off when the server stops
		fmt.Fprintln(c.Stdout, "working")
		<-f.Stopping()
		return 1
	case "bytes":
		n := 0
		fmt.Sscan(c.Args[1], &n)
		if _, err := c.Stdout.Write(bytes.Repeat([]byte("0123456789abcdef"), n/16)); err != nil {
			return 1
		}
	case "environ":
		fmt.Fprintln(c.Stdout, strings.Join(c.Environ, "\n"))
	case "panic":
		panic("command")
	default:
		fmt.Fprintf(c.Stderr, "unknown command %q\n", c.Args[0])
		return 2
	}
	return 0
}

func noCommand(context.Context, Command) int { return 0 }
