package llamacpp

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

func planOf(t *testing.T, m gguftest.Model, edit func(*infer.LoadOptions)) plan {
	t.Helper()
	o := infer.Defaults(gguftest.Write(t, m))
	if edit != nil {
		edit(&o)
	}
	p, err := readPlan(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestNeed computes the formula by hand for a model whose layers differ.
func TestNeed(t *testing.T) {
	m := gguftest.Tiny("deci")
	m.Type = gguf.F32
	m.Layers = []subnet.LayerGeometry{{Heads: 4, KVHeads: 2, FFN: 128}, {Heads: 0, KVHeads: 0, FFN: 64}, {Heads: 2, KVHeads: 1, FFN: 32}}
	p := planOf(t, m, func(o *infer.LoadOptions) { o.Context, o.Batch = 300, 32 })
	got := p.need.memory()
	if want := int64(512 * 3 * 2 * 16 * 2); got.KVCache != want { // 512: the context rounded up; 3 KV heads of 16 in all
		t.Errorf("cache %d, want %d", got.KVCache, want)
	}
	perToken := max(2*64+2*4*16+2*2*16+512*3/2, m.Vocab+64)
	if want := int64(4*32*perToken + 4*32*m.Vocab); got.Compute != want {
		t.Errorf("compute %d, want %d", got.Compute, want)
	}
	size := fileSize(t, p.request.Path)
	if got.Weights > size || got.Weights < size/2 {
		t.Errorf("weights %d of a file of %d", got.Weights, size)
	}
	if _, err := readPlan(infer.LoadOptions{Path: p.request.Path, FlashAttention: true, KVType: infer.KVQ40}); !errors.Is(err, infer.ErrInvalid) || !strings.Contains(err.Error(), "multiple of 32") {
		t.Errorf("a quantised cache of heads of 16: %v", err)
	}
	m.HeadDim = 32
	wider := planOf(t, m, func(o *infer.LoadOptions) { o.Context = 300 }).need.memory().KVCache
	quantised := planOf(t, m, func(o *infer.LoadOptions) { o.Context, o.KVType = 300, infer.KVQ80 })
	if q := quantised.need.memory().KVCache; q*32 != wider*17 {
		t.Errorf("cache of q8_0: %d beside %d of f16", q, wider)
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestPlace(t *testing.T) {
	const plenty = 1 << 40
	cpu := infer.Device{Name: "CPU", Free: plenty}
	p := planOf(t, gguftest.Tiny("llama"), nil)
	layer := p.need.layers[0].weights + p.need.layers[0].cache
	gpu := func(free int64) []infer.Device { return []infer.Device{cpu, {Name: "CUDA0", GPU: true, Free: free}} }
	total := p.need.memory().Total()
	tests := []struct {
		name    string
		devices []infer.Device
		host    int64
		layers  int // asked for
		want    int
		err     error
	}{
		{"no GPU", []infer.Device{cpu}, plenty, infer.AllLayers, 0, nil},
		{"no GPU, layers asked for", []infer.Device{cpu}, plenty, 2, 2, infer.ErrNoGPU},
		{"unknown host memory", []infer.Device{cpu}, 0, 0, 0, nil},
		{"little host memory", []infer.Device{cpu}, total - 1, 0, 0, infer.ErrNoMemory},
		{"just enough", []infer.Device{cpu}, total, 0, 0, nil},
		{"everything and the output on the GPU", gpu(plenty), plenty, infer.AllLayers, 4, nil},
		{"two layers fit", gpu(p.need.compute + 2*layer + layer/2), plenty, infer.AllLayers, 2, nil},
		{"none fits", gpu(1), plenty, infer.AllLayers, 0, nil},
		{"one asked for", gpu(plenty), plenty, 1, 1, nil},
		{"more asked for than fit", gpu(p.need.compute + layer/2), plenty, 2, 2, infer.ErrNoMemory},
		{"more asked for than there are", gpu(plenty), plenty, 99, 4, nil},
		{"one card by two libraries: its memory once", []infer.Device{cpu,
			{Name: "CUDA0", GPU: true, Free: p.need.compute + layer + layer/2, ID: "0000:01:00.0"},
			{Name: "Vulkan0", GPU: true, Free: p.need.compute + layer + layer/2, ID: "0000:01:00.0"}}, plenty, infer.AllLayers, 1, nil},
		{"two cards, each with buffers", []infer.Device{cpu,
			{Name: "CUDA0", GPU: true, Free: p.need.compute + layer + layer/4, ID: "0000:01:00.0"},
			{Name: "CUDA1", GPU: true, Free: p.need.compute + layer + layer/4, ID: "0000:02:00.0"}}, plenty, infer.AllLayers, 2, nil},
		{"two cards without addresses", []infer.Device{cpu,
			{Name: "Vulkan0", GPU: true, Free: p.need.compute + layer}, {Name: "Vulkan1", GPU: true, Free: p.need.compute + layer}}, plenty, infer.AllLayers, 2, nil},
		{"an integrated GPU beside a card", []infer.Device{cpu, {Name: "Vulkan1", GPU: true, Integrated: true, Free: plenty},
			{Name: "Vulkan0", GPU: true, Free: p.need.compute + layer}}, plenty, infer.AllLayers, 1, nil},
		{"an integrated GPU alone", []infer.Device{cpu, {Name: "Vulkan0", GPU: true, Integrated: true, Free: plenty}}, plenty, infer.AllLayers, 4, nil},
		{"an integrated GPU has the machine's memory", []infer.Device{cpu, {Name: "Vulkan0", GPU: true, Integrated: true, Free: plenty}}, total - 1, 2, 2, infer.ErrNoMemory},
		{"a software GPU has the machine's memory", []infer.Device{cpu, {Name: "Vulkan0", Description: "llvmpipe (LLVM 15)", GPU: true, Free: plenty}},
			p.need.compute + 2*layer + layer/2, infer.AllLayers, 2, infer.ErrNoMemory},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := p
			p.request.GPULayers = tt.layers
			classify(tt.devices)
			err := p.place(tt.devices, tt.host)
			if p.request.GPULayers != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%d layers, %v; want %d and %v", p.request.GPULayers, err, tt.want, tt.err)
			}
			p.options.IgnoreMemory = true
			if err := p.place(tt.devices, tt.host); err != nil && !errors.Is(err, infer.ErrNoGPU) {
				t.Errorf("check switched off: %v", err)
			}
		})
	}
}

// TestPlanBadMetadata: metadata that is out of range is refused, or ignored, before llama.cpp reads the file.
func TestPlanBadMetadata(t *testing.T) {
	for name, edit := range map[string]func(kv *gguf.KV) error{
		"no layers":   func(kv *gguf.KV) error { return kv.Set("llama.block_count", uint32(0)) },
		"many layers": func(kv *gguf.KV) error { return kv.Set("llama.block_count", uint32(1<<31)) },
		"no width":    func(kv *gguf.KV) error { kv.Delete("llama.embedding_length"); return nil },
		"no architecture": func(kv *gguf.KV) error {
			kv.Delete("general.architecture")
			return nil
		},
	} {
		m := gguftest.Tiny("llama")
		m.Edit = func(kv *gguf.KV) {
			if err := edit(kv); err != nil {
				t.Error(err)
			}
		}
		if _, err := readPlan(infer.Defaults(gguftest.Write(t, m))); !errors.Is(err, infer.ErrBadModel) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := gguftest.Tiny("llama")
	m.Edit = func(kv *gguf.KV) {
		if err := errors.Join(kv.Set("llama.attention.head_count", uint32(0)), kv.Set("llama.attention.head_count_kv", []int32{-5, 1 << 30, 3})); err != nil {
			t.Error(err)
		}
	}
	if _, err := readPlan(infer.Defaults(gguftest.Write(t, m))); err != nil {
		t.Errorf("the number of heads is for llama.cpp to validate: %v", err)
	}
}

func TestPhysicalCores(t *testing.T) {
	if n := PhysicalCores(); n < 1 || n > 4096 {
		t.Errorf("%d cores", n)
	}
}
