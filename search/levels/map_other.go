//go:build !linux && !darwin

package levels

import (
	"errors"
	"os"
)

// mapFile returns an error: files are read.
func mapFile(*os.File, int64) ([]byte, error) { return nil, errors.ErrUnsupported }

func unmap([]byte) error { return errors.ErrUnsupported }
