package llamacpp

import "github.com/lathe-llm/lathe/infer"

// Inspect checks options and the header of a file as Engine.Load does, apart from free memory, and returns what is known of the
// model before it is loaded. Its errors are those of Load.
func Inspect(o infer.LoadOptions) (infer.Info, error) {
	p, err := readPlan(o)
	if err != nil {
		return infer.Info{}, err
	}
	r := p.request
	return infer.Info{
		Path: o.Path, Name: p.name, Arch: p.arch, FileBytes: p.bytes, Context: r.Context, Threads: r.Threads, FlashAttention: r.FlashAttention,
		KVType: r.KVType, ChatTemplate: p.template, Needed: p.need.memory(), Layers: len(p.need.layers),
	}, nil
}
