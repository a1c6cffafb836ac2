package durable

import (
	"errors"
	"runtime"
	"syscall"
)

// diskFull is ERROR_DISK_FULL of Windows.
const diskFull = syscall.Errno(112)

// IsFull reports whether err is that of a write to a disk without room, or beyond the user's quota.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || runtime.GOOS == "windows" && errors.Is(err, diskFull)
}
