package main

import (
	"context"
	"errors"
)

// explore opens the terminal interface on a model. Where there is no terminal it says so and draws nothing.
func (a *app) explore(ctx context.Context, args []string) error {
	if a.json {
		return usage(errors.New("--json needs a command: `lathe status --json` says what is in the workspace"))
	}
	if !isTerminal(a.stdin) || !isTerminal(a.stdout) {
		return usage(errors.New("the explorer needs a terminal; in a pipe use a command, such as `lathe status` or `lathe --help`"))
	}
	model, err := a.modelArg(args)
	if err != nil {
		return err
	}
	e, err := a.openExploration(ctx, model, orReadOnly)
	if err != nil {
		return err
	}
	return errors.Join(a.open(ctx, a, e), e.Close())
}
