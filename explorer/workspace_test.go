package explorer_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// reopen closes an exploration and opens its workspace again.
func reopen(t *testing.T, e *explorer.Exploration, b *explorertest.Backend) *explorer.Exploration {
	t.Helper()
	dir := e.Snapshot().Workspace.Path
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return explorertest.Open(t, b, dir)
}

func TestReopenFindsEverythingAsItWas(t *testing.T) {
	b := explorertest.New()
	e := explorertest.Open(t, b, t.TempDir())
	explorertest.Fill(t, e, b)
	explorertest.Do(t, e, explorer.DeleteSubnet{Subnet: e.Snapshot().Subnets[0].ID})
	before := e.Snapshot()
	for range 3 { // the second opening reads a compacted journal
		e = reopen(t, e, b)
		after := e.Snapshot()
		for _, part := range []struct {
			name string
			a, b any
		}{
			{"subnets", before.Subnets, after.Subnets}, {"trash", before.Trash, after.Trash}, {"chats", before.Chats, after.Chats},
			{"benches", before.Benches, after.Benches}, {"measurements", before.Model.Measurements, after.Model.Measurements},
			{"base", before.Draft.Base, after.Draft.Base},
		} {
			if !reflect.DeepEqual(part.a, part.b) {
				t.Errorf("%s:\n%+v\nbefore, now\n%+v", part.name, part.a, part.b)
			}
		}
		if !after.Draft.Masks.Equal(before.Draft.Masks) || len(after.Draft.Steps) != len(before.Draft.Steps) || len(after.Draft.Undone) != len(before.Draft.Undone) {
			t.Error("the draft is another")
		}
		if len(after.Messages) != 0 {
			t.Errorf("messages %v", after.Messages)
		}
	}
	explorertest.Do(t, e, explorer.Redo{})
	explorertest.Do(t, e, explorer.Undo{})
	explorertest.Do(t, e, explorer.Undo{})
	if n := len(e.Snapshot().Draft.Steps); n != len(before.Draft.Steps)-1 {
		t.Errorf("%d steps after undo over a restart", n)
	}
	for _, n := range e.Snapshot().Subnets { // the weights are there too
		explorertest.Do(t, e, explorer.Measure{Subnet: n.ID})
	}
}

func TestSecondOpenerIsReadOnly(t *testing.T) {
	b, dir := explorertest.New(), t.TempDir()
	first := explorertest.Open(t, b, dir)
	explorertest.Do(t, first, explorer.Cut{Target: 0.7, Name: "mine"})
	second := explorertest.Open(t, b, dir)
	s := second.Snapshot()
	if !s.Workspace.ReadOnly || !strings.Contains(s.Workspace.Holder, fmt.Sprint("process ", os.Getpid())) || len(s.Messages) != 1 {
		t.Errorf("workspace %+v, messages %v", s.Workspace, s.Messages)
	}
	if len(s.Subnets) != 1 {
		t.Errorf("sees %d subnets", len(s.Subnets))
	}
	if _, err := second.Do(t.Context(), explorertest.Owner, explorer.RenameSubnet{Subnet: "s1", Name: "yours"}); !errors.Is(err, explorer.ErrReadOnly) {
		t.Errorf("rename: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if third := explorertest.Open(t, b, dir); third.Snapshot().Workspace.ReadOnly {
		t.Error("read-only after the holder closed it")
	}
}

func TestWorkspaceOfAnotherModelIsRefused(t *testing.T) {
	b, dir := explorertest.New(), t.TempDir()
	explorertest.Open(t, b, dir)
	card := filepath.Join(dir, "workspace.json")
	text, err := os.ReadFile(card)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		old, new string
		want     error
	}{
		{"0123456789abcdef", "beef", explorer.ErrInvalid},
		{`"format": 1`, `"format": 9`, explorer.ErrUnsupported},
		{"{", "", explorer.ErrDamaged},
	} {
		other := t.TempDir()
		if err := os.WriteFile(filepath.Join(other, "workspace.json"), bytes.Replace(text, []byte(c.old), []byte(c.new), 1), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := explorer.Open(t.Context(), explorer.Options{Model: "m.gguf", Workspace: other, Backend: b})
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), other) {
			t.Errorf("%q for %q: %v", c.new, c.old, err)
		}
	}
}

func TestDamagedJournal(t *testing.T) {
	for name, c := range map[string]struct {
		damage   func([]byte) []byte
		subnets  int
		messages int
	}{
		"torn end":    {func(b []byte) []byte { return b[:len(b)-10] }, 2, 1},
		"garbage end": {func(b []byte) []byte { return append(b, "garbage"...) }, 3, 1},
		"flipped bit": {func(b []byte) []byte {
			b[bytes.IndexByte(b, '\n')+40] ^= 1
			return b
		}, 2, 1},
		"empty": {func([]byte) []byte { return nil }, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b, dir := explorertest.New(), t.TempDir()
			e := explorertest.Open(t, b, dir)
			text := masksText(t, subnet.Dense(explorertest.Geometry()))
			for range 3 {
				explorertest.Do(t, e, explorer.AddSubnet{Masks: text})
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "journal")
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, c.damage(content), 0o644); err != nil {
				t.Fatal(err)
			}
			e = explorertest.Open(t, b, dir)
			s := e.Snapshot()
			if len(s.Subnets) != c.subnets || len(s.Messages) != c.messages {
				t.Errorf("%d subnets, messages %v", len(s.Subnets), s.Messages)
			}
			if c.messages > 0 {
				if _, err := os.Stat(file + ".damaged"); err != nil {
					t.Error(err)
				}
			}
			explorertest.Do(t, e, explorer.AddSubnet{Masks: text})
			if s := reopen(t, e, b).Snapshot(); len(s.Subnets) != c.subnets+1 || len(s.Messages) != 0 {
				t.Errorf("then %d subnets, messages %v", len(s.Subnets), s.Messages)
			}
		})
	}
}

func TestDamagedWeights(t *testing.T) {
	b, dir := explorertest.New(), t.TempDir()
	e := explorertest.Open(t, b, dir)
	id := explorertest.Do(t, e, explorer.Cut{Target: 0.7}).Subnet
	n, _ := e.Snapshot().Subnet(id)
	file := filepath.Join(dir, "weights", n.Refit)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{
		"cut short": content[:len(content)-1], "longer": append(bytes.Clone(content), 0), "foreign": []byte("nonsense\n"), "empty": nil,
		"flipped": append(bytes.Clone(content[:len(content)-1]), content[len(content)-1]^1),
	} {
		if err := os.WriteFile(file, damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := e.Do(t.Context(), explorertest.Owner, explorer.Measure{Subnet: id})
		if err != nil {
			t.Fatal(err)
		}
		if job := explorertest.Ended(t, e, r.Job); job.State != explorer.Failed || !strings.Contains(job.Err, n.Refit) {
			t.Errorf("%s: %s: %s", name, job.State, job.Err)
		}
	}
}

// TestKilledProcessLosesNothingItWasToldIsDone kills a child at random points of its work and looks for everything it had
// reported done.
func TestKilledProcessLosesNothingItWasToldIsDone(t *testing.T) {
	const workspaceOf = "LATHE_TEST_WORKSPACE"
	if dir := os.Getenv(workspaceOf); dir != "" {
		work(t, dir)
		return
	}
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	done := 0
	for round := range 5 {
		child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		child.Env = append(os.Environ(), workspaceOf+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 7*(round+1) && lines.Scan(); n++ {
			if lines.Text() == "done" {
				done++
			}
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it said before the kill reached it
			if lines.Text() == "done" {
				done++
			}
		}
		_ = child.Wait() // it was killed
	}
	e := explorertest.Open(t, explorertest.New(), dir)
	s := e.Snapshot()
	if n := len(s.Subnets); n < done || n > done+5 {
		t.Errorf("%d subnets in the workspace, %d were reported done", n, done)
	}
	for _, n := range s.Subnets {
		explorertest.Do(t, e, explorer.Measure{Subnet: n.ID})
	}
	if done < 20 {
		t.Errorf("only %d done: the child was killed too early to test anything", done)
	}
}

// work makes subnets with weights until it is killed.
func work(t *testing.T, dir string) {
	e := explorertest.Open(t, explorertest.New(), dir)
	for range 10000 {
		explorertest.Do(t, e, explorer.Cut{Target: 0.7})
		fmt.Println("done")
	}
}
