package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/remote"
)

// statisticsBytes bounds the statistics of a layer with so many units.
func statisticsBytes(g subnet.LayerGeometry) int64 {
	const start, perUnit = 1 << 16, 128
	return start + perUnit*int64(g.FFN+g.Heads)
}

// gatherElsewhere has the statistics of layers gathered by workers.
func (m *model) gatherElsewhere(ctx context.Context, r explorer.Machines, windows [][]int32, layers []int, keep func(int, *oneshot.LayerStatistics) error, mon explorer.Monitor) (err error) {
	h, err := m.engine.hand(ctx, r, "", mon, func(f *scratch.Folder) (errand, error) {
		return m.checked(ctx, windows, f)
	})
	if err != nil {
		return err
	}
	defer func() {
		if failed := h.Close(); failed != nil {
			mon.Note("statistics: ending the work of others: " + failed.Error())
		}
	}()
	g := m.geometry()
	pieces := h.NewPieces(func(ctx context.Context, layer int, p remote.Product) error {
		if len(p.Files) != 1 {
			return fmt.Errorf("%w of %s: %d files", remote.ErrProduct, p.Worker, len(p.Files))
		}
		data, err := os.ReadFile(p.Files[0])
		if err != nil {
			return err
		}
		var s oneshot.LayerStatistics
		if err := json.Unmarshal(data, &s); err != nil {
			return fmt.Errorf("%w of %s: %w", remote.ErrProduct, p.Worker, err)
		}
		if !s.Fits(g.Layers[layer]) {
			return fmt.Errorf("%w of %s: the statistics do not fit layer %d", remote.ErrProduct, p.Worker, layer)
		}
		if err := mon.Gate(ctx); err != nil {
			return err
		}
		return keep(layer, &s)
	}, func(context.Context, int, string) error { return nil }) // it is gathered here in the end
	for _, layer := range layers {
		settings, err := json.Marshal(gathered{layer})
		if err != nil {
			return err
		}
		piece := remote.Piece{Kind: pieceStatistics, Settings: settings, Limit: statisticsBytes(g.Layers[layer])}
		if err := pieces.Add(layer, fmt.Sprintf("statistics of layer %d", layer), piece); err != nil {
			return err
		}
	}
	pieces.End()
	return pieces.Run(ctx)
}
