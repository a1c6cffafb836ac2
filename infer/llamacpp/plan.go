package llamacpp

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// contextUnit is the number of tokens that llama.cpp rounds the context up to a multiple of.
const contextUnit = 256

// plan is all that is known before a load: the request to the child, the memory it needs, and the chat template.
type plan struct {
	options  infer.LoadOptions
	request  loadRequest
	need     need
	template string // Jinja source; "" where the file has none
	marks    string // without a template: the control tokens, in lines
	format   string // without a template: llama.cpp's name for the chat format of the family; "" if not known
	name     string
	arch     string
	bytes    int64 // of the file
}

// readPlan reads and checks the file's header.
func readPlan(o infer.LoadOptions) (plan, error) {
	if err := o.Validate(); err != nil {
		return plan{}, err
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return plan{}, err
	}
	f, err := openFile(path)
	if err != nil {
		return plan{}, err
	}
	defer func() { _ = f.Close() }() // only read

	p := plan{options: o, bytes: f.Size()}
	p.arch, _ = f.KV().String("general.architecture")
	p.name, _ = f.KV().String("general.name")
	if p.name == "" {
		p.name = strings.TrimSuffix(filepath.Base(path), ".gguf")
	}
	if p.template, _ = f.KV().String("tokenizer.chat_template"); strings.TrimSpace(p.template) == "" {
		p.template, p.marks, p.format = "", controlTokens(f.KV()), familyFormat(p.arch, f.KV())
	}
	p.request = loadRequest{
		Path: path, Context: o.Context, Threads: o.Threads, Batch: o.Batch, GPULayers: o.GPULayers,
		FlashAttention: o.FlashAttention, KVType: o.KVType,
	}
	p.request.Ends = endTokens(f.KV())
	steps := f.KV().TextSteps()
	p.request.Compose, p.request.SpacePrefix = steps.Compose, steps.SpacePrefix
	p.request.Whole = f.KV().WholeTokens()
	r := &p.request
	trained, _ := f.KV().Uint(p.arch + ".context_length")
	if r.Context == 0 {
		r.Context = infer.DefaultContext
		if trained > 0 && trained < infer.DefaultContext {
			r.Context = int(trained)
		}
	}
	if r.Threads == 0 {
		r.Threads = PhysicalCores()
	}
	if r.Batch == 0 {
		r.Batch = infer.DefaultBatch
	}
	if r.KVType == "" {
		r.KVType = infer.KVF16
	}
	r.Batch = min(r.Batch, r.Context)
	p.need, err = needOf(f, *r)
	return p, err
}

// endTokens returns the tokens that end a reply according to the file: one or a list under each key. llama.cpp reads one of
// each, and knows others by their texts.
func endTokens(kv *gguf.KV) []int32 {
	var ends []int32
	for _, key := range [...]string{"eos_token_id", "eos_token_ids", "eot_token_id", "eom_token_id"} {
		key = "tokenizer.ggml." + key
		list, _ := kv.Ints(key)
		if one, ok := kv.Int(key); ok {
			list = append(list, one)
		}
		for _, id := range list {
			if id >= 0 && id <= math.MaxInt32 {
				ends = append(ends, int32(id))
			}
		}
	}
	return ends
}

// need is the memory that a model needs, in bytes:
//
//	weights = all tensors
//	cache   = context × Σ over layers (KV heads × (K channels + V channels)) × bytes per cached value
//	compute = 4 × batch × the larger of
//	              vocabulary + hidden                                            logits of the last step
//	              2·hidden + 2·heads·d_h + 2·KV heads·d_h + scores               attention of the widest layer
//	              2·hidden + 3·MLP width                                         MLP of the widest layer
//	          where scores = 1.5·context (the mask, in two precisions) with flash attention, (1 + heads)·context without
//	output  = 4 × vocabulary × tokens scored at once (scoreBatch)
//
// llama.cpp reports sizes of the first three within a few per cent of this (a test allows 15 %).
type need struct {
	layers          []layerNeed
	outside         int64 // weights outside the layers: embeddings and output
	compute, output int64
}

type layerNeed struct{ weights, cache int64 }

func (n need) memory() infer.Memory {
	m := infer.Memory{Weights: n.outside, Compute: n.compute + n.output}
	for _, l := range n.layers {
		m.Weights += l.weights
		m.KVCache += l.cache
	}
	return m
}

// needOf computes the need from the raw metadata, whose form is the same in every architecture that llama.cpp runs.
func needOf(f *gguf.File, r loadRequest) (need, error) {
	kv := f.KV()
	arch, _ := kv.String("general.architecture")
	count := func(key string, otherwise uint64) uint64 {
		if n, ok := kv.Uint(arch + "." + key); ok {
			return n
		}
		return otherwise
	}
	const most = 1 << 20 // layers, heads, channels; the file is not trusted
	layers := count("block_count", 0)
	hidden := count("embedding_length", 0)
	if layers == 0 || layers > most || hidden == 0 || hidden > most {
		return need{}, &badModelError{fmt.Errorf("%s: %d layers of hidden size %d", f.Path(), layers, hidden)}
	}
	heads := perLayer(kv, arch+".attention.head_count", int(layers), nil)
	kvHeads := perLayer(kv, arch+".attention.head_count_kv", int(layers), heads)
	ffn := perLayer(kv, arch+".feed_forward_length", int(layers), nil)

	n := need{layers: make([]layerNeed, layers)}
	headDim := uint64(0)
	if heads[0] > 0 {
		headDim = hidden / uint64(heads[0])
	}
	keys, values := int64(count("attention.key_length", headDim)), int64(count("attention.value_length", headDim))
	const block = 32 // values that q8_0 and q4_0 quantise together, all of one head
	if r.KVType != infer.KVF16 && (keys%block != 0 || values%block != 0) {
		return need{}, fmt.Errorf("%s: cache type %s needs heads of a multiple of %d channels, they have %d: %w", f.Path(), r.KVType, block, max(keys, values), infer.ErrInvalid)
	}
	context := int64((r.Context + contextUnit - 1) / contextUnit * contextUnit)
	widest := int64(0) // values per token of the widest step
	for i := range n.layers {
		n.layers[i].cache = cacheBytes(r.KVType, context*kvHeads[i]*(keys+values))
		scores := context * 3 / 2
		if !r.FlashAttention {
			scores = context * (1 + heads[i])
		}
		attention := 2*int64(hidden) + 2*heads[i]*keys + kvHeads[i]*(keys+values) + scores
		widest = max(widest, attention, 2*int64(hidden)+3*ffn[i])
	}
	for _, t := range f.Tensors() {
		if i, ok := layerOf(t.Name); ok && i < len(n.layers) {
			n.layers[i].weights += t.Size
		} else {
			n.outside += t.Size
		}
	}
	vocab := int64(0)
	if t, ok := f.Tensor("token_embd.weight"); ok && len(t.Dims) == 2 {
		vocab = int64(t.Dims[0])
	}
	n.compute = 4 * int64(r.Batch) * max(widest, vocab+int64(hidden))
	n.output = 4 * vocab * int64(min(r.Batch, scoreBatch(int(vocab))))
	return n, nil
}

// perLayer reads one number for all layers or a list with one for each. A missing value is that of otherwise, or 0; values
// are clamped, since they serve an estimate only and llama.cpp validates the file.
func perLayer(kv *gguf.KV, key string, layers int, otherwise []int64) []int64 {
	out := make([]int64, layers)
	list, _ := kv.Ints(key)
	one, _ := kv.Int(key)
	for i := range out {
		switch {
		case i < len(list):
			out[i] = list[i]
		case len(list) == 0 && one > 0:
			out[i] = one
		case otherwise != nil:
			out[i] = otherwise[i]
		}
		out[i] = min(max(out[i], 0), 1<<20)
	}
	return out
}

// layerOf returns the layer N of a tensor named blk.N.….
func layerOf(name string) (int, bool) {
	var i int
	if _, err := fmt.Sscanf(name, "blk.%d.", &i); err != nil || i < 0 {
		return 0, false
	}
	return i, true
}

// cacheBytes returns the size of n cached values.
func cacheBytes(kvType string, n int64) int64 {
	switch kvType {
	case infer.KVQ80:
		return n / 32 * 34
	case infer.KVQ40:
		return n / 32 * 18
	}
	return 2 * n
}

// scoreBatch returns how many tokens' logits are computed at once: at most 64 MiB of them.
func scoreBatch(vocab int) int { return max(16, (64<<20)/(4*max(vocab, 1))) }

// place decides how many layers are on the GPUs. It returns infer.ErrNoMemory if the model does not fit, and infer.ErrNoGPU if
// a number of layers is asked for and there is no GPU. devices are ggml's, as classify returns them; host is the memory that a
// process can still allocate, 0 if not known.
func (p *plan) place(devices []infer.Device, host int64) error {
	gpus, gpu := int64(0), int64(0)
	shared := false // the GPUs are without memory of their own
	for _, d := range devices {
		if d.GPU && d.Unused == "" {
			gpus++
			gpu += d.Free
			shared = shared || d.HostMemory()
		}
	}
	buffers := gpus * p.need.compute
	if shared && host > 0 {
		gpu = min(gpu, host)
	}
	total := p.need.memory()
	layers := len(p.need.layers)
	want := p.request.GPULayers
	switch {
	case gpus == 0 && want > 0:
		return infer.ErrNoGPU
	case gpus == 0:
		p.request.GPULayers = 0
	case want < 0 || want > layers:
		p.request.GPULayers = p.fit(gpu - buffers)
	}
	onGPU := int64(0)
	for i := range p.request.GPULayers {
		l := p.need.layers[max(0, layers-1-i)] // llama.cpp takes the last layers first
		if i < layers {
			onGPU += l.weights + l.cache
		}
	}
	if p.request.GPULayers > 0 {
		onGPU += buffers
	}
	onHost := total.Total()
	if !shared {
		onHost -= onGPU
	}
	switch {
	case p.options.IgnoreMemory:
	case onGPU > gpu:
		return fmt.Errorf("%w: %d layers need %s on the GPU, %s are free: use --gpu with fewer layers, auto or off",
			infer.ErrNoMemory, p.request.GPULayers, gib(onGPU), gib(gpu))
	case host > 0 && onHost > host:
		return fmt.Errorf("%w: weights %s + cache %s + buffers %s, %s are free: use a shorter context or a smaller type",
			infer.ErrNoMemory, gib(total.Weights), gib(total.KVCache), gib(total.Compute), gib(host))
	}
	return nil
}

// fit returns how many of the last layers, and then the output, fit in bytes of GPU memory, which are without buffers.
func (p *plan) fit(bytes int64) int {
	n := 0
	for i := len(p.need.layers) - 1; i >= 0; i-- {
		bytes -= p.need.layers[i].weights + p.need.layers[i].cache
		if bytes < 0 {
			return n
		}
		n++
	}
	if bytes >= p.need.outside {
		n++ // the output, which llama.cpp counts as one more layer
	}
	return n
}

func gib(bytes int64) string { return fmt.Sprintf("%.2f GiB", float64(bytes)/(1<<30)) }

// classify fills in what ggml does not report of its devices: which are software, and which GPUs llama.cpp leaves unused. It
// takes one of the devices with the same PCI address, and integrated GPUs only where there is no other.
func classify(devices []infer.Device) {
	cards := make(map[string]string) // by PCI address
	other := ""                      // a GPU with memory of its own
	for i := range devices {
		d := &devices[i]
		if !d.GPU {
			continue
		}
		d.Software = isSoftware(d.Description)
		if d.Integrated {
			continue
		}
		if name, ok := cards[d.ID]; ok && d.ID != "" {
			d.Unused = name + " is the same card"
			continue
		}
		cards[d.ID] = d.Name
		if other == "" {
			other = d.Name
		}
	}
	for i := range devices {
		if d := &devices[i]; d.Integrated && other != "" {
			d.Unused = "integrated, and there is " + other
		}
	}
}

// isSoftware reports whether a GPU is one of the known implementations that run on the processor.
func isSoftware(description string) bool {
	d := strings.ToLower(description)
	for _, name := range [...]string{"llvmpipe", "lavapipe", "swiftshader", "software"} {
		if strings.Contains(d, name) {
			return true
		}
	}
	return false
}
