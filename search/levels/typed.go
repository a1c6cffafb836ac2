package levels

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// Typed describes levels that differ in types of matrices too: each has the units and the re-fitted matrix of a prepared level.
type Typed struct {
	Base    string         `json:"base"`    // key of the prepared levels
	Modules [][]TypedLevel `json:"modules"` // by slot, the largest first
	Heads   []TypedLevel   `json:"heads"`   // sizes of the vocabulary
	// Source are the types of the source's matrices by the names of tensors, and Importance what their columns count when they are rounded.
	Source     map[string]string    `json:"source"`
	Importance map[string][]float32 `json:"importance,omitempty"`
}

// TypedLevel is a level of a [Typed], as [space.Level] has it.
type TypedLevel struct {
	Width int               `json:"width"`
	Types map[string]string `json:"types,omitempty"`
	Bytes int64             `json:"bytes"`
	Loss  float64           `json:"loss"`
	Vocab string            `json:"vocab,omitempty"` // text form of the entries that are kept, "" for all
}

// typedFile is the file, beside the ladders, that typed levels are kept in, and maxTyped bounds it in bytes.
const (
	typedFile = "typed.json"
	maxTyped  = 1 << 28
)

// key identifies typed levels by everything that they consist of.
func (t *Typed) key() string {
	h := sha256.New()
	_ = json.NewEncoder(h).Encode(t) // a hash never fails
	return t.Base + "+" + hex.EncodeToString(h.Sum(nil)[:keyBytes])
}

// BaseKey returns the key of the prepared levels that levels of a key have the units of.
func BaseKey(key string) string {
	if len(key) > 2*keyBytes {
		return key[:2*keyBytes]
	}
	return key
}

// WithTypes returns levels that differ in types too, from prepared ones.
func WithTypes(l *space.Levels, t *Typed) (*space.Levels, error) {
	if t.Base != l.Key || len(t.Modules) != subnet.Modules*len(l.Geometry.Layers) {
		return nil, fmt.Errorf("%w: %s: types for other levels", ErrDamaged, typedFile)
	}
	next := &space.Levels{Geometry: l.Geometry, Key: t.key()}
	for slot, typed := range t.Modules {
		var ladder space.Ladder
		own := l.Ladder(slot)
		for i, level := range typed {
			if level.Width < 0 || level.Width >= len(own) {
				return nil, fmt.Errorf("%w: %s: modules[%d][%d].width %d of %d", ErrDamaged, typedFile, slot, i, level.Width, len(own))
			}
			made := own[level.Width]
			if err := level.complete(&made); err != nil {
				return nil, fmt.Errorf("%w: %s: modules[%d][%d]: %w", ErrDamaged, typedFile, slot, i, err)
			}
			ladder = append(ladder, made)
		}
		if subnet.Module(slot%subnet.Modules) == subnet.Attention {
			next.Attention = append(next.Attention, ladder)
		} else {
			next.MLP = append(next.MLP, ladder)
		}
	}
	for i, level := range t.Heads {
		var made space.Level
		if err := level.complete(&made); err != nil {
			return nil, fmt.Errorf("%w: %s: heads[%d]: %w", ErrDamaged, typedFile, i, err)
		}
		next.Heads = append(next.Heads, made)
	}
	if next.Heads == nil {
		return nil, fmt.Errorf("%w: %s: no heads", ErrDamaged, typedFile)
	}
	if err := next.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, typedFile, err)
	}
	return next, nil
}

// SetTypes replaces the levels by typed ones. It must be called before they are searched.
func (s *Store) SetTypes(t *Typed) error {
	next, err := WithTypes(&s.levels, t)
	if err != nil {
		return err
	}
	source := make(map[string]subnet.Type, len(t.Source))
	for _, tensor := range slices.Sorted(maps.Keys(t.Source)) {
		typ, err := subnet.ParseType(t.Source[tensor])
		if err != nil {
			return fmt.Errorf("%w: %s: source of %.100q: %w", ErrDamaged, typedFile, tensor, err)
		}
		source[tensor] = typ
	}
	s.levels, s.source, s.importance = *next, source, t.Importance
	return nil
}

// complete sets what a level has besides units.
func (t TypedLevel) complete(l *space.Level) error {
	l.Width, l.Bytes, l.Loss = t.Width, t.Bytes, t.Loss
	for _, tensor := range slices.Sorted(maps.Keys(t.Types)) {
		typ, err := subnet.ParseType(t.Types[tensor])
		if err != nil {
			return fmt.Errorf("types: %.100q: %w", tensor, err)
		}
		l.Types = append(l.Types, space.TensorType{Tensor: tensor, Type: typ})
	}
	if t.Vocab != "" {
		if err := l.Vocab.UnmarshalText([]byte(t.Vocab)); err != nil {
			return fmt.Errorf("vocab: %w", err)
		}
	}
	return nil
}

// Types returns what typed levels round matrices by: the types of the source and the importance of columns, nil for levels without types.
func (s *Store) Types() (source map[string]subnet.Type, importance map[string][]float32) {
	return s.source, s.importance
}

// WriteTypes keeps typed levels beside the prepared ones.
func (s *Store) WriteTypes(t *Typed) error {
	return durable.Write(filepath.Join(s.dir, typedFile), 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(t) })
}

// ReadTypes reads the typed levels that are kept beside the prepared ones. The error wraps [fs.ErrNotExist] where there are none of these.
func (s *Store) ReadTypes() (*Typed, error) { return readTypes(s.dir, BaseKey(s.levels.Key)) }

func readTypes(dir, base string) (*Typed, error) {
	path := filepath.Join(dir, typedFile)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	var t Typed
	if err := json.NewDecoder(io.LimitReader(f, maxTyped)).Decode(&t); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	if t.Base != base {
		return nil, fmt.Errorf("%s: types for other levels: %w", path, fs.ErrNotExist)
	}
	return &t, nil
}

// openTypes replaces the levels by typed ones where there are such of them.
func (s *Store) openTypes() error {
	t, err := s.ReadTypes()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.SetTypes(t)
}

// width returns the prepared level that a level of a slot has the units of.
func (s *Store) width(slot, level int) int {
	if s.levels.Typed() {
		return s.levels.Ladder(slot)[level].Width
	}
	return level
}
