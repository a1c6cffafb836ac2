package llamacpp

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
)

// childArgument, as the first argument, makes an executable the engine's child process.
const childArgument = "__engine"

// RunIfChild makes this process the engine if its parent started it as such; then it does not return. Programs call it
// first thing in main and tests first thing in TestMain, before flags are parsed or anything is written to standard
// output.
func RunIfChild() {
	if len(os.Args) < 2 || os.Args[1] != childArgument {
		return
	}
	// Ctrl-C in a terminal reaches every process of its group; the parent decides what it means.
	signal.Ignore(os.Interrupt)
	out, err := claimOutput()
	if err != nil {
		slog.Error("engine: standard output", "error", err)
		os.Exit(1)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	debug.SetMaxStack(64 << 20) // a template that calls itself ends early
	dieFirst()

	err = serve(bufio.NewReader(os.Stdin), out)
	if err != nil && !errors.Is(err, io.EOF) {
		slog.Error("engine", "error", err)
		os.Exit(1)
	}
	os.Exit(0)
}
