package llamaserver

import (
	"os/exec"
	"syscall"
)

// bindToParent makes the kernel kill the server when the thread that started it ends.
func bindToParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
