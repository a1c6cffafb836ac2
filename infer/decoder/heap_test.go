//go:build linux && cgo && (amd64 || arm64) && !noxla

package decoder_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// TestImportLeavesMallocAlone checks that a process that imports this package without opening a device has the C library's
// default settings: threads that allocate at the same time get arenas of their own.
func TestImportLeavesMallocAlone(t *testing.T) {
	const isChild = "LATHE_TEST_ARENAS"
	if os.Getenv(isChild) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestImportLeavesMallocAlone$", "-test.v")
		cmd.Env = append(os.Environ(), isChild+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	var together, done sync.WaitGroup
	const threads = 4
	together.Add(threads)
	for range threads { // each on a thread of its own, which frees what it was started with in C
		done.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			together.Done()
			together.Wait()
		})
	}
	done.Wait()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(maps, []byte("/libc.so.6")) {
		t.Skip("not glibc")
	}
	if n := arenas(maps); n == 0 {
		t.Errorf("no arena besides the main one:\n%s", maps)
	}
}

// arenas counts glibc's arenas besides the main one among the mappings of a process: each reserves 64 MiB of which the first
// part may be written.
func arenas(maps []byte) int {
	const size = 64 << 20
	n := 0
	var from, to, written uint64
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil {
			continue
		}
		if strings.HasPrefix(mode, "---") && from == written && to%size == 0 {
			n++
		}
		if written = 0; strings.HasPrefix(mode, "rw-") && from%size == 0 {
			written = to
		}
	}
	return n
}
