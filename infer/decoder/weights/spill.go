package weights

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/gomlx/compute/dtypes"
)

// extent is a run of bytes of a spill file.
type extent struct{ offset, size int64 }

// spillFile keeps numbers in a temporary file. It is made at the first write and its name removed at once, so that it goes with
// the process at the latest. An extent that is given back is used again for as many bytes.
type spillFile struct {
	dir   string // "" for the system's temporary folder
	file  *os.File
	end   int64
	spare []extent
}

// write writes data to an extent of its own.
func (s *spillFile) write(data []float32) (extent, error) {
	at := s.space(4 * int64(len(data)))
	return at, s.writeAt(at, data)
}

// space returns a free extent.
func (s *spillFile) space(size int64) extent {
	if i := slices.IndexFunc(s.spare, func(e extent) bool { return e.size == size }); i >= 0 {
		e := s.spare[i]
		s.spare = slices.Delete(s.spare, i, i+1)
		return e
	}
	e := extent{s.end, size}
	s.end += size
	return e
}

// writeAt writes data to the beginning of an extent.
func (s *spillFile) writeAt(e extent, data []float32) error {
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "lathe-spill-*")
		if err != nil {
			return fmt.Errorf("decoder: spill: %w", err)
		}
		if err := os.Remove(f.Name()); err != nil {
			return errors.Join(fmt.Errorf("decoder: spill: %w", err), f.Close())
		}
		s.file = f
	}
	if _, err := s.file.WriteAt(dtypes.UnsafeByteSlice(data), e.offset); err != nil {
		return fmt.Errorf("decoder: spill: %w", err)
	}
	return nil
}

// read reads into to from the beginning of an extent.
func (s *spillFile) read(e extent, to []float32) error {
	if _, err := s.file.ReadAt(dtypes.UnsafeByteSlice(to), e.offset); err != nil {
		return fmt.Errorf("decoder: read spilled data: %w", err)
	}
	return nil
}

// giveBack makes an extent free.
func (s *spillFile) giveBack(e extent) {
	if e.size > 0 {
		s.spare = append(s.spare, e)
	}
}

func (s *spillFile) close() {
	if s.file != nil {
		_ = s.file.Close() // a removed file has nothing to lose
	}
	*s = spillFile{dir: s.dir}
}
