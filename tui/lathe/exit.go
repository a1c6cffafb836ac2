package main

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/hub"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/remote"
)

// Exit statuses of all commands.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitInput       = 3
	exitUnsupported = 4
	exitHeld        = 5
	exitInterrupted = 130
	exitPipe        = 141
)

// exitStatuses documents them, in order.
var exitStatuses = []struct {
	status  int
	meaning string
}{
	{exitOK, "done"},
	{exitFailure, "failure: a full disk, a crash of the engine, a file that verify rejects"},
	{exitUsage, "invalid usage: an unknown flag, a ratio outside (0, 1], a layer that the model does not have"},
	{exitInput, "an input file is missing, damaged or of the wrong kind"},
	{exitUnsupported, "not possible with this model, machine or build: an unknown architecture, too little memory, no engine"},
	{exitHeld, "the workspace is held by another process, or it or the cache cannot be written to"},
	{exitInterrupted, "interrupted, terminated or hung up; results up to then are kept"},
	{exitPipe, "the reader of standard output closed it"},
}

var (
	// errUsage: invalid usage.
	errUsage = errors.New("see --help")
	// errInput: an input file cannot be used.
	errInput = errors.New("bad input")
)

// usage marks an error as invalid usage.
func usage(err error) error { return marked{err, errUsage} }

// input marks an error as one of an input file.
func input(err error) error { return marked{err, errInput} }

// marked is an error that wraps a sentinel as well, without its text.
type marked struct {
	error
	is error
}

func (m marked) Unwrap() []error { return []error{m.error, m.is} }

// folder is an error of one of lathe's own folders, which does not exist and cannot be created or written to.
type folder struct{ error }

func (f folder) Unwrap() error { return f.error }

// isUnwritable reports whether an error means that a folder, or one that it is in, cannot be written to: permissions, a
// read-only file system, a file in place of a folder.
func isUnwritable(err error, dir string) bool {
	var at *fs.PathError
	if errors.As(err, &at) && !strings.HasPrefix(at.Path, dir) && !strings.HasPrefix(dir, at.Path) {
		return false
	}
	for _, target := range []error{fs.ErrPermission, syscall.EROFS, syscall.ENOTDIR} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// output is an error of a file to write: a missing output folder is not a missing input.
type output struct{ error }

func (o output) Unwrap() error { return o.error }

// status returns the exit status for an error.
func status(err error) int {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, new(forwarded)):
		f := forwarded{}
		errors.As(err, &f)
		return f.status
	case errors.As(err, new(folder)):
		return exitHeld
	case errors.As(err, new(output)):
		return exitFailure
	case is(context.Canceled):
		return exitInterrupted
	case is(explorer.ErrReadOnly):
		return exitHeld
	case is(errUsage):
		return exitUsage
	case is(errInput):
		return exitInput
	case is(convert.ErrUnsupported, convert.ErrPickle, hub.ErrDenied, hub.ErrOffline, hub.ErrParts, gguf.ErrArchitecture, gguf.ErrType, explorer.ErrUnsupported, infer.ErrUnavailable, infer.ErrNoMemory, infer.ErrNoGPU, remote.ErrRefused):
		return exitUnsupported
	case is(convert.ErrFormat, hub.ErrNotFound, hub.ErrDamaged, gguf.ErrFormat, gguf.ErrMissing, infer.ErrBadModel, explorer.ErrDamaged, explorer.ErrText, subnet.ErrSyntax, fs.ErrNotExist):
		return exitInput
	case is(hub.ErrAmbiguous, infer.ErrInvalid, explorer.ErrInvalid, explorer.ErrExists, explorer.ErrNotFound, explorer.ErrForbidden), isCobraUsage(err):
		return exitUsage
	}
	return exitFailure
}

// isCobraUsage reports whether an error is one of the command parser's, which have no type.
func isCobraUsage(err error) bool {
	for _, prefix := range []string{"unknown command", "unknown flag", "unknown shorthand", "accepts ", "requires at least", "required flag"} {
		if strings.HasPrefix(err.Error(), prefix) {
			return true
		}
	}
	return false
}

// firstLine returns an error's text in one line.
func firstLine(err error) string {
	return strings.Join(strings.FieldsFunc(format.Error(err), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
