package jinja

import "fmt"

// step counts one node.
func (r *renderer) step() error { return r.spend(1) }

// spend counts work: about one step for a node, or for 64 bytes that are read.
func (r *renderer) spend(n int64) error {
	r.limits.Steps -= n
	if r.limits.Steps < 0 {
		return fmt.Errorf("%w: too many steps", ErrLimit)
	}
	if r.since += n; r.since > 4096 {
		r.since = 0
		return r.ctx.Err()
	}
	return nil
}

// stop is what must panics with.
type stop struct{ err error }

// must spends where no error can be returned; Render recovers.
func (r *renderer) must(n int64) {
	if err := r.spend(n); err != nil {
		panic(stop{err})
	}
}

// read is the work of reading a value once.
func read(v value) int64 {
	switch v := v.(type) {
	case string:
		return int64(len(v) >> 6)
	case *list:
		return int64(len(v.items) >> 3)
	case tuple:
		return int64(len(v) >> 3)
	case *dict:
		return int64(v.len() >> 3)
	case *view:
		return int64(v.d.len() >> 3)
	case *rangeValue:
		return v.n >> 3
	}
	return 0
}

// allocate counts n bytes that are about to be made.
func (r *renderer) allocate(n int) error {
	r.limits.Allocated -= int64(n)
	if r.limits.Allocated < 0 {
		return fmt.Errorf("%w: too much memory", ErrLimit)
	}
	return r.spend(int64(n) >> 8) // large texts take time too
}

// itemSize is about what an item of a list takes.
const itemSize = 32

// str is toText, with its memory counted.
func (r *renderer) str(v value) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	if err := r.allocate(r.sizeOf(v, 0)); err != nil {
		return "", err
	}
	return toText(v), nil
}

// text is str where no error can be returned.
func (r *renderer) text(v value) string {
	s, err := r.str(v)
	if err != nil {
		panic(stop{err})
	}
	return s
}

// repr is Python's repr(), with its memory counted.
func (r *renderer) repr(v value) string {
	if err := r.allocate(2 * r.sizeOf(v, 0)); err != nil {
		panic(stop{err})
	}
	return quote(v)
}

// sizeOf is about how many bytes a value takes written out.
func (r *renderer) sizeOf(v value, depth int) int {
	r.must(1)
	if depth > maxShown {
		return 0
	}
	sum := func(items []value) (n int) {
		for _, e := range items {
			n += r.sizeOf(e, depth+1) + 2
			if int64(n) > r.limits.Allocated {
				return n
			}
		}
		return n
	}
	switch v := v.(type) {
	case string:
		return len(v)
	case markup:
		return len(v)
	case *list:
		return sum(v.items)
	case tuple:
		return sum(v)
	case *dict:
		return sum(v.keys) + sum(v.values)
	case *view:
		return sum(v.d.keys) + sum(v.d.values)
	case *namespace:
		return sum(v.d.keys) + sum(v.d.values)
	case *group:
		return r.sizeOf(v.grouper, depth+1) + r.sizeOf(v.list, depth+1)
	}
	return 16
}
