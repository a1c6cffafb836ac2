package main

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui"
)

// openInterface is the terminal interface of this process.
func openInterface(ctx context.Context, a *app, e *explorer.Exploration) error {
	if err := tui.Run(ctx, e, tui.Options{Actor: a.actor(), Files: true}); err != nil {
		return fmt.Errorf("terminal interface: %w", err)
	}
	return nil
}
