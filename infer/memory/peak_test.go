package memory

import (
	"os"
	"testing"
)

// The peak is at least what was held, and is forgotten.
func TestMeasurePeak(t *testing.T) {
	if _, err := os.Stat("/proc/self/clear_refs"); err != nil {
		t.Skip("the kernel keeps no peak")
	}
	const size = 200 << 20
	peakOf := func(work func()) float64 {
		r := testing.Benchmark(func(b *testing.B) {
			report := MeasurePeak(b)
			for b.Loop() {
				work()
			}
			report()
		})
		return r.Extra["peak-MB"]
	}
	large := peakOf(func() {
		block := make([]byte, size)
		for i := 0; i < size; i += 4096 {
			block[i] = 1
		}
	})
	small := peakOf(func() {})
	if large < size/1e6 || small <= 0 || small > large-size/2e6 {
		t.Errorf("peaks of %.0f MB with %.0f MB held and %.0f MB without", large, size/1e6, small)
	}
}
