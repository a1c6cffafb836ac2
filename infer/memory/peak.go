package memory

import (
	"os"
	"runtime/debug"
)

// MeasurePeak resets the peak of the process's resident memory and returns the function that reports the peak since then as the
// metric peak-MB of a benchmark. It covers the whole process, with what it held before: what Go counts as allocated lacks the
// memory of XLA and llama.cpp. Where the kernel keeps no peak nothing is reported.
//
//	defer memory.MeasurePeak(b)()
func MeasurePeak(b interface{ ReportMetric(n float64, unit string) }) (report func()) {
	debug.FreeOSMemory()
	// 5 resets the peak (proc(5), clear_refs).
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return func() {}
	}
	return func() {
		if _, peak := Resident(os.Getpid()); peak > 0 {
			b.ReportMetric(float64(peak)/1e6, "peak-MB")
		}
	}
}
