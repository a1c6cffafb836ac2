//go:build unix

package llamacpp

import (
	"time"

	"golang.org/x/sys/unix"
)

// processTime returns the processor time that this process has used, including threads that have ended; ok reports whether it
// is known.
func processTime() (t time.Duration, ok bool) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), true
}
