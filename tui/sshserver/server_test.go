package sshserver

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

func TestOnlyKnownKeysGetIn(t *testing.T) {
	f := serve(t, nil)
	if out, _, status := f.output(f.editor, "status"); status != 0 || out != `{"name":"ed","role":"editor","terminal":false}`+"\n" {
		t.Errorf("editor: %q, status %d", out, status)
	}
	asked := false
	for name, auth := range map[string][]gossh.AuthMethod{
		"no way at all": nil,
		"unknown key":   {gossh.PublicKeys(f.nobody)},
		"password":      {gossh.Password("secret-password")},
		"keyboard-interactive": {gossh.KeyboardInteractive(func(string, string, []string, []bool) ([]string, error) {
			asked = true
			return nil, nil
		})},
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := f.dial(auth...); err == nil {
				c.Close()
				t.Error("got in")
			}
		})
	}
	if asked {
		t.Error("the server asked questions")
	}
	f.journal.until(t, "refused login", func(e Event) bool { return e.Event == eventRefuse && e.What == "login" && e.Result == "publickey" })
	if strings.Contains(f.journal.String(), "secret-password") {
		t.Error("a password is in the audit log")
	}
}

// forged offers somebody's public key and signs with another.
type forged struct {
	gossh.Signer
	public gossh.PublicKey
}

func (f forged) PublicKey() gossh.PublicKey { return f.public }

// chameleon is asked about as one key, which takes the client two looks, and used as another.
type chameleon struct {
	gossh.PublicKey // the one used
	asked           gossh.PublicKey
	looks           int
}

func (c *chameleon) Marshal() []byte {
	if c.looks++; c.looks <= 2 {
		return c.asked.Marshal()
	}
	return c.PublicKey.Marshal()
}

func TestRightsComeFromTheKeyThatSigned(t *testing.T) {
	f := serve(t, nil)
	// The server accepts the offer of the owner's key both times.
	if c, err := f.dial(gossh.PublicKeys(forged{f.viewer, f.owner.PublicKey()})); err == nil {
		c.Close()
		t.Fatal("got in with a key that did not sign")
	}
	both := &chameleon{PublicKey: f.viewer.PublicKey(), asked: f.owner.PublicKey()}
	c, err := f.dial(gossh.PublicKeys(forged{f.viewer, both}))
	if err != nil || both.looks != 3 {
		t.Fatalf("%v after %d looks at the key", err, both.looks)
	}
	defer c.Close()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Output("status")
	if err != nil || !strings.Contains(string(out), `"name":"vera","role":"viewer"`) {
		t.Errorf("%s, %v", out, err)
	}
}

func TestRemovedKeyEndsItsSessions(t *testing.T) {
	f := serve(t, nil)
	editor := f.open(f.editor, "xterm-256color", 80, 24)
	viewer := f.open(f.viewer, "xterm-256color", 80, 24)
	editor.until("ed is editor")
	viewer.until("vera is viewer")
	waiting := f.session(f.editor)
	out, err := waiting.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := waiting.Start("wait"); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}

	f.allow(line(`lathe-role="viewer"`, f.viewer, "vera"))
	if status := editor.ended(); status != exitEnded {
		t.Errorf("terminal: exit status %d", status)
	}
	editor.until(errRevoked.Error())
	var exit *gossh.ExitError
	if err := waiting.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 130 {
		t.Errorf("command: %v", err)
	}
	if _, err := f.dial(gossh.PublicKeys(f.editor)); err == nil {
		t.Error("the removed key still gets in")
	}
	viewer.keysDown("still")
	viewer.until("typed still.")
	f.journal.until(t, "close", func(e Event) bool {
		return e.Event == eventClose && e.Name == "ed" && e.Result == errRevoked.Error()
	})
}

func TestAddedKeyGetsInAndRolesFollowTheFile(t *testing.T) {
	f := serve(t, nil)
	if _, err := f.dial(gossh.PublicKeys(f.nobody)); err == nil {
		t.Fatal("got in too early")
	}
	ed := f.open(f.editor, "xterm", 80, 24)
	ed.until("ed is editor")
	f.allow(line("", f.nobody, "new"), line(`lathe-role="viewer"`, f.editor, "ed"))
	if out, _, _ := f.output(f.nobody, "status"); !strings.Contains(out, `"name":"new","role":"viewer"`) {
		t.Errorf("new key: %s", out)
	}
	if ed.ended() != exitEnded {
		t.Error("a session keeps a role that its key no longer has")
	}
	ed.until(errChanged.Error())
}

func TestKeyFileThatIsGoneOrOpenLetsNobodyIn(t *testing.T) {
	f := serve(t, nil)
	f.open(f.owner, "xterm", 80, 24).until("olga is owner")
	if err := os.Chmod(f.keys, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := f.dial(gossh.PublicKeys(f.owner)); err == nil {
		t.Error("a file that others can write to still counts")
	}
	ended := func(e Event) bool { return e.Event == eventClose && e.Name == "olga" && e.Result == errRevoked.Error() }
	f.journal.until(t, "end of the session", ended)
}

func TestListensBeyondLoopbackOnlyWithAKeyFile(t *testing.T) {
	own := filepath.Join(t.TempDir(), "id_ed25519.pub")
	key := newKey(t)
	if err := os.WriteFile(own, gossh.MarshalAuthorizedKey(key.PublicKey()), 0o644); err != nil {
		t.Fatal(err)
	}
	f := serve(t, func(o *Options) { o.AuthorizedKeys, o.OwnKeys = "", []string{own} })
	if out, _, _ := f.output(key, "status"); !strings.Contains(out, `"role":"owner"`) {
		t.Errorf("the user's own key: %s", out)
	}
	if _, err := f.dial(gossh.PublicKeys(f.owner)); err == nil {
		t.Error("another key got in")
	}
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0"} {
		if err := f.ListenAndServe(t.Context(), address); !errors.Is(err, ErrExposed) {
			t.Errorf("%s: %v", address, err)
		}
	}
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Serve(t.Context(), l); !errors.Is(err, ErrExposed) {
		t.Errorf("Serve: %v", err)
	}
}

func TestNewChecksWhatItIsGiven(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), "")
	folder := t.TempDir()
	good := filepath.Join(folder, "authorized_keys")
	if err := os.WriteFile(good, []byte(line("", newKey(t), "a")), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(folder, "broken")
	if err := os.WriteFile(broken, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := func() Options {
		return Options{Exploration: e, Commands: nil, Program: nil, AuthorizedKeys: good, HostKey: filepath.Join(folder, "host_key"), Log: testLog(t)}
	}
	for name, test := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no exploration":   {func(o *Options) { o.Exploration = nil }, "no exploration"},
		"nothing to run":   {func(*Options) {}, "neither a program nor commands"},
		"no host key":      {func(o *Options) { o.Commands = noCommand; o.HostKey = "" }, "no host key"},
		"no keys":          {func(o *Options) { o.Commands = noCommand; o.AuthorizedKeys = "" }, "no public key"},
		"missing file":     {func(o *Options) { o.Commands = noCommand; o.AuthorizedKeys = filepath.Join(folder, "none") }, "no such file"},
		"file is a folder": {func(o *Options) { o.Commands = noCommand; o.AuthorizedKeys = folder }, "not a regular file"},
		"broken host key":  {func(o *Options) { o.Commands = noCommand; o.HostKey = broken }, "host key"},
	} {
		t.Run(name, func(t *testing.T) {
			o := base()
			test.change(&o)
			if _, err := New(o); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestHostKeyIsMadeOnceForItsOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "host_key")
	first, err := hostKey(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	again, err := hostKey(path)
	if err != nil || string(again.PublicKey().Marshal()) != string(first.PublicKey().Marshal()) {
		t.Fatalf("another key the second time: %v", err)
	}
	public, err := os.ReadFile(path + ".pub")
	if key, _, _, _, parse := gossh.ParseAuthorizedKey(public); err != nil || parse != nil || string(key.Marshal()) != string(first.PublicKey().Marshal()) {
		t.Errorf("public half: %v %v", err, parse)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 2 {
		t.Errorf("files left: %v, %v", left, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := hostKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
}

func TestShutdownTellsSessionsAndEnds(t *testing.T) {
	f := serve(t, func(o *Options) { o.Limits.Grace = 3 * time.Second })
	s := f.open(f.viewer, "xterm-256color", 80, 24)
	s.until("vera is viewer")
	w := f.session(f.editor)
	if err := w.Start("wait"); err != nil {
		t.Fatal(err)
	}
	f.journal.until(t, "command", func(e Event) bool { return e.Event == eventOpen && e.What == "wait" })
	broken := f.session(f.owner)
	var words strings.Builder
	broken.Stderr = &words
	if err := broken.Start("work"); err != nil {
		t.Fatal(err)
	}
	f.journal.until(t, "command", func(e Event) bool { return e.Event == eventOpen && e.What == "work" })
	f.stop()
	s.until("The server is stopping")
	if status := s.ended(); status != exitEnded {
		t.Errorf("terminal: exit status %d", status)
	}
	s.until(errStopped.Error())
	if !strings.Contains(s.sent(), "\x1b[?1049l") {
		t.Error("the terminal was left on the alternate screen")
	}
	if status := statusOf(w.Wait()); status != 130 {
		t.Errorf("command: exit status %d", status)
	}
	if status := statusOf(broken.Wait()); status != 1 || !strings.Contains(words.String(), errStopped.Error()) {
		t.Errorf("command whose work was broken off: exit status %d, %q", status, words.String())
	}
	err := <-f.served
	f.served <- err
	if err != nil {
		t.Error(err)
	}
	if _, err := f.dial(gossh.PublicKeys(f.viewer)); err == nil {
		t.Error("a stopped server lets people in")
	}
}

func TestPresenceIsPerPrincipal(t *testing.T) {
	f := serve(t, nil)
	present := func(names ...string) {
		t.Helper()
		explorertest.Until(t, f.exploration, "presence "+strings.Join(names, ","), func(s *explorer.Snapshot) bool {
			var here []string
			for _, v := range s.Presence {
				here = append(here, v.Name)
			}
			return slices.Equal(here, names)
		})
	}
	first, second := f.open(f.editor, "xterm", 80, 24), f.open(f.editor, "xterm", 80, 24)
	first.until("present ed.")
	second.until("present ed.")
	viewer := f.open(f.viewer, "xterm", 80, 24)
	first.until("present ed,vera.")
	first.keysDown("\x11")
	if status := first.ended(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	f.journal.until(t, "close", func(e Event) bool { return e.Event == eventClose && e.Result == "left" })
	present("ed", "vera")
	second.keysDown("\x11")
	present("vera")
	viewer.session.Close()
	present()
}
