package convert

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/gguf"
)

// chunkElements is about how many numbers are converted at a time.
const chunkElements = 1 << 20

// tensor is one tensor of the file and its source.
type tensor struct {
	out    gguf.Tensor
	src    weight
	values []float32 // instead of src
	head   int       // rows that are permuted together, those of one head; 0 for none
	offset float32   // added to every number
}

// layOut returns the tensors of the file. It checks that the folder has all of them and no others, with the extents of config.json.
func (c *config) layOut(w *weights, asked string) ([]tensor, []gguf.Fallback, error) {
	named := make(map[string]weight, len(w.byName))
	for name, t := range w.byName {
		to, ok := c.tensorName(name)
		if !ok {
			return nil, nil, fmt.Errorf("%w: tensor %.200q in a model of %s", ErrUnsupported, name, c.family.Arch)
		}
		if other, twice := named[to]; twice {
			return nil, nil, fmt.Errorf("%w: tensors %.200q and %.200q are both %s", ErrFormat, other.name, name, to)
		}
		if to != "" {
			named[to] = t
		}
	}
	l := layouter{config: c, named: named}
	if asked != "" {
		t, err := gguf.ParseType(asked)
		if err == nil && !gguf.Writable(t) {
			err = fmt.Errorf("%w: %s cannot be written", gguf.ErrType, t)
		}
		if err != nil {
			return nil, nil, err
		}
		l.asked = &t
	}
	if err := c.resolveHead(named); err != nil {
		return nil, nil, err
	}
	for _, t := range c.family.ModelTensors(c.VocabSize, c.Hidden, c.HeadDim, c.Context) {
		if t.Name == "position_embd.weight" {
			l.skipUnusedPositions(t.Name)
		}
		l.take(t.Name, t.Name, !t.Optional, 0, t.Dims())
	}
	if factors := c.ropeFactors(); factors != nil {
		l.list = append(l.list, tensor{out: gguf.Tensor{Name: "rope_freqs.weight", Type: gguf.F32, Dims: []int{len(factors)}}, values: factors})
	}
	for i, layer := range c.layers {
		l.layer(i, layer)
	}
	if l.err == nil {
		for _, t := range named {
			return nil, nil, fmt.Errorf("%w: tensor %.200q does not belong to a model of %d layers", ErrUnsupported, t.name, c.Layers)
		}
	}
	return l.list, l.fallbacks, l.err
}

// layouter moves tensors from named to list. It keeps its first error.
type layouter struct {
	config *config
	named  map[string]weight
	asked  *gguf.Type
	list   []tensor
	err    error

	fallbacks []gguf.Fallback
}

// skipUnusedPositions leaves the unused rows out of the table of positions.
func (l *layouter) skipUnusedPositions(name string) {
	unused, rows := l.config.family.UnusedPositions, l.config.Context
	if t, ok := l.named[name]; ok && len(t.dims) == 2 && t.dims[0] == rows+unused {
		row, _ := t.kind.RowSize(t.dims[1])
		t.offset += int64(unused) * row
		t.dims = []int{rows, t.dims[1]}
		l.named[name] = t
	}
}

// layer takes the tensors of layer i of the file.
func (l *layouter) layer(i int, s shape) {
	f := l.config.family
	from := f.LayerTensors(s.source, l.config.Hidden, l.config.HeadDim, s.LayerGeometry)
	for j, t := range f.LayerTensors(i, l.config.Hidden, l.config.HeadDim, s.LayerGeometry) {
		if t.IsOutBias() && !f.OutBias {
			continue // one in the folder is then reported as a tensor that the network does not have
		}
		needed := !t.Optional || f.RequiredBias
		if attention := strings.Contains(t.Name, "attn_") || strings.Contains(t.Name, "attention_"); attention && s.zeroAttention || !attention && s.zeroMLP {
			l.fill(t.Name, needed, t.Dims())
			continue
		}
		head := 0
		if f.AdjacentPairs() && (strings.Contains(t.Name, ".attn_q.") || strings.Contains(t.Name, ".attn_k.")) {
			head = l.config.HeadDim
		}
		l.take(t.Name, from[j].Name, needed, head, t.Dims())
	}
}

// fill adds a tensor that the folder lacks: zeros, or ones for a norm.
func (l *layouter) fill(name string, needed bool, dims []int) {
	if !needed {
		return
	}
	n, value := 1, float32(0)
	for _, d := range dims {
		n *= d
	}
	if strings.HasSuffix(name, "_norm.weight") {
		value = 1
	}
	l.list = append(l.list, tensor{out: gguf.Tensor{Name: name, Type: l.typeOf(name, gguf.F16, dims), Dims: dims}, values: slices.Repeat([]float32{value}, n)})
}

// take adds a tensor of the file. head is the number of rows that are permuted together.
func (l *layouter) take(name, from string, needed bool, head int, dims []int) {
	t, ok := l.named[from]
	delete(l.named, from)
	switch {
	case l.err != nil:
	case !ok && needed:
		l.err = fmt.Errorf("%w: the safetensors files lack %s", ErrFormat, from)
	case !ok:
	case !slices.Equal(t.dims, dims):
		l.err = fmt.Errorf("%w: tensor %.200q has extents %v where config.json needs %v", ErrFormat, t.name, t.dims, dims)
	default:
		out := gguf.Tensor{Name: name, Type: l.typeOf(name, t.kind, dims), Dims: dims}
		converted := tensor{out: out, src: t, head: head}
		if l.config.family.GainsLessOne && strings.HasSuffix(name, "_norm.weight") {
			converted.offset = 1
		}
		l.list = append(l.list, converted)
	}
}

// write calls emit with the stored bytes of the tensor, some rows at a time.
func (t tensor) write(ctx context.Context, emit func([]byte) error) error {
	if t.values != nil {
		b, err := gguf.Encode(t.out.Type, t.values, t.out.Dims[len(t.out.Dims)-1])
		if err != nil {
			return err
		}
		return emit(b)
	}
	rows, width := t.out.Dims[0], 1
	if len(t.out.Dims) == 2 {
		width = t.out.Dims[1]
	}
	rowSize, _ := t.src.kind.RowSize(width)
	step := max(1, chunkElements/width)
	if t.head > 0 {
		step = t.head
	}
	buf := make([]byte, int64(min(step, rows))*rowSize)
	for lo := 0; lo < rows; lo += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(step, rows-lo)
		b := buf[:int64(n)*rowSize]
		if _, err := t.src.file.ReadAt(b, t.src.offset+int64(lo)*rowSize); err != nil {
			return fmt.Errorf("tensor %q: %w", t.src.name, truncated(err))
		}
		if t.head > 0 {
			b = interleave(b, int(rowSize))
		}
		if t.out.Type != t.src.kind || t.offset != 0 {
			values, err := gguf.Decode(t.src.kind, b)
			if err != nil {
				return err
			}
			for i := range values {
				values[i] += t.offset
			}
			if b, err = gguf.Encode(t.out.Type, values, width); err != nil {
				return fmt.Errorf("tensor %q: %w", t.src.name, err)
			}
		}
		if err := emit(b); err != nil {
			return err
		}
	}
	return nil
}

// interleave permutes the rows of a head from rotary pairs of halves to pairs of adjacent rows.
func interleave(b []byte, rowSize int) []byte {
	half := len(b) / rowSize / 2
	out := make([]byte, 0, len(b))
	for i := range half {
		out = append(out, b[i*rowSize:(i+1)*rowSize]...)
		out = append(out, b[(half+i)*rowSize:(half+i+1)*rowSize]...)
	}
	return out
}
