package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/search"
)

// targetFlags are the flags of a target.
type targetFlags struct{ text, typ string }

// targetUsage describes the forms of a target.
const targetUsage = "ratio of the block parameters to keep such as 0.8, file size such as 80MB, memory=512MB@4096 (weights and KV cache at a context, /Q8_0 for another type of cache than F16), " +
	"speed=1.5x (of the dense model) or latency=12ms (per generated token on this machine)"

func (f *targetFlags) add(flags *pflag.FlagSet, otherwise, usage string) {
	flags.StringVar(&f.text, "target", otherwise, usage)
	flags.StringVar(&f.typ, "type", "", "tensor type of the file, for targets other than a ratio (default: the source's)")
	choices(flags, "type", gguf.WritableNames()...)
}

// target reads the flags. No text is no target.
func (f *targetFlags) target() (search.Target, error) {
	if f.text == "" {
		return search.Target{}, nil
	}
	t, err := search.ParseTarget(f.text, f.typ)
	if err != nil {
		return t, usage(fmt.Errorf("--target: %w", err))
	}
	if t.Type != "" {
		if typ, err := gguf.ParseType(t.Type); err == nil && !gguf.Writable(typ) {
			return t, usage(fmt.Errorf("--target: %s cannot be written", t.Type))
		}
	}
	return t, nil
}

// targetResult is a target in JSON: a number for a ratio, else its text.
type targetResult search.Target

// MarshalJSON implements [json.Marshaler].
func (t targetResult) MarshalJSON() ([]byte, error) {
	if t.Measure == search.Params || t.Measure == "" {
		return json.Marshal(t.Value)
	}
	return json.Marshal(search.Target(t).Text())
}

// name is how the target is written for people.
func (t targetResult) name() string { return explorer.TargetName(search.Target(t)) }
