package explorer_test

import (
	"errors"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/explorer/report"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// TestFitOfTypedCandidate: a candidate whose matrices have types of their own counts with the size of its own file, for a size and for a memory, and is
// not taken for a subnet with the same masks in other types.
func TestFitOfTypedCandidate(t *testing.T) {
	s := *explorertest.Filled(t, explorertest.New()).Snapshot()
	typed := s.Search.Front[0]
	whole := s.Model.FileSize(typed.Masks, "")
	plain := typed
	typed.Individual.Bytes, typed.Individual.Tensors = whole.File/2, whole.Tensors/2
	s.Search.Front = []explorer.Candidate{typed}

	fit, err := s.FitTarget(search.Target{Measure: search.Bytes, Value: float64(whole.File) * 0.6})
	if err != nil || fit.Candidate != typed.ID || fit.Cost != float64(whole.File/2) {
		t.Errorf("for a size: %+v, %v", fit, err)
	}
	const context = 512
	memory := report.MemoryFor(s.Model, typed.Masks, context) - whole.Tensors + whole.Tensors/2
	if fit, err := report.FitMachine(&s, memory, context); err != nil || fit.Candidate != typed.ID || fit.Memory != memory {
		t.Errorf("for %d bytes of memory: %+v, %v", memory, fit, err)
	}
	if _, err := report.FitMachine(&s, memory-1, context); !errors.Is(err, explorer.ErrUnsupported) {
		t.Errorf("with a byte less: %v", err)
	}

	adopted := explorer.Subnet{ID: "s99", Origin: explorer.Searched, Masks: typed.Masks}
	s.Subnets, s.Search.Result = []explorer.Subnet{adopted}, ""
	if _, ok := s.Kept(plain); !ok {
		t.Error("a subnet with the masks of a candidate is not its own")
	}
	if n, ok := s.Kept(typed); ok {
		t.Errorf("%s has the types of the source and counts as the candidate's", n.ID)
	}
	all := s.Model.SubnetSize(&adopted)
	s.Subnets[0].Types = map[string]subnet.Type{"blk.0.ffn_up.weight": subnet.Q3_K}
	own := s.Model.SubnetSize(&s.Subnets[0])
	if typed.Individual.Tensors = own.Tensors; own.Tensors == all.Tensors {
		t.Fatal("the type changes no size")
	}
	if _, ok := s.Kept(typed); !ok {
		t.Error("a subnet with the masks and the size of a candidate is not its own")
	}
	if _, ok := s.Kept(plain); ok {
		t.Error("a subnet with types of its own counts as that of a candidate in the source's")
	}
}
