package levels

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// The re-fitted matrices of a subnet made by hand are kept beside the levels, in a file named by its content. It has the form of a
// ladder file with another magic and header.
const (
	baseMagic  = "lathebas"
	baseSuffix = ".base"
)

// baseHeader describes the matrices of a subnet made by hand: for each layer the lengths of WO, WD, BO, BD and WU, 0 for those
// that it does not have.
type baseHeader struct {
	Masks  []byte // as bits
	Floats [][5]int
}

// baseFile is an open file of matrices.
type baseFile struct {
	path   string
	data   content
	masks  subnet.Masks
	floats [][5]int
	start  [][5]int64 // of each matrix
}

// fields returns the matrices of a layer in the order of a file.
func fields(r *gguf.Refit) [5]*[]float32 { return [5]*[]float32{&r.WO, &r.WD, &r.BO, &r.BD, &r.WU} }

// moduleOf returns the module that each of fields belongs to.
func moduleOf(field int) subnet.Module {
	return [5]subnet.Module{subnet.Attention, subnet.MLP, subnet.Attention, subnet.MLP, subnet.MLP}[field]
}

// KeepBase stores the re-fitted matrices of a subnet made by hand and returns what [space.Base] identifies them by, "" if it has
// none.
func (s *Store) KeepBase(sub gguf.Subnet) (string, error) {
	header := baseHeader{Masks: sub.Masks.AppendBits(nil), Floats: make([][5]int, len(sub.Refit))}
	var matrices [][]float32
	found := false
	for i := range sub.Refit {
		for k, m := range fields(&sub.Refit[i]) {
			header.Floats[i][k] = len(*m)
			matrices = append(matrices, *m)
			found = found || len(*m) > 0
		}
	}
	if !found {
		return "", nil
	}
	text, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	hash, sum := sha256.New(), crc32.New(castagnoli())
	if err := writeBody(io.MultiWriter(hash, sum), text, matrices); err != nil {
		return "", err
	}
	key := hex.EncodeToString(hash.Sum(nil)[:keyBytes])
	err = durable.Write(s.basePath(key), 0o600, func(w io.Writer) error {
		if _, err := w.Write(binary.LittleEndian.AppendUint32([]byte(baseMagic), sum.Sum32())); err != nil {
			return err
		}
		return writeBody(w, text, matrices)
	})
	if err != nil {
		return "", fmt.Errorf("levels: %w", err)
	}
	return key, nil
}

func (s *Store) basePath(key string) string { return filepath.Join(s.dir, key+baseSuffix) }

// base returns the open file of a key.
func (s *Store) base(key string) (*baseFile, error) {
	s.mu.Lock()
	f := s.bases[key]
	s.mu.Unlock()
	if f != nil {
		return f, nil
	}
	if raw, err := hex.DecodeString(key); err != nil || len(raw) != keyBytes {
		return nil, fmt.Errorf("%w: the key %.40q of a subnet made by hand", ErrDamaged, key)
	}
	f, err := openBase(s.basePath(key), s.levels.Geometry, mapFile)
	if err != nil {
		return nil, fmt.Errorf("levels: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.bases[key]; other != nil {
		return other, f.data.close()
	}
	if s.bases == nil {
		s.bases = make(map[string]*baseFile)
	}
	s.bases[key] = f
	return f, nil
}

// refitExact sets the matrices of the module of a base in r.
func (s *Store) refitExact(r *gguf.Refit, slot int, base *space.Base) error {
	if base.Weights == "" {
		return nil
	}
	f, err := s.base(base.Weights)
	if err != nil {
		return err
	}
	layer, module := slot/subnet.Modules, subnet.Module(slot%subnet.Modules)
	for k, m := range fields(r) {
		if n := f.floats[layer][k]; n > 0 && moduleOf(k) == module {
			*m = make([]float32, n)
			if err := f.data.floats(*m, f.start[layer][k]); err != nil {
				return fmt.Errorf("levels: %s: %w", f.path, err)
			}
		}
	}
	return nil
}

// openBase opens and checks a file. Errors name it and the field, and wrap [ErrDamaged] if there is a file.
func openBase(path string, g *subnet.Geometry, mapped mapper) (*baseFile, error) {
	data, err := openContent(path, mapped)
	if err != nil {
		return nil, err
	}
	f := &baseFile{path: path, data: data}
	if err := f.check(g); err != nil {
		_ = data.close()
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	return f, nil
}

func (f *baseFile) check(g *subnet.Geometry) error {
	text, err := f.data.header(baseMagic)
	if err != nil {
		return err
	}
	if n := bytes.Count(text, []byte("[")); n > len(g.Layers)+1 { // one for each layer
		return fmt.Errorf("header.Floats: more than %d layers", len(g.Layers))
	}
	var header baseHeader
	if err := json.Unmarshal(text, &header); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if f.masks, err = subnet.FromBits(g, header.Masks); err != nil {
		return fmt.Errorf("header.Masks: %w", err)
	}
	if len(header.Floats) != len(g.Layers) {
		return fmt.Errorf("header.Floats: %d layers, the model has %d", len(header.Floats), len(g.Layers))
	}
	f.floats = header.Floats
	at := int64(fileStart) + int64(len(text))
	for i, floats := range f.floats {
		wo, wd := g.Hidden*len(f.masks.OColumns(i)), g.Hidden*f.masks.Layer(i).Channels.Len()
		var start [5]int64
		for k, want := range [5]int{wo, wd, g.Hidden, g.Hidden, wd} {
			if floats[k] != 0 && floats[k] != want {
				return fmt.Errorf("header.Floats[%d][%d]: %d, its masks have %d", i, k, floats[k], want)
			}
			start[k] = at
			at += 4 * int64(floats[k])
		}
		f.start = append(f.start, start)
	}
	if at != f.data.size {
		return fmt.Errorf("%w: it has %d bytes, its header describes %d", errShape, f.data.size, at)
	}
	return nil
}

// removeBases removes the matrices of the subnets made by hand of an earlier search.
func removeBases(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*"+baseSuffix))
	for _, path := range files {
		if gone := os.Remove(path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}
