package memory

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
)

// Free returns how many bytes this process can still allocate, by the machine and by its control groups; 0 where unknown.
func Free() int64 {
	free := procField("/proc/meminfo", "MemAvailable:")
	if limit, ok := cgroupFree(); ok && (free == 0 || limit < free) {
		free = limit
	}
	return free
}

// cgroupFree returns what is left in the tightest of the control groups (version 2, then 1), with the file cache counted as free.
// It reports false where no group has a limit.
func cgroupFree() (int64, bool) {
	free, found := int64(math.MaxInt64), false
	group := "/sys/fs/cgroup"
	if data, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		for line := range bytes.Lines(data) {
			if path, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "0::"); ok {
				group += path
			}
		}
	}
	for strings.HasPrefix(group, "/sys/fs/cgroup") {
		limit, ok1 := readInt(group + "/memory.max")
		used, ok2 := readInt(group + "/memory.current")
		if ok1 && ok2 {
			cache := statField(group+"/memory.stat", "inactive_file ")
			free, found = min(free, limit-used+cache), true
		}
		group = group[:strings.LastIndexByte(group, '/')]
	}
	limit, ok1 := readInt("/sys/fs/cgroup/memory/memory.limit_in_bytes")
	used, ok2 := readInt("/sys/fs/cgroup/memory/memory.usage_in_bytes")
	if ok1 && ok2 && limit < 1<<60 {
		cache := statField("/sys/fs/cgroup/memory/memory.stat", "total_inactive_file ")
		free, found = min(free, limit-used+cache), true
	}
	return max(free, 1), found
}

// Resident returns the resident memory of process pid and its peak, in bytes; zeros where there is no such process.
func Resident(pid int) (now, peak int64) {
	status := fmt.Sprintf("/proc/%d/status", pid)
	return procField(status, "VmRSS:"), procField(status, "VmHWM:")
}

// procField returns a field in kB of a file in /proc, in bytes.
func procField(path, name string) int64 { return statField(path, name) << 10 }

func statField(path, name string) int64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(data) {
		if rest, ok := strings.CutPrefix(string(line), name); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n
		}
	}
	return 0
}

func readInt(path string) (int64, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil
}
