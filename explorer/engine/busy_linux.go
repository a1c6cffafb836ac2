package engine

import (
	"bytes"
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// observed is how long the use of the processors is observed.
const observed = time.Second

// Others implements [explorer.Runner]: the processor time that the kernel counted in a second, without this process and the children
// that have ended.
func (m *model) Others(ctx context.Context) (busy float64, of int, known bool) {
	before, ok := processors()
	if !ok {
		return 0, 0, false
	}
	select {
	case <-ctx.Done():
		return 0, 0, false
	case <-time.After(observed):
	}
	after, ok := processors()
	if !ok || after.total <= before.total {
		return 0, 0, false
	}
	n := runtime.NumCPU()
	share := float64(after.busy-before.busy) / float64(after.total-before.total)
	own := (after.own - before.own).Seconds() / observed.Seconds()
	return min(max(share*float64(n)-own, 0), float64(n)), n, true
}

// use is the time of all processors, in ticks, and that of this process.
type use struct {
	busy, total int64
	own         time.Duration
}

func processors() (use, bool) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return use{}, false
	}
	u, ok := parseProcessors(data)
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		return use{}, false
	}
	u.own = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	return u, ok
}

// parseProcessors reads the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice. The
// last two are part of the first two; time that a hypervisor gave to others is busy.
func parseProcessors(data []byte) (u use, ok bool) {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 5 || fields[0] != "cpu" {
		return use{}, false
	}
	for i, f := range fields[1:min(len(fields), 9)] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return use{}, false
		}
		u.total += ticks
		if i != 3 && i != 4 { // idle, and idle while waiting for a disk
			u.busy += ticks
		}
	}
	return u, true
}
