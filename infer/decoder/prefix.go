package decoder

import (
	"container/list"
	"encoding/binary"

	"github.com/gomlx/gomlx/core/tensors"
)

// chain identifies the states of a text after each number of a subnet's layers, by the identities of the blocks it passed.
type chain struct {
	text textKey
	ids  []byte // 16 bytes a layer
}

func newChain(text textKey, s *Subnet) chain {
	c := chain{text: text}
	for i := range s.attention {
		c.ids = binary.LittleEndian.AppendUint64(c.ids, s.attention[i].ID)
		c.ids = binary.LittleEndian.AppendUint64(c.ids, s.mlp[i].ID)
	}
	return c
}

type prefixKey struct {
	text textKey
	ids  string
}

func (c chain) key(layers int) prefixKey { return prefixKey{c.text, string(c.ids[:16*layers])} }

// prefixCache keeps states after the first layers of subnets, up to a limit of bytes; the least recently used is dropped first.
// A state is kept only when it is offered a second time: of the many subnets that a search scores once, only the layers that
// they share with others are worth the memory.
type prefixCache struct {
	limit, used int64
	seen        map[prefixKey]bool
	kept        map[prefixKey]*list.Element
	recent      *list.List // of *prefix, the most recent in front
}

type prefix struct {
	key   prefixKey
	state *tensors.Tensor
}

// mostSeen is for how many states the cache remembers that they were offered once.
const mostSeen = 1 << 15

func newPrefixCache(limit int64) *prefixCache {
	return &prefixCache{limit: limit, seen: make(map[prefixKey]bool), kept: make(map[prefixKey]*list.Element), recent: list.New()}
}

// longest returns the state after the most layers, most at most, and how many they are; the cache owns it, and it
// is valid until the next offer of another chain. Without one it returns 0 and nil.
func (p *prefixCache) longest(c chain, most int) (layers int, state *tensors.Tensor) {
	for n := most; n > 0; n-- {
		if e := p.kept[c.key(n)]; e != nil {
			p.recent.MoveToFront(e)
			return n, e.Value.(*prefix).state
		}
	}
	return 0, nil
}

// offer gives the cache the state after so many layers. It reports whether the cache now owns the state.
func (p *prefixCache) offer(c chain, layers int, state *tensors.Tensor) bool {
	key, size := c.key(layers), 4*int64(state.Size())
	if !p.seen[key] {
		if len(p.seen) >= mostSeen {
			clear(p.seen)
		}
		p.seen[key] = true
		return false
	}
	if p.kept[key] != nil || size > p.limit {
		return false
	}
	for p.used+size > p.limit {
		p.drop(p.recent.Back())
	}
	p.kept[key] = p.recent.PushFront(&prefix{key, state})
	p.used += size
	return true
}

func (p *prefixCache) drop(e *list.Element) {
	old := p.recent.Remove(e).(*prefix)
	delete(p.kept, old.key)
	p.used -= 4 * int64(old.state.Size())
	free(old.state)
}

func (p *prefixCache) clear() {
	for p.recent.Len() > 0 {
		p.drop(p.recent.Back())
	}
}
