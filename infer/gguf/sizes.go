package gguf

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Refitted lists which weights of a subnet are re-fitted, in every layer: they are not copied from the source, and biases may be new.
type Refitted struct{ Outputs, Up, Biases, Norms bool }

// FileSize holds the sizes of a file in bytes.
type FileSize struct {
	File    int64 // with metadata and padding
	Tensors int64 // the tensors alone, which an engine holds in memory

	head, alignment int64 // of the metadata, without padding
}

// WithProvenance returns the size of the file where it also has [Subnet].Provenance.
func (s FileSize) WithProvenance(provenance map[string]any) int64 {
	if s.alignment == 0 {
		return s.File
	}
	head := s.head
	for key, value := range provenance {
		head += stringBytes(provenancePrefix+key) + valueBytes(value)
	}
	return s.File - alignUp(s.head, s.alignment) + alignUp(head, s.alignment)
}

// Sizes computes the sizes of the files that [WriteSubnet] would write of one model, without writing or reading one. It lays a file out like
// the writer does, so that types, widths and metadata are those of the file. The exceptions are tensors that fall back to another type because
// their numbers exceed its range, which only reading them would show. Its methods may be called concurrently, also after the model's file is closed.
type Sizes struct {
	src    *File
	config Config
	zeros  []float32
	every  []int
	tables map[string]tableBytes // long lists of the source's metadata, by key

	mu    sync.Mutex // guards known
	known map[sizeKey]FileSize
}

// sizeKey identifies a file by a hash of its masks, and by its type and re-fitted weights.
type sizeKey struct {
	masks    [sha256.Size]byte
	refitted Refitted
	typ      string
}

// tableBytes is the encoded size of a list that begins at an address.
type tableBytes struct {
	list  uintptr
	bytes int64
}

// maxKnownSizes bounds how many sizes are remembered.
const maxKnownSizes = 1 << 13

// NewSizes returns the sizes of subnets of a model.
func NewSizes(src *File) (*Sizes, error) {
	config, err := src.Config()
	if err != nil {
		return nil, err
	}
	z := &Sizes{src: src, config: config, zeros: make([]float32, config.Hidden), tables: make(map[string]tableBytes), known: make(map[sizeKey]FileSize)}
	z.every = (&plan{}).all(max(config.Vocab, config.Hidden, config.Positions))
	const long = 1024
	for _, key := range src.KV().keys {
		value := src.KV().values[key]
		if v := reflect.ValueOf(value); v.Kind() == reflect.Slice && v.Len() >= long {
			z.tables[key] = tableBytes{v.Pointer(), valueBytes(value)}
		}
	}
	return z, nil
}

// Of returns the size of the file of a subnet with matrices in the type of that name, "" for that of each in the source. The errors are those
// of [WriteSubnet].
func (z *Sizes) Of(m subnet.Masks, r Refitted, typ string) (FileSize, error) {
	key := sizeKey{sha256.Sum256(m.AppendBits(nil)), r, strings.ToUpper(typ)}
	z.mu.Lock()
	size, ok := z.known[key]
	z.mu.Unlock()
	if ok {
		return size, nil
	}
	size, err := z.compute(m, r, typ, nil)
	if err != nil {
		return FileSize{}, err
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if len(z.known) >= maxKnownSizes {
		clear(z.known)
	}
	z.known[key] = size
	return size, nil
}

// OfTypes returns the size of the file of a subnet with [Subnet].Types.
func (z *Sizes) OfTypes(m subnet.Masks, r Refitted, types map[string]Type) (FileSize, error) {
	return z.compute(m, r, "", types)
}

func (z *Sizes) compute(m subnet.Masks, r Refitted, typ string, types map[string]Type) (FileSize, error) {
	p := &plan{src: z.src, config: z.config, subnet: Subnet{Masks: m, Types: types}, opts: WriteOptions{Type: typ}, sizing: true, zeros: z.zeros, every: z.every}
	if err := p.checkMasks(); err != nil {
		return FileSize{}, fmt.Errorf("gguf: %s: %w", z.src.path, err)
	}
	p.subnet.Refit = r.layers(m, z.zeros)
	if err := p.layOut(); err != nil {
		return FileSize{}, err
	}
	kv, err := p.metadata(strings.Repeat("0", 2*sha256.Size))
	if err != nil {
		return FileSize{}, fmt.Errorf("gguf: %s: %w", z.src.path, err)
	}
	return z.sizeOf(kv, p.targets), nil
}

// layers returns re-fitted weights without values.
func (r Refitted) layers(m subnet.Masks, zeros []float32) []Refit {
	if r == (Refitted{}) {
		return nil
	}
	layers := make([]Refit, m.Layers())
	for i := range layers {
		l, refit := m.Layer(i), &layers[i]
		if r.Outputs && !l.Heads.IsEmpty() {
			refit.WO = zeros[:0]
		}
		if r.Outputs && !l.Channels.IsEmpty() {
			refit.WD = zeros[:0]
		}
		if r.Up && !l.Channels.IsEmpty() {
			refit.WU = zeros[:0]
		}
		if r.Biases {
			refit.BO, refit.BD = zeros, zeros
		}
		if r.Norms {
			refit.GA, refit.GM = zeros, zeros
		}
	}
	return layers
}

// sizeOf returns the size of a file of that metadata and those tensors, see [Writer.layOut].
func (z *Sizes) sizeOf(kv *KV, targets []target) FileSize {
	alignment := int64(defaultAlignment)
	if a, ok := kv.Uint("general.alignment"); ok {
		alignment = max(1, int64(min(a, MaxAlignment)))
	}
	head := int64(4 + 4 + 8 + 8) // magic, version and the two counts
	for _, key := range kv.keys {
		head += stringBytes(key)
		value := kv.values[key]
		if t, ok := z.tables[key]; ok && reflect.ValueOf(value).Kind() == reflect.Slice && reflect.ValueOf(value).Pointer() == t.list {
			head += t.bytes
		} else {
			head += valueBytes(value)
		}
	}
	var data FileSize
	for _, t := range targets {
		head += stringBytes(t.Name) + 4 + 8*int64(len(t.Dims)) + 4 + 8
		row := t.Dims[len(t.Dims)-1]
		rowSize, _ := t.Type.RowSize(row) // the layout has chosen a type that fits
		size := rowSize * (t.Elements() / int64(row))
		data.Tensors += size
		data.File += alignUp(size, alignment)
	}
	data.File += alignUp(head, alignment)
	data.head, data.alignment = head, alignment
	return data
}

func stringBytes(s string) int64 { return 8 + int64(len(s)) }

// valueBytes returns how many bytes [putValue] writes.
func valueBytes(value any) int64 {
	const kindBytes = 4
	switch v := value.(type) {
	case string:
		return kindBytes + stringBytes(v)
	case []string:
		n := int64(kindBytes + kindBytes + 8)
		for _, s := range v {
			n += stringBytes(s)
		}
		return n
	}
	v := reflect.ValueOf(value)
	if v.Kind() == reflect.Slice {
		return kindBytes + kindBytes + 8 + int64(v.Len())*int64(v.Type().Elem().Size())
	}
	return kindBytes + int64(v.Type().Size())
}
