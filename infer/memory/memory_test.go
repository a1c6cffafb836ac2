package memory

import (
	"os"
	"runtime"
	"testing"
)

func TestOwnProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the kernel does not tell")
	}
	if free := Free(); free <= 0 {
		t.Errorf("%d bytes are free", free)
	}
	now, peak := Resident(os.Getpid())
	if now <= 0 || peak < now {
		t.Errorf("holds %d bytes, at most %d", now, peak)
	}
	if now, peak := Resident(1 << 30); now != 0 || peak != 0 {
		t.Errorf("a process that is not there holds %d bytes, at most %d", now, peak)
	}
}
