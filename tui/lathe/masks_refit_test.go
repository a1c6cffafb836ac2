package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/draft"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// TestEditsAfterARefitAreNamed edits a re-fitted subnet: the draft that is shown has weights from before the edits, until they are undone.
func TestEditsAfterARefitAreNamed(t *testing.T) {
	e := explorertest.Open(t, explorertest.New(), "")
	made := explorertest.Do(t, e, explorer.Cut{Target: 0.8}).Subnet
	for _, one := range []struct {
		command explorer.Command
		named   bool
	}{
		{explorer.Checkout{Subnet: made}, false}, {explorer.Edit{Mutations: []draft.Mutation{draft.DropMLP{Layers: []int{3}}}}, true}, {explorer.Undo{}, false},
		{explorer.Checkout{Subnet: explorer.DenseID}, false}, {explorer.Edit{Mutations: []draft.Mutation{draft.DropMLP{Layers: []int{3}}}}, false},
	} {
		before := e.Snapshot()
		explorertest.Do(t, e, one.command)
		for _, format := range []struct {
			json bool
			want string
		}{{true, `"refitted_before_edits":true`}, {false, "re-fitted before the edits: lathe reform --subnet draft re-fits again"}} {
			var out bytes.Buffer
			a := &app{stdout: &out, json: format.json}
			if err := a.drafted(before, e.Snapshot(), one.command); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(out.String(), format.want) != one.named {
				t.Errorf("after %T: %s", one.command, out.String())
			}
		}
	}
}
