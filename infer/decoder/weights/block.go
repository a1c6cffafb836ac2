package weights

import "sync/atomic"

// Block is what blocks of all kinds have in common: an identity, which keys cached results, and the weights that it must free.
// The subnets that contain it share it; it is freed with the last reference.
type Block struct {
	ID uint64
	// Freed, unless nil, is called when the last reference is released.
	Freed func()

	refs atomic.Int32
	own  []*Weight
	home *Residence // of own
}

// Base returns b itself.
func (b *Block) Base() *Block { return b }

// Own gives the block weights to free.
func (b *Block) Own(home *Residence, own []*Weight) { b.home, b.own = home, own }

// Retain adds a reference.
func (b *Block) Retain() { b.refs.Add(1) }

// Release drops a reference, and frees the block with the last.
func (b *Block) Release() {
	if b.refs.Add(-1) != 0 {
		return
	}
	if b.home != nil {
		b.home.Drop(b.own...)
	}
	if b.Freed != nil {
		b.Freed()
	}
}

// Bytes returns the size of the weights that the block frees.
func (b *Block) Bytes() int64 {
	var n int64
	for _, w := range b.own {
		n += w.Bytes()
	}
	return n
}
