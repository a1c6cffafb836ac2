package llamacpp

import (
	"bufio"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/infer"
)

// measuredMemory reads the sizes of a model's buffers from the child's log, the only place where llama.cpp reports them, in
// lines such as "llama_kv_cache: CPU KV buffer size = 90.00 MiB". ok reports whether the log has one for the KV cache.
func measuredMemory(logPath string) (m infer.Memory, ok bool) {
	f, err := os.Open(logPath)
	if err != nil {
		return m, false
	}
	defer func() { _ = f.Close() }() // only read
	line := regexp.MustCompile(`(\S+) +(model|KV|compute|output) buffer size = +([0-9.]+) MiB`)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		found := line.FindStringSubmatch(lines.Text())
		if found == nil {
			continue
		}
		mib, err := strconv.ParseFloat(found[3], 64)
		if err != nil {
			continue
		}
		size := int64(mib * (1 << 20))
		switch found[2] {
		case "model":
			m.Weights += size
		case "KV":
			m.KVCache += size
		default:
			m.Compute += size
		}
		if onGPU(found[1]) {
			m.GPU += size
		}
		ok = true
	}
	return m, ok && m.KVCache > 0
}

// onGPU reports whether a buffer of that name, such as "CPU_Mapped", "CUDA0" or "CUDA_Host", is in a GPU's own memory. Those of
// the host that a GPU reads from are not.
func onGPU(buffer string) bool {
	return !strings.HasPrefix(buffer, "CPU") && !strings.HasSuffix(buffer, "_Host") && buffer != "BLAS"
}
