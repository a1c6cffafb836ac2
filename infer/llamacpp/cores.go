package llamacpp

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// PhysicalCores is how many processor cores this process may use, threads of one core counted once: more threads than
// that only make ggml's wait for each other, spinning.
func PhysicalCores() int {
	usable := runtime.GOMAXPROCS(0) // what affinity and the container allow
	cores := map[string]bool{}
	files, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list")
	for _, file := range files {
		if siblings, err := os.ReadFile(file); err == nil {
			cores[strings.TrimSpace(string(siblings))] = true
		}
	}
	if len(cores) == 0 {
		return max(1, usable)
	}
	return max(1, min(usable, len(cores)))
}
