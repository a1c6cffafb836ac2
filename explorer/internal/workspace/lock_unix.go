//go:build unix

package workspace

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
		holder, _, _ = strings.Cut(strings.TrimSpace(string(text)), "\n")
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
	if err := rewrite(f, fmt.Sprintf(holderLine, os.Getpid(), strings.TrimSpace(host))); err != nil {
		return nil, "", errors.Join(err, f.Close())
	}
	return f, "", nil
}

const (
	holderLine = "process %d on %s\n"
	pausedLine = "paused: "
	maxLock    = 2048 // bytes of a lock file, which fit into one block of a disk
)

// rewrite replaces the content of a lock file in place, which needs no room on the disk.
func rewrite(f *os.File, text string) error {
	text = text[:min(len(text), maxLock)]
	_, err := f.WriteAt([]byte(text), 0)
	return errors.Join(err, f.Truncate(int64(len(text))))
}

// SetPaused writes into the lock file of this process why its job is paused, in one line; "" removes that. It works on a full
// disk.
func SetPaused(lock *os.File, reason string) error {
	text := make([]byte, maxLock)
	n, err := lock.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	holder, _, _ := strings.Cut(string(text[:n]), "\n")
	holder += "\n"
	if reason != "" {
		holder += pausedLine + reason + "\n"
	}
	return rewrite(lock, holder)
}

// Paused returns why the job of the process that holds a workspace is paused, "" if none is.
func Paused(path string) string {
	f, err := os.Open(filepath.Join(path, lockFile))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()                  // only read from
	text, _ := io.ReadAll(io.LimitReader(f, maxLock)) // the reason is only informative
	holder, rest, _ := strings.Cut(string(text), "\n")
	reason, _, _ := strings.Cut(rest, "\n")
	reason, paused := strings.CutPrefix(reason, pausedLine)
	var pid int
	var host string
	if _, err := fmt.Sscanf(holder, strings.TrimSpace(holderLine), &pid, &host); err != nil || !paused {
		return ""
	}
	if own, err := os.Hostname(); err == nil && own == host && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return "" // it was killed
	}
	return reason
}
