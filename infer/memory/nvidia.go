package memory

import (
	"bytes"
	"context"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// nvidiaWait bounds how long NVIDIA's program may take: without a resident driver, it first starts every GPU.
const nvidiaWait = 10 * time.Second

// FreeOnNVIDIA returns how many bytes are free on the NVIDIA GPU that has the fewest, as the driver's nvidia-smi reports them, 0 where
// that is unknown.
func FreeOnNVIDIA(ctx context.Context) int64 {
	ctx, cancel := context.WithTimeout(ctx, nvidiaWait)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits").Output()
	if err != nil {
		return 0
	}
	return leastFree(out)
}

// leastFree returns the least number of a list of mebibytes, one a line, in bytes; 0 where a line is no number.
func leastFree(list []byte) int64 {
	var least int64
	for line := range strings.Lines(string(bytes.TrimSpace(list))) {
		n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 40)
		if err != nil || n < 0 {
			return 0
		}
		if free := n << 20; least == 0 || free < least {
			least = free
		}
	}
	return least
}
