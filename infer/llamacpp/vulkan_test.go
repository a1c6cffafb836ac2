package llamacpp

import (
	"os"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// TestVulkan: the device is listed, layers are where they are asked for, and without any nothing is on the device.
func TestVulkan(t *testing.T) {
	if os.Getenv(gpuEnv) == "" {
		t.Skip(gpuEnv + " is not set: run make test-gpu")
	}
	e := newEngine(t)
	list, failed, err := e.Probe(t.Context())
	if err != nil || len(failed) > 0 {
		t.Fatal(failed, err)
	}
	var gpu infer.Device
	for _, d := range list {
		if d.GPU && d.Unused == "" {
			gpu = d
		}
	}
	if gpu.Name != "Vulkan0" || gpu.Total <= 0 || gpu.Free <= 0 || gpu.Free > gpu.Total {
		t.Fatalf("no Vulkan device among %+v", list)
	}
	t.Logf("%+v", gpu)
	for _, tt := range []struct {
		asked, layers int
		placement     string
	}{
		{infer.AllLayers, 4, "4 of 4 layers on Vulkan0"}, {2, 2, "2 of 4 layers on Vulkan0"}, {0, 0, "CPU"},
	} {
		o := infer.Defaults(gguftest.Write(t, gguftest.Tiny("llama")))
		o.GPULayers = tt.asked
		m := loadModel(t, e, o)
		r, err := m.Bench(t.Context(), infer.BenchOptions{Prompt: []int{48}, Gen: []int{2}, Repeats: 1})
		if err != nil {
			t.Fatal(err)
		}
		i, used, layers, gpus := m.Info(), int64(0), 0, 0
		for _, d := range r.Memory.Devices {
			if d.GPU {
				gpus++
				used += d.Used
				layers += d.Layers
			}
		}
		if i.GPULayers != tt.layers || !strings.HasPrefix(i.Placement, tt.placement) || i.Fallback != "" || layers != tt.layers {
			t.Errorf("asked for %d layers: %d, %q, fallback %q, %d in memory", tt.asked, i.GPULayers, i.Placement, i.Fallback, layers)
		}
		if r.Memory.GPU != used || (used > 0) != (tt.layers > 0) || (gpus > 0) != (tt.layers > 0) {
			t.Errorf("asked for %d layers: %d bytes on the GPU, %d by devices, %d GPUs in the child", tt.asked, r.Memory.GPU, used, gpus)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}
