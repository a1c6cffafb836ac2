package score

import (
	"container/list"
	"fmt"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// roundLayer sets, in the re-fitted weights of a layer of a candidate, the numbers that a file with the types of its levels holds.
func (e *Evaluator) roundLayer(layer int, c search.Candidate, refit *gguf.Refit) error {
	l := c.Masks.Layer(layer)
	types := make(map[string]subnet.Type)
	for module := range subnet.Modules {
		for _, t := range e.store.Levels().Level(c.Choice, subnet.Modules*layer+module).Types {
			types[t.Tensor] = t.Type
		}
	}
	for _, w := range []struct {
		matrix string
		rows   []int
		to     *[]float32
	}{
		{"q", c.Masks.QRows(layer), &refit.WQ}, {"k", c.Masks.KVRows(layer), &refit.WK}, {"v", c.Masks.KVRows(layer), &refit.WV},
		{"gate", l.Channels.Indices(), &refit.WG}, {"up", l.Channels.Indices(), &refit.WU},
	} {
		tensor := tensorOf(layer, w.matrix)
		t, ok := types[tensor]
		if !ok || len(w.rows) == 0 {
			continue
		}
		data, width, err := e.roundedRows(layer, w.matrix, tensor, t)
		if err != nil {
			return err
		}
		*w.to = make([]float32, 0, len(w.rows)*width)
		for _, r := range w.rows {
			*w.to = append(*w.to, data[r*width:(r+1)*width]...)
		}
	}
	for module := range subnet.Modules {
		if err := e.roundOutput(layer, subnet.Module(module), c, types, refit); err != nil {
			return err
		}
	}
	return nil
}

// tensorOf returns the name of the tensor of a matrix of a layer.
func tensorOf(layer int, matrix string) string {
	rest := map[string]string{"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}[matrix]
	return fmt.Sprintf("blk.%d.%s.weight", layer, rest)
}

// roundedRows returns a dense matrix rounded to a type. Its rows do not depend on each other.
func (e *Evaluator) roundedRows(layer int, matrix, tensor string, t subnet.Type) (data []float32, width int, err error) {
	key := roundedKey{tensor, t, 0}
	if found := e.rounded.get(key); found != nil {
		data, err := gguf.Decode(t, found.data)
		return data, found.width, err
	}
	w, dims, err := e.m.Weights(layer, matrix)
	if err != nil {
		return nil, 0, err
	}
	if w == nil {
		return nil, 0, fmt.Errorf("score: layer %d has no matrix %q", layer, matrix)
	}
	_, importance := e.store.Types()
	encoded, err := gguf.EncodeWeighted(t, w, dims[1], importance[tensor])
	if err != nil {
		return nil, 0, err
	}
	e.rounded.add(key, encoded, dims[1])
	data, err = gguf.Decode(t, encoded)
	return data, dims[1], err
}

// roundOutput rounds the output matrix of a module: that of its level, or the original one.
func (e *Evaluator) roundOutput(layer int, module subnet.Module, c search.Candidate, types map[string]subnet.Type, refit *gguf.Refit) error {
	matrix, columns, at := e.m.OutputMatrix(module), c.Masks.OutputColumns(layer, module), &refit.WO
	if module == subnet.MLP {
		at = &refit.WD
	}
	width := len(columns)
	tensor := tensorOf(layer, matrix)
	source, importance := e.store.Types()
	t, ok := types[tensor]
	if !ok {
		t = source[tensor]
	}
	if width == 0 || !ok && *at == nil { // as in the source
		return nil
	}
	for t.Known() && (width%t.Block() != 0 || !gguf.Writable(t)) { // as the writer of the file does
		t = t.Fallback()
	}
	slot := subnet.Modules*layer + int(module)
	key := roundedKey{tensor, t, 1 + e.store.Levels().Level(c.Choice, slot).Width}
	found := e.rounded.get(key)
	if found == nil {
		data := *at
		if data == nil {
			w, dims, err := e.m.Weights(layer, matrix)
			if err != nil {
				return err
			}
			data = make([]float32, 0, dims[0]*width)
			for r := range dims[0] {
				for _, column := range columns {
					data = append(data, w[r*dims[1]+column])
				}
			}
		}
		var weights []float32
		if of := importance[tensor]; of != nil && ok {
			weights = make([]float32, width)
			for i, column := range columns {
				weights[i] = of[column]
			}
		}
		encoded, err := gguf.EncodeWeighted(t, data, width, weights)
		if err != nil {
			return err
		}
		found = e.rounded.add(key, encoded, width)
	}
	var err error
	*at, err = gguf.Decode(t, found.data)
	return err
}

// maxRounded bounds the rounded matrices that are kept, in bytes.
const maxRounded = 512 << 20

// roundedKey identifies a rounded matrix: level is 0 for a dense one, and otherwise one more than that of the prepared level.
type roundedKey struct {
	tensor string
	typ    subnet.Type
	level  int
}

// roundedMatrix is a matrix as a file holds it.
type roundedMatrix struct {
	key   roundedKey
	data  []byte
	width int
}

// roundedCache keeps the matrices that were used last.
type roundedCache struct {
	order *list.List // of *roundedMatrix, the latest first
	by    map[roundedKey]*list.Element
	bytes int
}

func newRoundedCache() *roundedCache {
	return &roundedCache{order: list.New(), by: make(map[roundedKey]*list.Element)}
}

// get returns a matrix, nil where it is not kept.
func (c *roundedCache) get(k roundedKey) *roundedMatrix {
	e := c.by[k]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*roundedMatrix)
}

// add keeps a matrix and drops those that were used longest ago.
func (c *roundedCache) add(k roundedKey, data []byte, width int) *roundedMatrix {
	m := &roundedMatrix{k, data, width}
	c.by[k] = c.order.PushFront(m)
	c.bytes += len(data)
	for c.bytes > maxRounded && c.order.Len() > 1 {
		last := c.order.Back()
		old := c.order.Remove(last).(*roundedMatrix)
		delete(c.by, old.key)
		c.bytes -= len(old.data)
	}
	return m
}
