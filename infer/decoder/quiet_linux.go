//go:build cgo && (amd64 || arm64) && !noxla

package decoder

import (
	"os"

	"golang.org/x/sys/unix"
)

// quiet discards what is written to standard error until the function that it returns is called: plugins print messages there
// while they load, into the terminal interface, and no setting stops all of them. What matters is in the plugin's error.
func quiet() (restore func()) {
	saved, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return func() {}
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		_ = unix.Close(saved)
		return func() {}
	}
	_ = unix.Dup3(int(null.Fd()), 2, 0)
	_ = null.Close()
	return func() {
		_ = unix.Dup3(saved, 2, 0)
		_ = unix.Close(saved)
	}
}
