//go:build linux || darwin

package levels

import (
	"os"
	"syscall"
)

// mapFile maps a file into memory, to be read.
func mapFile(f *os.File, size int64) ([]byte, error) {
	return syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
}

func unmap(b []byte) error { return syscall.Munmap(b) }
