package workbench

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/search/mask"
)

// Gather implements [explorer.Statistician].
func (m *model) Gather(context.Context, explorer.Calibration, string, explorer.Monitor) (explorer.Statistics, error) {
	return explorer.Statistics{}, fmt.Errorf("statistics: %w", explorer.ErrUnsupported)
}

// Predict implements [explorer.Statistician].
func (m *model) Predict(explorer.Statistics, mask.Masks) (float64, bool) { return 0, false }

// Cut implements [explorer.Cutter].
func (m *model) Cut(context.Context, explorer.Cut, explorer.Monitor) (explorer.Made, error) {
	return explorer.Made{}, fmt.Errorf("cut: %w", explorer.ErrUnsupported)
}

// Refit implements [explorer.Cutter].
func (m *model) Refit(context.Context, mask.Masks, explorer.Refit, explorer.Monitor) (explorer.Made, error) {
	return explorer.Made{}, fmt.Errorf("re-fit: %w", explorer.ErrUnsupported)
}

// Search implements [explorer.Searcher].
func (m *model) Search(context.Context, explorer.StartSearch, string, explorer.Orders, explorer.Monitor) (explorer.Made, error) {
	return explorer.Made{}, fmt.Errorf("search: %w", explorer.ErrUnsupported)
}

// Assemble implements [explorer.Searcher].
func (m *model) Assemble(_ context.Context, c explorer.Candidate, _ string) (gguf.Subnet, error) {
	return gguf.Subnet{Masks: c.Masks}, nil
}
