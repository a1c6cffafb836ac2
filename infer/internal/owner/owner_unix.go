//go:build unix

package owner

import (
	"os"
	"syscall"
	"time"
)

// Mark marks an open file or folder as owned by this process until the returned file is closed. exists is false if somebody has
// removed it in the moment before: then it must be created again. The result is nil where the file system has no locks.
func Mark(f *os.File) (mark *os.File, exists bool) {
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX) != nil {
		return nil, true
	}
	if info, err := os.Lstat(f.Name()); err != nil || !same(f, info) {
		return nil, false
	}
	syscall.ForkLock.RLock() // as package os does, so that no child inherits the duplicate
	fd, err := syscall.Dup(int(f.Fd()))
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, true
	}
	return os.NewFile(uintptr(fd), f.Name()), true
}

func same(f *os.File, info os.FileInfo) bool {
	now, err := f.Stat()
	return err == nil && os.SameFile(now, info)
}

// oldLink is the age from which a temporary symbolic link, which cannot be locked and is renamed at once, is a leftover.
const oldLink = time.Hour

// removeUnowned removes a file or folder of this user that no process has marked.
func removeUnowned(path string) {
	info, err := os.Lstat(path)
	if err != nil {
		return
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || int(s.Uid) != os.Geteuid() {
		return
	}
	switch {
	case info.Mode()&os.ModeSymlink != 0:
		if time.Since(info.ModTime()) > oldLink {
			_ = os.Remove(path)
		}
		return
	case !info.IsDir() && !info.Mode().IsRegular():
		return
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }() // only read from
	if !same(f, info) || syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return
	}
	_ = os.RemoveAll(path)
}
