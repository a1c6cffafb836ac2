//go:build !linux

package llamacpp

import "os/exec"

const selfExecutable = ""

func bindToParent(*exec.Cmd) {}
