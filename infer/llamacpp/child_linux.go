package llamacpp

import (
	"os"

	"golang.org/x/sys/unix"
)

// claimOutput keeps standard output for the protocol alone: what native code prints there goes where its errors go.
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

// dieFirst asks the kernel to choose this process before its parent when memory runs out. Failure is no harm.
func dieFirst() { _ = os.WriteFile("/proc/self/oom_score_adj", []byte("600"), 0) }
