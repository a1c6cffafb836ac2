package levels

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// Open opens the levels in the folder dir: those that were made last, if there are several. Their losses are not set. The error
// wraps [fs.ErrNotExist] if there are none.
func Open(dir string, g *subnet.Geometry) (*Store, error) {
	key, err := newestKey(dir)
	if err != nil {
		return nil, fmt.Errorf("levels: %w", err)
	}
	b := builder{dir: dir, key: key, store: &Store{levels: space.Levels{Geometry: g, Key: key}, dir: dir}}
	b.o = Options{}.withDefaults()
	for slot := range 2 * len(g.Layers) {
		f, err := openLadder(b.path(slot), key, g, slot)
		if err != nil {
			_ = b.store.Close() // the first error is the cause
			return nil, fmt.Errorf("levels: %w", err)
		}
		b.add(slot, f)
	}
	if err := b.store.levels.Validate(); err != nil {
		_ = b.store.Close()
		return nil, err
	}
	if err := b.store.openTypes(); err != nil {
		_ = b.store.Close()
		return nil, fmt.Errorf("levels: %w", err)
	}
	return b.store, nil
}

// newestKey returns the key of the levels in a folder whose first file is the newest.
func newestKey(dir string) (string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf("*-%03d-%v.levels", 0, subnet.Attention)))
	if err != nil {
		return "", err
	}
	newest := ""
	var at fs.FileInfo
	for _, path := range paths {
		info, err := os.Stat(path)
		if err == nil && (at == nil || info.ModTime().After(at.ModTime())) {
			newest, at = path, info
		}
	}
	if newest == "" {
		return "", fmt.Errorf("%s: %w", dir, fs.ErrNotExist)
	}
	return readKey(newest)
}

// readKey reads the key in the header of a ladder file.
func readKey(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // only read from
	head := make([]byte, fileStart)
	if _, err := io.ReadFull(file, head); err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	text := make([]byte, min(binary.LittleEndian.Uint32(head[fileStart-4:]), maxHeader))
	if _, err := io.ReadFull(file, text); err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	var header fileHeader
	if err := json.Unmarshal(text, &header); err != nil {
		return "", fmt.Errorf("%w: %s: header: %w", ErrDamaged, path, err)
	}
	if raw, err := hex.DecodeString(header.Key); err != nil || len(raw) != keyBytes {
		return "", fmt.Errorf("%w: %s: header.Key %.40q is not %d hexadecimal digits", ErrDamaged, path, header.Key, 2*keyBytes)
	}
	return header.Key, nil
}
