//go:build unix

package main

import (
	"os/signal"
	"syscall"
)

// ignoreSizeSignal makes a file that grows beyond the user's limit an error of the write, like a full disk, and not the
// end of the process.
func ignoreSizeSignal() { signal.Ignore(syscall.SIGXFSZ) }
