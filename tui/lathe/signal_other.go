//go:build !unix

package main

import (
	"os"
	"syscall"
)

// ignoreSizeSignal does nothing: SIGXFSZ exists on Unix only.
func ignoreSizeSignal() {}

// endSignals returns the signals that end a command.
func endSignals() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }

// surviveBrokenPipes does nothing: SIGPIPE exists on Unix only.
func surviveBrokenPipes() {}
