//go:build unix

package main

import (
	"os/signal"
	"syscall"
)

// ignoreSizeSignal ignores SIGXFSZ, so that writing beyond the user's file size limit returns an error, as on a full disk,
// instead of ending the process.
func ignoreSizeSignal() { signal.Ignore(syscall.SIGXFSZ) }
