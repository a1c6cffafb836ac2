package llamacpp

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// PhysicalCores returns the number of processor cores that this process may use, hardware threads of one core counted once.
// With more threads than that, ggml's threads spin while they wait for each other.
func PhysicalCores() int {
	usable := runtime.GOMAXPROCS(0) // limited by affinity and container
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
