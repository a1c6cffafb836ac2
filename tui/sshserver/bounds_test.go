package sshserver

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

// took checks how much time of a clock has passed, to within what rounding in the limiter makes of it.
func (s *still) took(t *testing.T, began time.Time, want time.Duration) {
	t.Helper()
	const rounding = time.Millisecond
	if got := s.now.Sub(began); got < want-rounding || got > want+rounding {
		t.Errorf("took %v, want %v", got, want)
	}
}

func TestIncomingBytesAreSlowedDown(t *testing.T) {
	g, clock := testGate(Limits{})
	p, why := g.admit(tcp("192.0.2.1"))
	if p == nil {
		t.Fatal(why)
	}
	near, far := net.Pipe()
	c := newConnection(near, p, time.Hour)
	defer c.Close()
	clock.pass(c.budget)
	const sent = 5 << 20
	go func() {
		_, _ = far.Write(make([]byte, sent))
		_ = far.Close()
	}()
	began := clock.now
	// The buffer is larger than what may pass at once.
	if n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{c}, make([]byte, 2*inboundBurst)); n != sent || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	clock.took(t, began, time.Second*(sent-inboundBurst)/inboundRate)
}

func TestRequestsAreSlowedDown(t *testing.T) {
	clock := &still{explorertest.Start}
	var refused []string
	c := newChannel(t.Context(), nil, DefaultLimits(), func(what string) { refused = append(refused, what) })
	clock.pass(c.budget)
	requests, passed := make(chan *gossh.Request), make(chan *gossh.Request)
	go func() {
		defer close(requests)
		for i := range 700 {
			kind := []string{"window-change", "signal", "env", "x11-req", "anything"}[i%5]
			requests <- &gossh.Request{Type: kind, Payload: make([]byte, 16)}
		}
	}()
	began := clock.now
	go c.filter(requests, passed)
	for r := range passed {
		t.Errorf("%s was passed on", r.Type)
	}
	clock.took(t, began, time.Second*(700-requestsAtOnce)/requestsPerSecond)
	if want := []string{"env", "X11 forwarding", "other request"}; !slices.Equal(refused, want) {
		t.Errorf("the audit log has %q, want %q", refused, want)
	}
}

func TestKeysAreSlowedDown(t *testing.T) {
	clock := &still{explorertest.Start}
	const typed = 256 << 10
	i := newInput(t.Context(), bytes.NewReader(bytes.Repeat([]byte("k"), typed)))
	clock.pass(i.budget)
	began := clock.now
	if n, err := io.Copy(io.Discard, i); n != typed || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	clock.took(t, began, time.Second*(typed-keysAtOnce)/keysPerSecond)
}

func TestCommandsOfOneSessionAreBounded(t *testing.T) {
	f := serve(t, nil)
	clock := &still{explorertest.Start}
	open := func(name string) *sessionView {
		d := newSessionView(f.Server, &session{actor: explorer.Actor{Name: name, Role: explorer.RoleEditor}}, false)
		clock.pass(d.budget)
		return d
	}
	accepted := func(d *sessionView, try int) (n int) {
		t.Helper()
		for range try {
			_, err := d.Do(t.Context(), explorer.Actor{}, explorer.StopJob{Job: "none"})
			switch {
			case errors.Is(err, explorer.ErrNotFound): // it arrived: there is no such job
				n++
			case !errors.Is(err, ErrTooFast):
				t.Fatal(err)
			}
		}
		return n
	}
	greedy, modest := open("greedy"), open("modest")
	if n := accepted(greedy, 1000); n != commandsAtOnce {
		t.Errorf("%d commands at once, want %d", n, commandsAtOnce)
	}
	before := f.exploration.Snapshot().Revision
	if _, err := greedy.Do(t.Context(), explorer.Actor{}, explorer.Attach{Where: "elsewhere"}); err != nil {
		t.Errorf("moving on: %v", err) // no error: it is only not reported
	}
	if after := f.exploration.Snapshot().Revision; after != before {
		t.Errorf("a session without budget made revision %d of %d", after, before)
	}
	if n := accepted(modest, 1); n != 1 {
		t.Error("another session has to wait too")
	}
	clock.now = clock.now.Add(2 * time.Second)
	if n := accepted(greedy, 1000); n != 2*commandsPerSecond {
		t.Errorf("%d commands after two seconds, want %d", n, 2*commandsPerSecond)
	}
}

// TestOnlyOwnersNameFiles gives every command that names a file of the server's machine.
func TestOnlyOwnersNameFiles(t *testing.T) {
	f := serve(t, nil)
	secret := filepath.Join(t.TempDir(), "secret")
	text := explorer.Calibration{Text: secret}
	for _, c := range []explorer.Command{
		explorer.Export{Subnet: explorer.DenseID, Path: secret},
		explorer.ExportRecipe{Subnet: "s1", Path: secret},
		explorer.BuildRecipe{Path: secret},
		explorer.ImportFile{Path: secret},
		explorer.GatherStatistics{Calibration: text},
		explorer.Cut{Target: 0.8, Calibration: text},
		explorer.Cut{Target: 0.8, Calibration: explorer.Calibration{Mix: []explorer.MixText{{Name: explorer.TextWiki}, {Name: "secret", Path: secret}}}},
		explorer.Refit{Subnet: explorer.DraftID, Calibration: text},
		explorer.StartSearch{Target: search.Ratio(0.8), Calibration: text},
		explorer.Tune{Subnet: explorer.DraftID, Calibration: text, Tuning: explorer.Tuning{Steps: 1}},
		explorer.Measure{Subnet: explorer.DraftID, Text: secret},
		explorer.Measure{Subnet: explorer.DraftID, Against: secret},
	} {
		for role, want := range map[explorer.Role]bool{explorer.RoleEditor: false, explorer.RoleOwner: true} {
			v := &session{actor: explorer.Actor{Name: "x", Role: role}}
			_, err := newSessionView(f.Server, v, role >= explorer.RoleOwner).Do(t.Context(), explorer.Actor{}, c)
			if errors.Is(err, ErrFiles) == want {
				t.Errorf("%T of the %s: %v", c, role, err)
			}
		}
	}
	if _, err := newSessionView(f.Server, &session{actor: explorer.Actor{Role: explorer.RoleEditor}}, false).Do(t.Context(), explorer.Actor{},
		explorer.Cut{Target: 0.8}); err != nil {
		t.Errorf("a cut on the default text: %v", err)
	}
	if _, err := newSessionView(f.Server, &session{actor: explorer.Actor{Role: explorer.RoleEditor}}, false).Do(t.Context(), explorer.Actor{},
		explorer.Cut{Target: 0.8, Calibration: explorer.Calibration{Mix: []explorer.MixText{{Name: explorer.TextWiki}, {Name: explorer.TextChat}}}}); err != nil {
		t.Errorf("a cut on built-in texts: %v", err)
	}
	f.journal.until(t, "refused export", func(e Event) bool {
		return e.Event == eventDo && e.What == "Export subnet=dense" && e.Result == "forbidden"
	})
	explorertest.Quiet(t, f.exploration)
}

// TestPagesNameExistingTests looks for the tests that documentation names.
func TestPagesNameExistingTests(t *testing.T) {
	const root = "../.."
	var tests []byte
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		tests = append(tests, text...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`\bTest[A-Z]\w+`)
	for _, page := range []string{"README.md", "tui/sshserver/docs/bounds.md", "tui/sshserver/deploy/README.md"} {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range name.FindAllString(string(text), -1) {
			if !bytes.Contains(tests, []byte("func "+n+"(")) {
				t.Errorf("%s names %s, which does not exist", page, n)
			}
		}
	}
}
