// Package shipped finds the files that come with an unpacked archive of the program: texts and plug-ins in share/lathe, beside the
// folder of the executable. The layout there is that of the cache.
package shipped

import (
	"os"
	"path/filepath"
)

// Dir returns the folder, "" where the program has none.
func Dir() string {
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	return dirOf(exe)
}

// dirOf returns the folder of an executable, or of the file that it is a link to.
func dirOf(exe string) string {
	real, err := filepath.EvalSymlinks(exe)
	if err != nil {
		return ""
	}
	dir := filepath.Join(filepath.Dir(filepath.Dir(real)), "share", "lathe")
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return ""
	}
	return dir
}
