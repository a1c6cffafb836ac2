package memory

import (
	"os"
	"runtime"
	"testing"
)

func TestOwnProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the figures are Linux's")
	}
	if free := Free(); free <= 0 {
		t.Errorf("%d bytes free", free)
	}
	now, peak := Resident(os.Getpid())
	if now <= 0 || peak < now {
		t.Errorf("resident %d bytes, peak %d", now, peak)
	}
	if now, peak := Resident(1 << 30); now != 0 || peak != 0 {
		t.Errorf("a process that does not exist holds %d bytes, peak %d", now, peak)
	}
}
