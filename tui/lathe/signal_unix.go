//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// ignoreSizeSignal ignores SIGXFSZ, so that writing beyond the user's file size limit returns an error, as on a full disk,
// instead of ending the process.
func ignoreSizeSignal() { signal.Ignore(syscall.SIGXFSZ) }

// endSignals returns the signals that end a command: its results up to then are kept, and its temporary files removed. A
// signal that the process was started to ignore, as by nohup, is none of them.
func endSignals() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// surviveBrokenPipes has writes to a closed pipe return an error instead of ending the process, which would leave its
// temporary files. The signal is received rather than ignored, because child processes inherit ignored signals.
func surviveBrokenPipes() {
	received := make(chan os.Signal, 1)
	signal.Notify(received, syscall.SIGPIPE)
	go func() {
		for range received {
		}
	}()
}
