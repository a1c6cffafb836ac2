package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// stdout is the standard output of the process. The first write that fails ends the command, since nothing after it would
// reach anybody, and gives its exit status. A write that the reader does not accept does not outlast an interrupt for long.
type stdout struct {
	file   *os.File
	ctx    context.Context
	cancel context.CancelFunc

	mu  sync.Mutex
	err error
}

// lastWrite is how long a write to a blocked pipe continues after the command was interrupted.
const lastWrite = 2 * time.Second

var errBlocked = errors.New("the reader does not accept more")

// Write implements io.Writer.
func (s *stdout) Write(p []byte) (int, error) {
	if err := s.failure(); err != nil {
		return 0, err
	}
	type result struct {
		n   int
		err error
	}
	p = slices.Clone(p) // the write may outlast the call
	written := make(chan result, 1)
	go func() {
		n, err := s.file.Write(p)
		written <- result{n, err}
	}()
	var r result
	select {
	case r = <-written:
	case <-s.ctx.Done():
		late := time.NewTimer(lastWrite)
		defer late.Stop()
		select {
		case r = <-written:
		case <-late.C:
			r.err = errBlocked
		}
	}
	if r.err != nil {
		s.mu.Lock()
		s.err = r.err
		s.mu.Unlock()
		s.cancel()
	}
	return r.n, r.err
}

// failure returns the error of the first write that failed.
func (s *stdout) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Fd, Read and Close make it a file for libraries that ask whether it is a terminal.
func (s *stdout) Fd() uintptr              { return s.file.Fd() }
func (s *stdout) Read([]byte) (int, error) { return 0, io.EOF }
func (s *stdout) Close() error             { return nil }

// status returns the exit status of a command that ended with a status, and prints the error of a failed write.
func (s *stdout) status(code int, stderr io.Writer) int {
	switch err := s.failure(); {
	case err == nil:
		return code
	case errors.Is(err, syscall.EPIPE):
		return exitPipe // in silence, as other programs
	case errors.Is(err, errBlocked):
		return exitInterrupted
	default:
		fmt.Fprintf(stderr, "lathe: %s\n", firstLine(fmt.Errorf("standard output: %w", errors.Unwrap(err))))
		return exitFailure
	}
}
