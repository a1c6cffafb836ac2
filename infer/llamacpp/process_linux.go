package llamacpp

import (
	"os/exec"
	"syscall"
)

// selfExecutable is the running program, also after its file was replaced by a newer build.
const selfExecutable = "/proc/self/exe"

// bindToParent has the kernel kill the child when the thread that starts it ends.
func bindToParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
