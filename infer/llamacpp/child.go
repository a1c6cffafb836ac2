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

// childArgument is the first argument of a child process.
const childArgument = "__engine"

// RunIfChild serves requests and does not return if this process was started as a child. Programs call it first in main,
// tests first in TestMain, before flags are parsed or anything is written to standard output.
func RunIfChild() {
	if len(os.Args) < 2 || os.Args[1] != childArgument {
		return
	}
	// Ctrl-C in a terminal reaches every process of its group; the parent decides what to end.
	signal.Ignore(os.Interrupt)
	out, err := claimOutput()
	if err != nil {
		slog.Error("engine: standard output", "error", err)
		os.Exit(1)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	debug.SetMaxStack(64 << 20) // stops templates that recurse without end
	dieFirst()

	err = serve(bufio.NewReader(os.Stdin), out)
	if err != nil && !errors.Is(err, io.EOF) {
		slog.Error("engine", "error", err)
		os.Exit(1)
	}
	os.Exit(0)
}
