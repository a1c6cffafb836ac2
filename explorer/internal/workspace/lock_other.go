//go:build !unix

package workspace

import (
	"errors"
	"fmt"
	"os"
)

// takeLock makes the lock file, which must not be there. A process that was killed leaves it behind, and the message says
// which file to remove then.
func takeLock(path string) (f *os.File, holder string, err error) {
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Sprintf("held by another process, or left by one that was killed: then remove %s", path), nil
	}
	return f, "", err
}
