package convert

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/internal/parts"
)

// weight is one tensor of a safetensors file.
type weight struct {
	file   io.ReaderAt
	name   string
	kind   gguf.Type
	dims   []int
	offset int64
	size   int64
}

// weights are the tensors of a folder by name.
type weights struct {
	byName map[string]weight
	files  []*os.File
}

func (w *weights) Close() {
	for _, f := range w.files {
		_ = f.Close() // only read from
	}
}

// openWeights reads the headers of the safetensors files of the model in a folder.
func openWeights(dir string) (*weights, error) {
	names, err := weightFiles(dir)
	if err != nil {
		return nil, err
	}
	w := &weights{byName: make(map[string]weight)}
	for _, name := range names {
		if err := w.open(filepath.Join(dir, name)); err != nil {
			w.Close()
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return w, nil
}

// weightFiles returns the names of the files with the weights.
func weightFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []string
	pickle := ""
	for _, e := range entries {
		all = append(all, e.Name())
		switch filepath.Ext(e.Name()) {
		case ".bin", ".pt", ".pth":
			pickle = e.Name()
		}
	}
	names, err := parts.Weights(all, func(name string) ([]byte, error) { return readLimited(filepath.Join(dir, name), maxJSONBytes) })
	switch {
	case errors.Is(err, parts.ErrIndex):
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	case err != nil:
		return nil, err
	case len(names) > parts.MaxFiles:
		return nil, fmt.Errorf("%w: %d safetensors files", ErrFormat, len(names))
	case len(names) == 0 && pickle != "":
		return nil, fmt.Errorf("%s: %w", pickle, ErrPickle)
	case len(names) == 0:
		return nil, fmt.Errorf("%w: no safetensors files", ErrFormat)
	}
	return names, nil
}

func (w *weights) open(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	w.files = append(w.files, f)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	list, err := parseSafetensors(f, info.Size())
	if err != nil {
		return err
	}
	for _, t := range list {
		if _, ok := w.byName[t.name]; ok {
			return fmt.Errorf("%w: tensor %.200q occurs twice", ErrFormat, t.name)
		}
		w.byName[t.name] = t
	}
	return nil
}

// parseSafetensors reads the header of a file of size bytes: its length in eight bytes, then JSON with the type, the extents and the position of
// each tensor in the data that follows.
func parseSafetensors(r io.ReaderAt, size int64) ([]weight, error) {
	var head [8]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, truncated(err)
	}
	n := binary.LittleEndian.Uint64(head[:])
	if n > maxHeaderBytes || int64(n) > size-8 {
		return nil, fmt.Errorf("%w: a header of %d bytes in a file of %d, at most %d", ErrFormat, n, size, maxHeaderBytes)
	}
	text := make([]byte, n)
	if _, err := r.ReadAt(text, 8); err != nil && n > 0 {
		return nil, truncated(err)
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrFormat, err)
	}
	list := make([]weight, 0, len(entries))
	for name, raw := range entries {
		if name == "__metadata__" {
			continue
		}
		t, err := parseEntry(name, raw, size-8-int64(n))
		if err != nil {
			return nil, fmt.Errorf("tensor %.200q: %w", name, err)
		}
		t.file, t.offset = r, t.offset+8+int64(n)
		list = append(list, t)
	}
	return list, nil
}

// parseEntry reads one tensor of a header and checks it against the size of the data.
func parseEntry(name string, raw json.RawMessage, data int64) (weight, error) {
	var e struct {
		Type    string  `json:"dtype"`
		Shape   []int64 `json:"shape"`
		Offsets []int64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return weight{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	t := weight{name: name}
	switch e.Type {
	case "F32":
		t.kind = gguf.F32
	case "F16":
		t.kind = gguf.F16
	case "BF16":
		t.kind = gguf.BF16
	default:
		return t, fmt.Errorf("%w: type %.20q (supported: F32, F16, BF16)", ErrUnsupported, e.Type)
	}
	if len(e.Offsets) != 2 || e.Offsets[0] < 0 || e.Offsets[1] < e.Offsets[0] || e.Offsets[1] > data || len(e.Shape) > 8 {
		return t, fmt.Errorf("%w: extents %v at %v of %d bytes", ErrFormat, e.Shape, e.Offsets, data)
	}
	elements := int64(1)
	for _, d := range e.Shape {
		if d < 1 || d > math.MaxInt32 || elements > gguf.MaxElements/d {
			return t, fmt.Errorf("%w: extents %v", ErrFormat, e.Shape)
		}
		elements *= d
		t.dims = append(t.dims, int(d))
	}
	t.offset, t.size = e.Offsets[0], e.Offsets[1]-e.Offsets[0]
	if each, _ := t.kind.RowSize(1); elements*each != t.size {
		return t, fmt.Errorf("%w: %d bytes for extents %v of %s", ErrFormat, t.size, e.Shape, t.kind)
	}
	return t, nil
}

func truncated(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: truncated", ErrFormat)
	}
	return err
}
