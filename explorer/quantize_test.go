package explorer_test

import (
	"context"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/search"
)

// quantizes is a backend that records how it is asked to choose types.
type quantizes struct {
	*explorertest.Backend
	asked explorer.Quantize
}

func (b *quantizes) Open(ctx context.Context, path string) (explorer.Model, error) {
	m, err := b.Backend.Open(ctx, path)
	return quantizesModel{m, b}, err
}

type quantizesModel struct {
	explorer.Model
	b *quantizes
}

func (m quantizesModel) Quantize(ctx context.Context, from gguf.Subnet, c explorer.Quantize, dir string, mon explorer.Monitor) (explorer.Made, error) {
	m.b.asked = c
	return m.Model.Quantize(ctx, from, c, dir, mon)
}

// TestSeedOfTypes: the seed of a choice of types is that of the draw of its windows too, unless the draw has one.
func TestSeedOfTypes(t *testing.T) {
	b := &quantizes{Backend: explorertest.New()}
	e, err := explorer.Open(t.Context(), explorer.Options{Model: "m.gguf", Backend: b, Now: b.Clock.Now, Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	c := explorer.Quantize{Subnet: explorer.DenseID, Widths: true, Target: search.Target{Measure: search.Bytes, Value: 60e6}, Seed: 7}
	explorertest.Do(t, e, c)
	if got := b.asked.Calibration.Seed; got != 7 {
		t.Errorf("windows are drawn with the seed %d", got)
	}
	c.Calibration.Seed = 3
	explorertest.Do(t, e, c)
	if got := b.asked.Calibration.Seed; got != 3 {
		t.Errorf("windows are drawn with the seed %d instead of their own", got)
	}
}
