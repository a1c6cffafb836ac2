//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package main

import (
	"errors"
	"os"
)

// characters is not implemented for this system.
func characters(*os.File) (restore func(), err error) { return nil, errors.ErrUnsupported }
