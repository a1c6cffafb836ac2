package llamacpp

import (
	"os/exec"
	"syscall"
)

// selfExecutable is the running program, even after its file was replaced.
const selfExecutable = "/proc/self/exe"

// bindToParent makes the kernel kill the child when the thread that started it ends.
func bindToParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
