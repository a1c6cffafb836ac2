package explorer_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer/durable"
)

// cutSteps are the steps that put the first weights of a workspace on the disk.
func cutSteps() []durable.Op {
	return []durable.Op{
		durable.OpMkdir, durable.OpCreate, durable.OpWrite, durable.OpSync, durable.OpClose, durable.OpRename, durable.OpSyncDir,
	}
}

// TestWeightsAreOnDiskBeforeTheRecord watches the journal at each step of writing weights.
func TestWeightsAreOnDiskBeforeTheRecord(t *testing.T) {
	b, dir := explorertest.New(), t.TempDir()
	e := explorertest.Open(t, b, dir)
	journal := func() []byte {
		content, err := os.ReadFile(filepath.Join(dir, "journal"))
		if err != nil {
			t.Error(err)
		}
		return content
	}
	before := journal()
	var steps []durable.Op
	e.SetWeightsDisk(durable.Disk{Before: func(op durable.Op, _ string) error {
		if !bytes.Equal(journal(), before) {
			t.Errorf("before %s something was recorded", op)
		}
		steps = append(steps, op)
		return nil
	}})
	id := explorertest.Do(t, e, explorer.Cut{Target: 0.7}).Subnet
	n, _ := e.Snapshot().Subnet(id)
	if n.Refit == "" || !bytes.Contains(journal(), []byte(n.Refit)) {
		t.Errorf("the journal does not name the weights %q", n.Refit)
	}
	for _, op := range cutSteps() {
		if !slices.Contains(steps, op) {
			t.Errorf("no step %q among %v", op, steps)
		}
	}
	if steps[len(steps)-1] != durable.OpSyncDir {
		t.Errorf("the last step is %s", steps[len(steps)-1])
	}
}

// TestWeightsThatCannotBeWritten lets each step fail: the job fails, nothing is recorded and no file stays. Then the disk works
// again, and so does the workspace.
func TestWeightsThatCannotBeWritten(t *testing.T) {
	for _, op := range cutSteps() {
		t.Run(string(op), func(t *testing.T) {
			b, dir := explorertest.New(), t.TempDir()
			e := explorertest.Open(t, b, dir)
			fault := errors.New("the disk is broken")
			e.SetWeightsDisk(durable.Disk{Before: func(at durable.Op, _ string) error {
				if at == op {
					return fault
				}
				return nil
			}})
			r, err := e.Do(t.Context(), explorertest.Owner, explorer.Cut{Target: 0.7})
			if err != nil {
				t.Fatal(err)
			}
			if job := explorertest.Ended(t, e, r.Job); job.State != explorer.Failed || !strings.Contains(job.Err, fault.Error()) || !strings.Contains(job.Err, dir) {
				t.Errorf("%s: %s", job.State, job.Err)
			}
			if n := len(e.Snapshot().Subnets); n != 0 {
				t.Errorf("%d subnets were recorded", n)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "weights", ".*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			e.SetWeightsDisk(durable.Disk{})
			explorertest.Do(t, e, explorer.Cut{Target: 0.7})
			e = reopen(t, e, b)
			for _, n := range e.Snapshot().Subnets {
				explorertest.Do(t, e, explorer.Measure{Subnet: n.ID})
			}
			if n := len(e.Snapshot().Subnets); n != 1 {
				t.Errorf("%d subnets after a restart", n)
			}
		})
	}
}
