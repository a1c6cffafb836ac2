// Package peak measures, for benchmarks, the most memory that the process has held at once: what Go counts as allocated
// lacks the memory of XLA and llama.cpp, and says nothing of how much of it was held at a time.
//
// It has figures where the kernel keeps them, which is on Linux; elsewhere benchmarks go without.
package peak

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"testing"
)

// Measure forgets the peak so far and returns the function that reports the one since then as the metric peak-MB: resident
// memory of the whole process, with all that it held before.
//
//	defer peak.Measure(b)()
func Measure(b *testing.B) (report func()) {
	debug.FreeOSMemory()
	// 5 resets the peak (proc(5), clear_refs).
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return func() {}
	}
	return func() {
		if most := resident(); most > 0 {
			b.ReportMetric(float64(most)/1e6, "peak-MB")
		}
	}
}

// resident is the peak in bytes, 0 where it is not known.
func resident() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if fields := bytes.Fields(line); len(fields) == 3 && string(fields[0]) == "VmHWM:" {
			n, _ := strconv.ParseInt(string(fields[1]), 10, 64)
			return n << 10
		}
	}
	return 0
}
