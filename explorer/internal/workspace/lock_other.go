//go:build !unix

package workspace

import (
	"errors"
	"fmt"
	"os"
)

// takeLock creates the lock file, which must not exist. A killed process leaves it behind; holder then names the file to
// remove.
func takeLock(path string) (f *os.File, holder string, err error) {
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Sprintf("held by another process, or left by one that was killed: then remove %s", path), nil
	}
	return f, "", err
}

// SetPaused does nothing: other processes cannot read the file.
func SetPaused(*os.File, string) error { return nil }

// Paused returns "": it is not known to other processes.
func Paused(string) string { return "" }
