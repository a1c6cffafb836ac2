package decoder

import (
	"encoding/binary"
	"hash/maphash"
	"unsafe"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// spareBlocks is how many bytes of blocks a model keeps that no subnet holds any more, because searches return to them; where
// the weights have a limit, at most spareShare of it.
const (
	spareBlocks = 256 << 20
	spareShare  = 1. / 8
)

// registry finds blocks by their content, so that equal blocks of subnets made separately are one block, with one copy of the
// weights and one identity. It holds a reference to each block, and releases the oldest that nothing else holds once those
// take more than spare bytes. It is guarded by Model.mu.
type registry struct {
	seed   maphash.Seed
	blocks map[blockKey]cutBlock
	order  []blockKey // oldest first
	spare  int64
}

// blockKey is the content of a block: the hash covers its mask and its re-fitted weights.
type blockKey struct {
	layer  int
	module subnet.Module
	hash   uint64
	kept   string // the mask as text, so that masks of one hash differ
}

type cutBlock interface {
	base() *block
}

func (b *block) base() *block { return b }

// newRegistry makes a registry for a limit of the weights, 0 for none.
func newRegistry(limit int64) registry {
	r := registry{seed: maphash.MakeSeed(), blocks: make(map[blockKey]cutBlock), spare: spareBlocks}
	if limit > 0 {
		r.spare = min(r.spare, int64(spareShare*float64(limit)))
	}
	return r
}

// key returns the content of a module of a layer.
func (r *registry) key(layer int, module subnet.Module, l subnet.Layer, refit gguf.Refit) blockKey {
	k := blockKey{layer: layer, module: module}
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
	} else {
		k.kept = l.Channels.String()
		hashFloats(&h, refit.WD)
		hashFloats(&h, refit.WU)
		hashFloats(&h, refit.BD)
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
func (r *registry) find(k blockKey) cutBlock {
	b := r.blocks[k]
	if b != nil {
		b.base().retain()
	}
	return b
}

// add keeps a reference to the block, and drops old ones that only the registry holds.
func (r *registry) add(k blockKey, b cutBlock) {
	b.base().retain()
	r.blocks[k] = b
	r.order = append(r.order, k)
	var spare int64
	for _, k := range r.order {
		if b := r.blocks[k].base(); b.refs.Load() == 1 {
			spare += b.bytes()
		}
	}
	kept := r.order[:0]
	for _, k := range r.order {
		b := r.blocks[k].base()
		if spare > r.spare && b.refs.Load() == 1 {
			spare -= b.bytes()
			delete(r.blocks, k)
			b.release()
			continue
		}
		kept = append(kept, k)
	}
	clear(r.order[len(kept):])
	r.order = kept
}

// clear releases all blocks.
func (r *registry) clear() {
	for _, b := range r.blocks {
		b.base().release()
	}
	r.blocks, r.order = nil, nil
}

func (b *block) bytes() int64 {
	var n int64
	for _, w := range b.own {
		n += w.bytes()
	}
	return n
}

// share returns the block of that content with a reference for the caller; it builds the block where there is none.
func share[B cutBlock](m *Model, k blockKey, build func() (B, error)) (B, error) {
	var none B
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return none, ErrClosed
	}
	if b := m.registry.find(k); b != nil {
		return b.(B), nil
	}
	b, err := build()
	if err != nil {
		return none, err
	}
	m.registry.add(k, b)
	return b, nil
}
