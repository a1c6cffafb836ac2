package convert

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/internal/parts"
)

// maxShard bounds the size of a safetensors file of several.
const maxShard = 5 << 30

// entry describes a tensor in a safetensors header.
type entry struct {
	Type    string   `json:"dtype"`
	Shape   []int64  `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// write writes the weights: one file, or several and their index.
func (o *folderWriter) write(ctx context.Context, dir string, progress func(done, total int64)) error {
	var shards [][]outTensor
	var total, size int64
	for _, t := range o.tensors {
		if len(shards) == 0 || size+t.Size > maxShard {
			shards, size = append(shards, nil), 0
		}
		last := len(shards) - 1
		shards[last] = append(shards[last], t)
		size, total = size+t.Size, total+t.Size
	}
	var done int64
	where := make(map[string]string)
	for i, list := range shards {
		name := "model.safetensors"
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
		err := o.writeShard(filepath.Join(dir, name), list, func(bytes int) error {
			if done += int64(bytes); progress != nil {
				progress(done, total)
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
		for _, t := range list {
			where[t.name] = name
		}
	}
	if len(shards) < 2 {
		return nil
	}
	b, err := json.MarshalIndent(map[string]any{"metadata": map[string]any{"total_size": total}, "weight_map": where}, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, parts.Index), b, 0o644)
}

func (o *folderWriter) writeShard(path string, list []outTensor, wrote func(bytes int) error) (err error) {
	f, err := durable.Create(path, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var at int64
	for _, t := range list {
		e := entry{Type: t.Type.String(), Offsets: [2]int64{at, at + t.Size}}
		for _, d := range t.Dims {
			e.Shape = append(e.Shape, int64(d))
		}
		header[t.name] = e
		at += t.Size
	}
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	for len(text)%8 != 0 { // align the data
		text = append(text, ' ')
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := w.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)); err != nil {
		return err
	}
	for _, t := range list {
		b, err := o.file.Read(t.Tensor.Name)
		if err != nil {
			return err
		}
		if t.head > 0 {
			b = halve(b, t.head, len(b)/t.Dims[0])
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		if err := wrote(len(b)); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Commit()
}

// halve permutes the rows of heads from rotary pairs of adjacent rows to pairs of halves, as in transformers.
func halve(b []byte, headDim, rowSize int) []byte {
	out := make([]byte, 0, len(b))
	for head := 0; head < len(b); head += headDim * rowSize {
		for odd := range 2 {
			for i := odd; i < headDim; i += 2 {
				out = append(out, b[head+i*rowSize:head+(i+1)*rowSize]...)
			}
		}
	}
	return out
}
