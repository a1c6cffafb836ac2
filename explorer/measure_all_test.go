package explorer_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// TestMeasureAll takes several measurements in one job, here and by workers, one of which fails: the others are kept, equal in both, and the job's error names
// what failed.
func TestMeasureAll(t *testing.T) {
	var before string
	for _, on := range []explorer.Machines{{}, {Workers: 2}} {
		b := explorertest.New()
		b.Missing = []string{"nothing.txt"}
		e := explorertest.Open(t, b, t.TempDir())
		cut := explorertest.Do(t, e, explorer.Cut{Target: 0.8}).Subnet
		all := explorer.MeasureAll{Machines: on, Of: []explorer.Measure{
			{Subnet: cut, Text: "some.txt", Against: explorer.AgainstDense}, {Subnet: explorer.DenseID, Text: "nothing.txt"}, {Subnet: explorer.DenseID, Text: "some.txt"},
		}}
		r, err := e.Do(t.Context(), explorertest.Owner, all)
		if err != nil {
			t.Fatal(err)
		}
		explorertest.Until(t, e, "the end", func(s *explorer.Snapshot) bool {
			j, ok := s.Job(r.Job)
			return ok && j.State.Ended()
		})
		s := e.Snapshot()
		if j, _ := s.Job(r.Job); j.State != explorer.Failed || !strings.Contains(j.Err, "dense: ") || !strings.Contains(j.Err, "nothing.txt") || j.Title != "3 measurements" {
			t.Errorf("%+v: job %+v", on, j)
		}
		n, _ := s.Subnet(cut)
		if len(n.Measurements) != 1 || len(s.Model.Measurements) != 1 || n.Measurements[0].Share == 0 || n.Measurements[0].By == "" {
			t.Fatalf("%+v: %d and %d measurements are kept", on, len(n.Measurements), len(s.Model.Measurements))
		}
		got := n.Measurements[0]
		got.Seconds = 0
		if text := fmt.Sprintf("%+v %+v", got, *got.Distance); before != "" && text[:200] != before[:200] {
			t.Errorf("by workers %s, here %s", text, before)
		} else {
			before = text
		}
		for what, wrong := range map[string]explorer.MeasureAll{
			"nothing": {}, "asynchronous": {Of: all.Of, Machines: explorer.Machines{Workers: 1, Async: true}}, "no such subnet": {Of: []explorer.Measure{{Subnet: "s99"}}},
			"a window of one token": {Of: []explorer.Measure{{Subnet: cut, Seq: 1}}}, "more windows than there can be": {Of: []explorer.Measure{{Subnet: cut, Windows: 1 << 50}}},
			"longer windows than there can be": {Of: []explorer.Measure{{Subnet: cut, Seq: 1 << 50, Windows: 4}}}, "a password in the address": {Of: all.Of, Machines: explorer.Machines{NATS: "nats://a:b@127.0.0.1:1"}},
		} {
			if _, err := e.Do(t.Context(), explorertest.Owner, wrong); err == nil {
				t.Errorf("%s is accepted", what)
			}
		}
	}
}
