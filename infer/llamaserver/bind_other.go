//go:build !linux

package llamaserver

import "os/exec"

// bindToParent does nothing: only Linux can end a process with its parent. Servers end with Close.
func bindToParent(*exec.Cmd) {}
