//go:build !linux

package memory

// Free returns 0: the amount is unknown on this system.
func Free() int64 { return 0 }

// Resident returns zeros: the amounts are unknown on this system.
func Resident(int) (now, peak int64) { return 0, 0 }
