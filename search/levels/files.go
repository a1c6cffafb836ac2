package levels

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// Files returns the files of the levels by slot.
func (s *Store) Files() []string {
	out := make([]string, len(s.modules))
	for slot, m := range s.modules {
		out[slot] = m.path
	}
	return out
}

// BaseFile returns the file with the matrices of a subnet made by hand, see [Store.KeepBase].
func (s *Store) BaseFile(key string) (string, error) {
	if raw, err := hex.DecodeString(key); err != nil || len(raw) != keyBytes {
		return "", fmt.Errorf("%w: the key %.40q of a subnet made by hand", ErrDamaged, key)
	}
	path := s.basePath(key)
	_, err := os.Stat(path)
	return path, err
}

// Link opens levels whose files are anywhere, given by slot. It makes links to them in the folder dir, which holds no others.
func Link(dir string, files []string, g *subnet.Geometry) (*Store, error) {
	if len(files) != subnet.Modules*len(g.Layers) {
		return nil, fmt.Errorf("%w: levels of %d modules, the model has %d", ErrDamaged, len(files), subnet.Modules*len(g.Layers))
	}
	key, err := readKey(files[0])
	if err != nil {
		return nil, fmt.Errorf("levels: %w", err)
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("levels: %w", err)
	}
	b := builder{dir: dir, key: key, store: &Store{levels: space.Levels{Geometry: g, Key: key}, dir: dir}}
	for slot, path := range files {
		if err := link(path, b.path(slot)); err != nil {
			return nil, fmt.Errorf("levels: %w", err)
		}
	}
	return Open(dir, g)
}

// LinkBase makes the file of a subnet made by hand available under its key.
func (s *Store) LinkBase(key, path string) error {
	if raw, err := hex.DecodeString(key); err != nil || len(raw) != keyBytes {
		return fmt.Errorf("%w: the key %.40q of a subnet made by hand", ErrDamaged, key)
	}
	if err := link(path, s.basePath(key)); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("levels: %w", err)
	}
	return nil
}

// link links a file: by a symbolic link, else by a hard one.
func link(from, to string) error {
	full, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	if err := os.Symlink(full, to); err != nil {
		if errors.Is(err, os.ErrExist) {
			return err
		}
		return os.Link(full, to)
	}
	return nil
}
