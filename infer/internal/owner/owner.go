// Package owner marks temporary files and folders with a lock of the process that they belong to, so that those of a process
// that was killed can be told from those in use, and removed.
//
// The lock is the system's advisory lock of an open file. It ends with the process, however that ends, and unlike a process id
// in a name it means the same on all sides of a container or a shared disk. Where there are no such locks nothing is marked and
// nothing is removed.
package owner

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// swept holds the folders whose leftovers this process has removed.
var swept sync.Map

// The beginnings of the names of temporary files and folders, which [Random] ends.
const (
	Scratch   = "lathe-"      // of folders with scratch files, followed by their purpose and a hyphen
	NewFolder = ".lathe-new-" // of folders that will be renamed
	NewFile   = ".new-"       // of files that will be renamed
)

// Random returns the end of a temporary name: 16 random hexadecimal digits.
func Random() string {
	var random [8]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}

// temporary reports whether a name is one of a temporary file or folder.
func temporary(name string) bool {
	at := max(0, len(name)-16)
	if strings.Trim(name[at:], "0123456789abcdef") != "" {
		return false
	}
	switch begins := name[:at]; begins {
	case NewFolder, NewFile:
		return true
	default:
		purpose, ok := strings.CutPrefix(begins, Scratch)
		return ok && len(purpose) > 1 && strings.HasSuffix(purpose, "-")
	}
}

// Sweep removes the temporary files and folders of dir whose process has ended. It looks at a folder once: a later call does
// nothing. What cannot be removed stays.
func Sweep(dir string) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return
	}
	if _, done := swept.LoadOrStore(dir, true); done {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if temporary(e.Name()) {
			removeUnowned(filepath.Join(dir, e.Name()))
		}
	}
}
