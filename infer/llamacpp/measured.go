package llamacpp

import (
	"bufio"
	"os"
	"regexp"
	"strconv"

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
	line := regexp.MustCompile(`(model|KV|compute|output) buffer size = +([0-9.]+) MiB`)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		found := line.FindStringSubmatch(lines.Text())
		if found == nil {
			continue
		}
		mib, err := strconv.ParseFloat(found[2], 64)
		if err != nil {
			continue
		}
		size := int64(mib * (1 << 20))
		switch found[1] {
		case "model":
			m.Weights += size
		case "KV":
			m.KVCache += size
		default:
			m.Compute += size
		}
		ok = true
	}
	return m, ok && m.KVCache > 0
}
