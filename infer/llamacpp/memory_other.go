//go:build !linux

package llamacpp

// freeMemory is not known here: loading goes ahead unchecked.
func freeMemory() int64 { return 0 }

func residentMemory(int) (now, peak int64) { return 0, 0 }
