package explorer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// A model that no engine runs is cut and measured; what would run it is refused with the reason, and starts nothing.
func TestModelWithoutARuntime(t *testing.T) {
	b := explorertest.New()
	b.NoRuntime = "no engine knows it"
	e := explorertest.Open(t, b, "")
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.8}).Subnet
	explorertest.Do(t, e, explorer.Measure{Subnet: cut, Seq: 2048, Windows: 1})
	explorertest.Do(t, e, explorer.Measure{Subnet: cut, Engine: explorer.EngineDecoder, Seq: 2048, Windows: 1})
	for _, c := range []explorer.Command{
		explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID}}, explorer.StartBench{},
		explorer.Measure{Subnet: cut, Engine: explorer.EngineLlama, Seq: 2048, Windows: 1},
	} {
		_, err := e.Do(t.Context(), explorertest.Owner, c)
		if !errors.Is(err, explorer.ErrUnsupported) || !strings.Contains(err.Error(), b.NoRuntime) {
			t.Errorf("%T: error %v", c, err)
		}
	}
	if s := explorertest.Quiet(t, e); len(s.Chats) > 0 || len(s.Benches) > 0 {
		t.Errorf("%d chats, %d benchmarks", len(s.Chats), len(s.Benches))
	}
}
