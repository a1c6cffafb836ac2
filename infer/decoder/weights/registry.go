package weights

import (
	"encoding/binary"
	"hash/maphash"
	"unsafe"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// SpareBytes is how many bytes of blocks a registry keeps that no subnet holds any more, because searches return to them; where
// the weights have a limit, at most spareShare of it.
const (
	SpareBytes = 256 << 20
	spareShare = 1. / 8
)

// Registry finds blocks by their content, so that equal blocks of subnets made separately are one block, with one copy of the
// weights and one identity. It holds a reference to each block, and releases the oldest that nothing else holds once those
// take more than spare bytes. It is not safe for concurrent use.
type Registry struct {
	seed   maphash.Seed
	blocks map[Key]Shared
	order  []Key // oldest first
	spare  int64
}

// Key identifies the content of a block: the hash covers its mask and its re-fitted weights.
type Key struct {
	layer  int
	module subnet.Module
	hash   uint64
	kept   string // the mask as text, so that masks of one hash differ
}

// Shared is a block of any kind.
type Shared interface {
	Base() *Block
}

// NewRegistry makes a registry for a limit of the weights, 0 for none.
func NewRegistry(limit int64) Registry {
	r := Registry{seed: maphash.MakeSeed(), blocks: make(map[Key]Shared), spare: SpareBytes}
	if limit > 0 {
		r.spare = min(r.spare, int64(spareShare*float64(limit)))
	}
	return r
}

// Key returns the key of a module of a layer.
func (r *Registry) Key(layer int, module subnet.Module, l subnet.Layer, refit gguf.Refit) Key {
	k := Key{layer: layer, module: module}
	var h maphash.Hash
	h.SetSeed(r.seed)
	if module == subnet.Attention {
		k.kept = l.Heads.String()
		for _, sets := range [][]subnet.Set{l.QK, l.VO} {
			for _, s := range sets {
				k.kept += ";" + s.String()
			}
			k.kept += "/"
		}
		hashFloats(&h, refit.WO)
		hashFloats(&h, refit.BO)
		hashFloats(&h, refit.GA)
		hashFloats(&h, refit.WQ)
		hashFloats(&h, refit.WK)
		hashFloats(&h, refit.WV)
	} else {
		k.kept = l.Channels.String()
		hashFloats(&h, refit.WD)
		hashFloats(&h, refit.WU)
		hashFloats(&h, refit.BD)
		hashFloats(&h, refit.GM)
		hashFloats(&h, refit.WG)
	}
	k.hash = h.Sum64()
	return k
}

// hashFloats adds the bits of data, and whether it is nil.
func hashFloats(h *maphash.Hash, data []float32) {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(data)))
	if data == nil {
		n[7] = 1
	}
	h.Write(n[:])
	if len(data) > 0 {
		h.Write(unsafe.Slice((*byte)(unsafe.Pointer(&data[0])), 4*len(data)))
	}
}

// find returns the block of that content with a reference for the caller, or nil.
func (r *Registry) find(k Key) Shared {
	b := r.blocks[k]
	if b != nil {
		b.Base().Retain()
	}
	return b
}

// add keeps a reference to the block, and drops old ones that only the registry holds.
func (r *Registry) add(k Key, b Shared) {
	b.Base().Retain()
	r.blocks[k] = b
	r.order = append(r.order, k)
	var spare int64
	for _, k := range r.order {
		if b := r.blocks[k].Base(); b.refs.Load() == 1 {
			spare += b.Bytes()
		}
	}
	kept := r.order[:0]
	for _, k := range r.order {
		b := r.blocks[k].Base()
		if spare > r.spare && b.refs.Load() == 1 {
			spare -= b.Bytes()
			delete(r.blocks, k)
			b.Release()
			continue
		}
		kept = append(kept, k)
	}
	clear(r.order[len(kept):])
	r.order = kept
}

// Clear releases all blocks.
func (r *Registry) Clear() {
	for _, b := range r.blocks {
		b.Base().Release()
	}
	r.blocks, r.order = nil, nil
}

// Share returns the block of that content with a reference for the caller; it builds the block where there is none.
func Share[B Shared](r *Registry, k Key, build func() (B, error)) (B, error) {
	if b := r.find(k); b != nil {
		return b.(B), nil
	}
	b, err := build()
	if err != nil {
		return b, err
	}
	r.add(k, b)
	return b, nil
}
