package decoder

import (
	"errors"
	"fmt"
	"os"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
)

// store holds matrices on the device up to a limit and the others in a temporary file, which is removed as soon as it
// is made and lives as long as the store.
type store struct {
	be    *Backend
	items []stored
	limit int64
	used  int64
	dir   string
	file  *os.File
	end   int64 // of the file
}

type stored struct {
	tensor *tensors.Tensor // nil where spilled or not put yet
	dims   []int
	offset int64
	space  int64 // bytes the item has in the file
}

func newStore(be *Backend, n int, limit int64, dir string) *store {
	return &store{be: be, items: make([]stored, n), limit: limit, dir: dir}
}

// put takes over t as item i in place of what was there.
func (s *store) put(i int, t *tensors.Tensor) error {
	it := &s.items[i]
	size := 4 * int64(t.Size())
	if it.tensor != nil {
		s.used -= 4 * int64(it.tensor.Size())
		free(it.tensor)
		it.tensor = nil
	}
	it.dims = append([]int(nil), t.Shape().Dimensions...)
	if it.space == 0 && s.used+size <= s.limit {
		it.tensor = t
		s.used += size
		return nil
	}
	defer free(t)
	return s.spill(it, t, size)
}

func (s *store) spill(it *stored, t *tensors.Tensor, size int64) error {
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "lathe-states-*")
		if err != nil {
			return fmt.Errorf("decoder: spill hidden states: %w", err)
		}
		if err := os.Remove(f.Name()); err != nil {
			return errors.Join(fmt.Errorf("decoder: spill hidden states: %w", err), f.Close())
		}
		s.file = f
	}
	if it.space < size {
		it.offset, it.space = s.end, size
		s.end += size
	}
	var werr error
	err := s.be.read(t, func(data []float32) { _, werr = s.file.WriteAt(dtypes.UnsafeByteSlice(data), it.offset) })
	if err == nil && werr != nil {
		err = fmt.Errorf("decoder: spill hidden states: %w", werr)
	}
	return err
}

// use calls f with item i, which stays the store's.
func (s *store) use(i int, f func(t *tensors.Tensor) error) error {
	it := &s.items[i]
	if it.tensor != nil {
		return f(it.tensor)
	}
	n := 1
	for _, d := range it.dims {
		n *= d
	}
	data := make([]float32, n)
	if _, err := s.file.ReadAt(dtypes.UnsafeByteSlice(data), it.offset); err != nil {
		return fmt.Errorf("decoder: read spilled hidden states: %w", err)
	}
	t, err := s.be.upload(data, it.dims...)
	if err != nil {
		return err
	}
	defer free(t)
	return f(t)
}

func (s *store) close() {
	for i := range s.items {
		free(s.items[i].tensor)
		s.items[i] = stored{}
	}
	if s.file != nil {
		_ = s.file.Close() // nothing of a removed file is worth keeping
		s.file = nil
	}
}
