//go:build !linux

package memory

// Free is not known here.
func Free() int64 { return 0 }

// Resident is not known here.
func Resident(int) (now, peak int64) { return 0, 0 }
