package memory

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestLeastFree(t *testing.T) {
	for list, want := range map[string]int64{
		"81000\n": 81000 << 20, "81000\n40960\n": 40960 << 20, "": 0, "[N/A]\n": 0, "12\nerror\n": 0, "-5\n": 0, "999999999999999999\n": 0,
	} {
		if got := leastFree([]byte(list)); got != want {
			t.Errorf("%q: %d, want %d", list, got, want)
		}
	}
}

// TestFreeOnNVIDIA asks a program of that name, and none.
func TestFreeOnNVIDIA(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a shell script stands for the program")
	}
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if got := FreeOnNVIDIA(t.Context()); got != 0 {
		t.Errorf("without the program: %d", got)
	}
	script := "#!/bin/sh\n[ \"$1\" = --query-gpu=memory.free ] && echo 2048\n"
	if err := os.WriteFile(filepath.Join(dir, "nvidia-smi"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := FreeOnNVIDIA(t.Context()); got != 2<<30 {
		t.Errorf("%d bytes, want 2 GiB", got)
	}
}
