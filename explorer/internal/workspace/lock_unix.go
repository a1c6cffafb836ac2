//go:build unix

package workspace

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// takeLock locks a file for this process and writes the process into it. The lock ends with the process, however that
// ends. If another process has it, or the file cannot be written, the returned file is nil and holder is who or why.
func takeLock(path string) (f *os.File, holder string, err error) {
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return nil, "the folder cannot be written to", nil
	}
	if err != nil {
		return nil, "", err
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		text, _ := io.ReadAll(io.LimitReader(f, 200)) // the holder is only informative
		holder = strings.TrimSpace(string(text))
		if holder == "" {
			holder = "another process"
		}
		return nil, "held by " + holder, f.Close()
	case err != nil:
		return nil, "", errors.Join(fmt.Errorf("lock: %w", err), f.Close())
	}
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	text := fmt.Sprintf("process %d on %s\n", os.Getpid(), strings.TrimSpace(host))
	if err := errors.Join(f.Truncate(0), writeAt(f, text)); err != nil {
		return nil, "", errors.Join(err, f.Close())
	}
	return f, "", nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}
