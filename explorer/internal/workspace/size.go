package workspace

import (
	"os"
	"path/filepath"
)

// Bytes returns the size of all files below path.
func Bytes(path string) int64 {
	var total int64
	// A file that vanishes while it is counted does not matter: the size is only informative.
	_ = filepath.WalkDir(path, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total
}
