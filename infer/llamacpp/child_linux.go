package llamacpp

import (
	"os"

	"golang.org/x/sys/unix"
)

// claimOutput reserves standard output for the protocol: what native code prints goes to standard error.
func claimOutput() (*os.File, error) {
	fd, err := unix.FcntlInt(os.Stdout.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	if err := unix.Dup3(2, 1, 0); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "protocol"), nil
}

// dieFirst makes the kernel kill this process before its parent when memory runs out. It is best effort.
func dieFirst() { _ = os.WriteFile("/proc/self/oom_score_adj", []byte("600"), 0) }
