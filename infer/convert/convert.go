package convert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/lathe-llm/lathe/infer/gguf"
)

var (
	// ErrFormat is wrapped by errors about a folder that is incomplete or contradicts itself.
	ErrFormat = errors.New("not a valid model folder")
	// ErrUnsupported is wrapped by errors about a model whose network or tokenizer cannot be converted.
	ErrUnsupported = errors.New("unsupported model")
	// ErrPickle is wrapped where the only weights are pickles.
	ErrPickle = errors.New("weights are stored as pickles, which run code when they are read: save them as safetensors")
)

// Options are the options of [Folder].
type Options struct {
	// Type is the type of the matrices (F32, F16, BF16, Q8_0, …); "" keeps that of each in the folder. A matrix whose rows or
	// numbers do not fit the type is stored in another one, see [Report].
	Type string
	// Name is the name of the model in the file; "" is the name of the folder.
	Name string
	// Progress is called from time to time with the bytes of tensors written so far and in total; nil for none.
	Progress func(done, total int64)
}

// Report describes a file that [Folder] wrote.
type Report struct {
	Path string `json:"path"`
	// Arch is the architecture of the file.
	Arch    string `json:"architecture"`
	Bytes   int64  `json:"bytes"`
	Tensors int    `json:"tensors"`
	// Fallbacks are the tensors stored in a type other than the one asked for.
	Fallbacks []gguf.Fallback `json:"fallbacks,omitempty"`
	// Notes are what llama.cpp computes in another way than transformers.
	Notes []string `json:"notes,omitempty"`
}

// Folder converts the model in dir to the GGUF file dst. The families are those with classes in [subnet.Folder].
func Folder(ctx context.Context, dir, dst string, o Options) (Report, error) {
	r, err := convert(ctx, dir, dst, o)
	if err != nil {
		return Report{}, fmt.Errorf("convert: %s: %w", dir, err)
	}
	return r, nil
}

func convert(ctx context.Context, dir, dst string, o Options) (Report, error) {
	c, err := readConfig(dir)
	if err != nil {
		return Report{}, err
	}
	weights, err := openWeights(dir)
	if err != nil {
		return Report{}, err
	}
	defer weights.Close()
	list, fallbacks, err := c.layOut(weights, o.Type)
	if err != nil {
		return Report{}, err
	}
	wider, err := widen(ctx, list)
	if err != nil {
		return Report{}, err
	}
	fallbacks = append(fallbacks, wider...)
	kv := &gguf.KV{}
	if err := c.metadata(kv, cmp.Or(o.Name, filepath.Base(filepath.Clean(dir)))); err != nil {
		return Report{}, err
	}
	notes, err := readTokenizer(dir, c, kv)
	if err != nil {
		return Report{}, err
	}

	tensors := make([]gguf.Tensor, len(list))
	for i, t := range list {
		tensors[i] = t.out
	}
	if err := describeTypes(kv, tensors); err != nil {
		return Report{}, err
	}
	w, err := gguf.Create(dst, kv, tensors)
	if err != nil {
		return Report{}, err
	}
	defer w.Abort()
	var total, done int64
	for _, t := range w.Tensors() {
		total += t.Size
	}
	for _, t := range list {
		err := t.write(ctx, func(b []byte) error {
			done += int64(len(b))
			if o.Progress != nil {
				o.Progress(done, total)
			}
			return w.Append(t.out.Name, b)
		})
		if err != nil {
			return Report{}, err
		}
	}
	if err := w.Commit(); err != nil {
		return Report{}, err
	}
	return Report{Path: dst, Arch: c.family.Arch, Bytes: w.Bytes(), Tensors: len(list), Fallbacks: fallbacks, Notes: notes}, nil
}

// describeTypes sets the keys about the types of the tensors.
func describeTypes(kv *gguf.KV, tensors []gguf.Tensor) error {
	if t, ok := gguf.FileType(tensors); ok {
		if err := kv.Set("general.file_type", t); err != nil {
			return err
		}
	}
	if gguf.IsQuantized(tensors) {
		return kv.Set("general.quantization_version", uint32(gguf.QuantizationVersion))
	}
	return nil
}
