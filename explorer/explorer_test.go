package explorer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

func TestEditUndoRedo(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), "")
	first := e.Snapshot()
	r := explorertest.Do(t, e, explorer.Edit{Version: first.Draft.Version, Mutations: []draft.Mutation{draft.DropMLP{Layers: []int{4}}}})
	s := e.Snapshot()
	if s.Draft.Version != r.Version || r.Version <= first.Draft.Version || !s.Draft.Dirty() {
		t.Fatalf("version %d after %d", r.Version, first.Draft.Version)
	}
	if !first.Draft.Masks.Layer(4).Channels.IsFull() {
		t.Error("an old snapshot changed")
	}
	if s.Sections[explorer.SectionDraft] <= first.Sections[explorer.SectionDraft] || s.Sections[explorer.SectionChats] != first.Sections[explorer.SectionChats] {
		t.Errorf("sections %+v after %+v", s.Sections, first.Sections)
	}
	if want := "layer 4: mlp 1536 → 0"; s.Draft.Steps[0].Summary != want || s.Draft.Steps[0].Author != "ada" {
		t.Errorf("step %+v", s.Draft.Steps[0])
	}
	edited := s.Draft.Masks
	explorertest.Do(t, e, explorer.Undo{})
	if s := e.Snapshot(); !s.Draft.Masks.Equal(first.Draft.Masks) || len(s.Draft.Undone) != 1 || s.Draft.Dirty() {
		t.Error("undo did not lead back")
	}
	explorertest.Do(t, e, explorer.Redo{})
	if s := e.Snapshot(); !s.Draft.Masks.Equal(edited) || len(s.Draft.Undone) != 0 {
		t.Error("redo did not lead forth")
	}
	explorertest.Do(t, e, explorer.Undo{})
	explorertest.Do(t, e, explorer.Edit{Mutations: []draft.Mutation{draft.DropAttention{Layers: []int{1}}}})
	if n := len(e.Snapshot().Draft.Undone); n != 0 {
		t.Errorf("%d steps to redo after an edit", n)
	}
}

func TestCommandsRefused(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), "")
	viewer, editor := explorer.Actor{Name: "v"}, explorer.Actor{Name: "e", Role: explorer.RoleEditor}
	edit := explorer.Edit{Mutations: []draft.Mutation{draft.DropMLP{Layers: []int{4}}}}
	for name, c := range map[string]struct {
		actor   explorer.Actor
		command explorer.Command
		want    error
	}{
		"viewer edits":      {viewer, edit, explorer.ErrForbidden},
		"editor empties":    {editor, explorer.EmptyTrash{}, explorer.ErrForbidden},
		"stale":             {editor, explorer.Edit{Version: 99, Mutations: edit.Mutations}, explorer.ErrStale},
		"no change":         {editor, explorer.Edit{Mutations: []draft.Mutation{draft.Restore{Layers: []int{0}, Module: draft.MLP}}}, explorer.ErrInvalid},
		"nothing to undo":   {editor, explorer.Undo{}, explorer.ErrInvalid},
		"nothing to redo":   {editor, explorer.Redo{}, explorer.ErrInvalid},
		"unknown subnet":    {editor, explorer.Checkout{Subnet: "s7"}, explorer.ErrNotFound},
		"rename unknown":    {editor, explorer.RenameSubnet{Subnet: "s7", Name: "x"}, explorer.ErrNotFound},
		"ratio 0":           {editor, explorer.Cut{}, explorer.ErrInvalid},
		"ratio 1.1":         {editor, explorer.Cut{Target: 1.1}, explorer.ErrInvalid},
		"target -1":         {editor, explorer.StartSearch{Target: search.Ratio(-1)}, explorer.ErrInvalid},
		"window of 1":       {editor, explorer.Cut{Target: 0.5, Calibration: explorer.Calibration{Seq: 1}}, explorer.ErrInvalid},
		"measure unknown":   {editor, explorer.Measure{Subnet: "s7"}, explorer.ErrNotFound},
		"export nowhere":    {editor, explorer.Export{Subnet: explorer.DenseID}, explorer.ErrInvalid},
		"no search":         {editor, explorer.Retarget{Target: search.Ratio(0.7)}, explorer.ErrNotFound},
		"no candidate":      {editor, explorer.Adopt{}, explorer.ErrNotFound},
		"no job":            {editor, explorer.StopJob{Job: "j9"}, explorer.ErrNotFound},
		"chat of nobody":    {editor, explorer.OpenChat{}, explorer.ErrInvalid},
		"say nothing":       {editor, explorer.Say{Chat: "c1", Text: " \n"}, explorer.ErrInvalid},
		"say to nobody":     {editor, explorer.Say{Chat: "c1", Text: "hello"}, explorer.ErrNotFound},
		"masks of nonsense": {editor, explorer.AddSubnet{Masks: "nonsense"}, explorer.ErrInvalid},
		"bench of nothing":  {editor, explorer.StartBench{Settings: explorer.BenchSettings{Prompt: []int{0}}}, explorer.ErrInvalid},
	} {
		before := e.Snapshot()
		if _, err := e.Do(t.Context(), c.actor, c.command); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line: %q", name, err)
		}
		if after := e.Snapshot(); after.Draft.Version != before.Draft.Version || len(after.Jobs) != len(before.Jobs) {
			t.Errorf("%s: changed something", name)
		}
	}
}

func TestLibrary(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), "")
	a := explorertest.Do(t, e, explorer.Cut{Target: 0.8, Name: "a\x1b[31m\nb"}).Subnet
	n, _ := e.Snapshot().Subnet(a)
	if n.Name != "a [31m b" || n.Refit == "" || n.Method.Preset == "" || n.Author != "ada" {
		t.Errorf("subnet %q with weights %q, method %+v by %s", n.Name, n.Refit, n.Method, n.Author)
	}
	if d := n.Size.Ratio - 0.8; d > 0.01 || d < -0.01 {
		t.Errorf("share %g", n.Size.Ratio)
	}
	b := explorertest.Do(t, e, explorer.DuplicateSubnet{Subnet: a, Name: "b"}).Subnet
	explorertest.Do(t, e, explorer.DeleteSubnet{Subnet: a})
	s := e.Snapshot()
	if len(s.Subnets) != 1 || s.Subnets[0].ID != b || len(s.Trash) != 1 || s.Trash[0].Deleted.IsZero() {
		t.Fatalf("library %v, trash %v", s.Subnets, s.Trash)
	}
	explorertest.Do(t, e, explorer.RestoreSubnet{Subnet: a})
	if s := e.Snapshot(); len(s.Subnets) != 2 || len(s.Trash) != 0 {
		t.Fatal("not restored")
	}
	explorertest.Do(t, e, explorer.DeleteSubnet{Subnet: a})
	explorertest.Do(t, e, explorer.EmptyTrash{})
	if _, ok := e.Snapshot().Subnet(a); ok {
		t.Error("still there after the trash was emptied")
	}
	// The duplicate shares the weights: they must have survived.
	explorertest.Do(t, e, explorer.Measure{Subnet: b})
	c := explorertest.Do(t, e, explorer.AddSubnet{Masks: masksText(t, subnet.Dense(explorertest.Geometry()))}).Subnet
	if c == a || c == b {
		t.Errorf("id %s was used twice", c)
	}
}

func masksText(t *testing.T, m subnet.Masks) string {
	t.Helper()
	text, err := m.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestMeasurementsAreComparedUnderEqualConditions(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), "")
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.6}).Subnet
	explorertest.Do(t, e, explorer.Measure{Subnet: explorer.DenseID, Text: "t.txt", Seq: 512, Windows: 2})
	explorertest.Do(t, e, explorer.Measure{Subnet: cut, Text: "t.txt", Seq: 2048, Windows: 2})
	explorertest.Do(t, e, explorer.Measure{Subnet: cut, Text: "t.txt", Seq: 512, Windows: 2})
	n, _ := e.Snapshot().Subnet(cut)
	if r := n.Measurements[0].Relative(); r <= 1 {
		t.Errorf("relative to dense %g under equal conditions", r)
	}
	if r := n.Measurements[1].Relative(); r != 0 {
		t.Errorf("relative to dense %g under other conditions", r)
	}
}

func TestReadOnlyStillChats(t *testing.T) {
	b := explorertest.New()
	e, err := explorer.Open(t.Context(), explorer.Options{Model: "m.gguf", Workspace: t.TempDir(), Backend: b, Now: b.Clock.Now, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Do(t.Context(), explorertest.Owner, explorer.Cut{Target: 0.5}); !errors.Is(err, explorer.ErrReadOnly) {
		t.Errorf("cut: %v", err)
	}
	if _, err := e.Do(t.Context(), explorertest.Owner, explorer.Edit{Mutations: []draft.Mutation{draft.DropMLP{Layers: []int{4}}}}); !errors.Is(err, explorer.ErrReadOnly) {
		t.Errorf("edit: %v", err)
	}
	chat := explorertest.Do(t, e, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID}}).Chat
	explorertest.Do(t, e, explorer.Say{Chat: chat, Text: "hello"})
	if c, _ := explorertest.Quiet(t, e).Chat(chat); c.Columns[0].Replies[0].Text == "" {
		t.Errorf("no reply: %+v", c)
	}
}
