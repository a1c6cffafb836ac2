// Package fault has the sentinel errors that the explorer and the packages below it share. Package explorer exports them.
package fault

import "errors"

// See package explorer for when each is returned.
var (
	ErrReadOnly     = errors.New("workspace is read-only")
	ErrStale        = errors.New("the draft changed since it was read")
	ErrNotFound     = errors.New("not found")
	ErrForbidden    = errors.New("not allowed for this role")
	ErrInvalid      = errors.New("invalid")
	ErrNoStatistics = errors.New("statistics are not gathered yet")
	ErrBusy         = errors.New("busy")
	ErrText         = errors.New("text cannot be used")
	ErrUnsupported  = errors.New("not supported")
	ErrClosed       = errors.New("exploration is closed")
	ErrDamaged      = errors.New("damaged")
	ErrExists       = errors.New("the file exists already")
)
