//go:build linux || darwin

package engine

import "golang.org/x/sys/unix"

// freeBytes returns the free space of a folder's disk in bytes.
func freeBytes(path string) (int64, bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true //nolint:unconvert // its type differs between systems
}
