package convert

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/infer/gguf"
)

// typeOf returns the type in the file of a tensor that has a type in the folder. It records where that is not the type asked for.
func (l *layouter) typeOf(name string, kind gguf.Type, dims []int) gguf.Type {
	if len(dims) == 1 {
		return gguf.F32
	}
	want := kind
	if l.asked != nil {
		want = *l.asked
	}
	got, reason := want, ""
	for {
		if _, fits := got.RowSize(dims[1]); !fits {
			reason = fmt.Sprintf("rows of %d are not a multiple of %d", dims[1], got.Block())
		} else if got != kind && !gguf.Writable(got) {
			reason = fmt.Sprintf("%s cannot be written", got)
		} else {
			break
		}
		got = got.Fallback()
	}
	if got != want {
		l.fallbacks = append(l.fallbacks, gguf.Fallback{Tensor: name, Want: want.String(), Got: got.String(), Reason: reason})
	}
	return got
}

// widen gives tensors with numbers beyond the range of their type one that holds them, and returns these.
func widen(ctx context.Context, list []tensor) ([]gguf.Fallback, error) {
	var fallbacks []gguf.Fallback
	for i := range list {
		t := &list[i]
		if t.values != nil || t.out.Type == t.src.kind || t.src.kind == gguf.F16 || t.out.Type == gguf.F32 {
			continue
		}
		err := t.src.eachChunk(ctx, func(values []float32) error { return gguf.CheckRange(t.out.Type, values) })
		if errors.Is(err, gguf.ErrRange) {
			wider := gguf.WiderType(t.src.kind)
			fallbacks = append(fallbacks, gguf.Fallback{Tensor: t.out.Name, Want: t.out.Type.String(), Got: wider.String(), Reason: err.Error()})
			t.out.Type, err = wider, nil
		}
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.src.name, err)
		}
	}
	return fallbacks, nil
}

// eachChunk calls visit with the numbers of a tensor, some at a time.
func (w weight) eachChunk(ctx context.Context, visit func(values []float32) error) error {
	each, _ := w.kind.RowSize(1)
	buf := make([]byte, min(w.size, chunkElements*each))
	for at := int64(0); at < w.size; at += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), w.size-at)]
		if _, err := w.file.ReadAt(b, w.offset+at); err != nil {
			return truncated(err)
		}
		values, err := gguf.Decode(w.kind, b)
		if err != nil {
			return err
		}
		if err := visit(values); err != nil {
			return err
		}
	}
	return nil
}

// resolveHead removes an LM head that equals the embedding and checks that the model has the one that config.json describes. A head that
// differs is kept whatever tie_word_embeddings is, as in transformers.
func (c *config) resolveHead(named map[string]weight) error {
	const name = "output.weight"
	head, ok := named[name]
	embedding := named["token_embd.weight"]
	switch {
	case !ok && !c.Tied:
		return fmt.Errorf("%w: tie_word_embeddings is false, and the safetensors files lack lm_head.weight", ErrFormat)
	case !ok:
		return nil
	case !c.Tied && !c.family.TiedOnly:
		return nil
	}
	same := slices.Equal(head.dims, embedding.dims)
	if same {
		var err error
		if same, err = equalWeights(head, embedding); err != nil {
			return err
		}
	}
	switch {
	case same:
		delete(named, name)
	case c.family.TiedOnly:
		return fmt.Errorf("%w: tensor %q differs from the embedding, and %s has no LM head of its own in llama.cpp", ErrUnsupported, head.name, c.family.Arch)
	}
	return nil
}

// equalWeights reports whether two tensors of the same extents hold the same numbers.
func equalWeights(a, b weight) (bool, error) {
	const step = chunkElements
	elements := int64(1)
	for _, d := range a.dims {
		elements *= int64(d)
	}
	read := func(w weight, at, n int64) ([]float32, error) {
		each, _ := w.kind.RowSize(1)
		buf := make([]byte, n*each)
		if _, err := w.file.ReadAt(buf, w.offset+at*each); err != nil {
			return nil, fmt.Errorf("tensor %q: %w", w.name, truncated(err))
		}
		return gguf.Decode(w.kind, buf)
	}
	for at := int64(0); at < elements; at += step {
		n := min(step, elements-at)
		x, err := read(a, at, n)
		if err != nil {
			return false, err
		}
		y, err := read(b, at, n)
		if err != nil {
			return false, err
		}
		if !slices.Equal(x, y) {
			return false, nil
		}
	}
	return true, nil
}
