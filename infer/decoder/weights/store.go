package weights

import (
	"github.com/gomlx/gomlx/core/tensors"
)

// Store holds matrices on the device up to a limit and the others in a temporary file.
type Store struct {
	dev     Device
	items   []stored
	limit   int64
	used    int64
	spilled spillFile
}

type stored struct {
	tensor *tensors.Tensor // nil where spilled or not yet put
	dims   []int
	space  extent // of the spill file, empty where there is none
}

// NewStore makes a store of n items with a limit in bytes. Its temporary file is in dir, "" for the system's temporary folder.
func NewStore(dev Device, n int, limit int64, dir string) *Store {
	return &Store{dev: dev, items: make([]stored, n), limit: limit, spilled: spillFile{dir: dir}}
}

// Put replaces item i by t, which the store then owns.
func (s *Store) Put(i int, t *tensors.Tensor) error {
	it := &s.items[i]
	size := 4 * int64(t.Size())
	if it.tensor != nil {
		s.used -= 4 * int64(it.tensor.Size())
		free(it.tensor)
		it.tensor = nil
	}
	it.dims = append([]int(nil), t.Shape().Dimensions...)
	if it.space.size == 0 && s.used+size <= s.limit {
		it.tensor = t
		s.used += size
		return nil
	}
	defer free(t)
	if it.space.size < size {
		s.spilled.giveBack(it.space)
		it.space = s.spilled.space(size)
	}
	var werr error
	err := s.dev.Read(t, func(data []float32) { werr = s.spilled.writeAt(it.space, data) })
	if err == nil {
		err = werr
	}
	return err
}

// Use calls f with item i, which the store still owns.
func (s *Store) Use(i int, f func(t *tensors.Tensor) error) error {
	it := &s.items[i]
	if it.tensor != nil {
		return f(it.tensor)
	}
	t, err := s.dev.Create(false, func(to []float32) error { return s.spilled.read(it.space, to) }, it.dims...)
	if err != nil {
		return err
	}
	defer free(t)
	return f(t)
}

// Close frees the items.
func (s *Store) Close() {
	for i := range s.items {
		free(s.items[i].tensor)
		s.items[i] = stored{}
	}
	s.spilled.close()
}
