package llamacpp

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/logtail"
)

// measured is what llama.cpp reports of a loaded model, and in its log only.
type measured struct {
	memory infer.Memory     // weights, cache and buffers
	used   map[string]int64 // bytes by the name of the buffers' device
	layers map[string]int   // by the name of their device, the output counted as one more
	order  []string         // names of devices with layers, in order
}

// readMeasured reads a child's log, with lines such as "llama_kv_cache: CPU KV buffer size = 90.00 MiB" and "load_tensors:
// layer 3 assigned to device CUDA0". ok reports whether the log has a size of the KV cache.
func readMeasured(logPath string) (m measured, ok bool) {
	f, err := os.Open(logPath)
	if err != nil {
		return m, false
	}
	defer func() { _ = f.Close() }() // only read
	size := regexp.MustCompile(`(\S+) +(model|KV|compute|output) buffer size = +([0-9.]+) MiB`)
	layer := regexp.MustCompile(`load_tensors: layer +[0-9]+ assigned to device ([^\s,]+)`)
	m.used, m.layers = make(map[string]int64), make(map[string]int)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if found := layer.FindStringSubmatch(lines.Text()); found != nil {
			if m.layers[found[1]]++; !slices.Contains(m.order, found[1]) {
				m.order = append(m.order, found[1])
			}
			continue
		}
		found := size.FindStringSubmatch(lines.Text())
		if found == nil {
			continue
		}
		mib, err := strconv.ParseFloat(found[3], 64)
		if err != nil {
			continue
		}
		bytes := int64(mib * (1 << 20))
		m.used[found[1]] += bytes
		switch found[2] {
		case "model":
			m.memory.Weights += bytes
		case "KV":
			m.memory.KVCache += bytes
		default:
			m.memory.Compute += bytes
		}
		if onGPU(found[1]) {
			m.memory.GPU += bytes
		}
	}
	return m, m.memory.KVCache > 0
}

// fill adds to devices what the model has on them. All that is in no GPU's memory is the processor's, such as the buffers
// "CPU_Mapped" and "CUDA_Host".
func (m measured) fill(devices []infer.Device) {
	rest := m.memory.Total()
	for i := range devices {
		d := &devices[i]
		d.Layers = m.layers[d.Name]
		if d.GPU {
			d.Used = m.used[d.Name]
			rest -= d.Used
		}
	}
	for i := range devices {
		if !devices[i].GPU {
			devices[i].Used = rest
			return
		}
	}
}

// placement describes where the layers are: "CPU", "20 of 31 layers on CUDA0 (NVIDIA H200)".
func (m measured) placement(devices []infer.Device) string {
	total := 0
	for _, n := range m.layers {
		total += n
	}
	var parts []string
	for _, name := range m.order {
		i := slices.IndexFunc(devices, func(d infer.Device) bool { return d.Name == name && d.GPU })
		if i < 0 {
			continue
		}
		parts = append(parts, fmt.Sprintf("%d of %d layers on %s (%s)", m.layers[name], total, name, strings.TrimSpace(devices[i].Description)))
	}
	if len(parts) == 0 {
		return "CPU"
	}
	return strings.Join(parts, ", ")
}

// gpuFault returns the line of a child's log that reports a fault of a GPU or its memory, "" if there is none.
func gpuFault(logPath string) string {
	f, err := os.Open(logPath)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read
	fault := regexp.MustCompile(`(?i)OutOf(Device|Host)Memory|DeviceLost|out of memory|device memory allocation .*failed|unable to allocate \S+ buffer|failed to allocate .*buffer|CUDA error`)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if line := strings.TrimSpace(strings.Map(logtail.Printable, lines.Text())); fault.MatchString(line) {
			const longest = 200
			if len(line) > longest {
				line = strings.ToValidUTF8(line[:longest], "") + "…"
			}
			return line
		}
	}
	return ""
}

// onGPU reports whether a buffer of that name, such as "CPU_Mapped", "CUDA0" or "CUDA_Host", is in a GPU's own memory. Those of
// the host that a GPU reads from are not.
func onGPU(buffer string) bool {
	return !strings.HasPrefix(buffer, "CPU") && !strings.HasSuffix(buffer, "_Host") && buffer != "BLAS"
}
