package workspace

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/explorer/internal/fault"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Weights is a folder that holds the re-fitted weights of subnets, one file each, named by their content. A file begins with a line
// of JSON, the weightHeader, after which the matrices follow as little-endian float32 in the order the header lists them.
// Subnets that share weights, a duplicate or an edited copy, share the file.
type Weights struct {
	Path string
	Disk durable.Disk
}

// weightHeader is the first line of a weight file.
type weightHeader struct {
	Format string          `json:"format"` // weightFormat
	Masks  string          `json:"masks"`  // text form of the masks the weights were fitted for
	Layers []weightsStored `json:"layers"` // one per layer of the model
	// Types are the types of matrices by the names of tensors, and Importance the tensors whose importance of columns follows the matrices.
	Types      map[string]string  `json:"types,omitempty"`
	Importance []importanceStored `json:"importance,omitempty"`
}

// importanceStored is the importance of the columns of one tensor, which has so many.
type importanceStored struct {
	Tensor  string `json:"tensor"`
	Columns int    `json:"columns"`
}

// weightsStored reports which matrices of a layer a file contains.
type weightsStored struct {
	WO bool `json:"wo,omitempty"`
	WD bool `json:"wd,omitempty"`
	BO bool `json:"bo,omitempty"`
	BD bool `json:"bd,omitempty"`
	WU bool `json:"wu,omitempty"`
	GA bool `json:"ga,omitempty"`
	GM bool `json:"gm,omitempty"`
	WG bool `json:"wg,omitempty"`
	WQ bool `json:"wq,omitempty"`
	WK bool `json:"wk,omitempty"`
	WV bool `json:"wv,omitempty"`
}

const (
	weightFormat    = "lathe-weights 1"
	weightSuffix    = ".weights"
	maxColumns      = 1 << 24 // of a matrix
	maxWeightHeader = subnet.MaxText + 1<<20
)

// Save writes the re-fitted weights of a subnet and returns the file's name and size in bytes. When it returns the file is on the
// disk, so a record may name it.
func (w Weights) Save(s gguf.Subnet) (name string, size int64, err error) {
	text, err := s.Masks.MarshalText()
	if err != nil {
		return "", 0, err
	}
	if s.Refit == nil { // types alone
		s.Refit = make([]gguf.Refit, s.Masks.Layers())
	}
	header := weightHeader{Format: weightFormat, Masks: string(text), Layers: make([]weightsStored, len(s.Refit))}
	for i, r := range s.Refit {
		header.Layers[i] = weightsStored{
			WO: r.WO != nil, WD: r.WD != nil, BO: r.BO != nil, BD: r.BD != nil, WU: r.WU != nil, GA: r.GA != nil, GM: r.GM != nil,
			WG: r.WG != nil, WQ: r.WQ != nil, WK: r.WK != nil, WV: r.WV != nil,
		}
	}
	var vectors [][]float32
	header.Types = typeNames(s.Types)
	for _, tensor := range slices.Sorted(maps.Keys(s.Importance)) {
		header.Importance = append(header.Importance, importanceStored{tensor, len(s.Importance[tensor])})
		vectors = append(vectors, s.Importance[tensor])
	}
	line, err := json.Marshal(header)
	if err != nil {
		return "", 0, err
	}
	sum := sha256.New()
	if err := writeWeights(sum, line, s.Refit, vectors); err != nil {
		return "", 0, err
	}
	name = hex.EncodeToString(sum.Sum(nil)) + weightSuffix
	if err := w.Disk.MkdirAll(w.Path, 0o755); err != nil {
		return "", 0, err
	}
	err = w.Disk.Write(filepath.Join(w.Path, name), 0o600, func(f io.Writer) error { return writeWeights(f, line, s.Refit, vectors) })
	if err != nil {
		return "", 0, err
	}
	size = int64(len(line)) + 1
	for _, r := range s.Refit {
		for _, m := range stored(r) {
			size += 4 * int64(len(m))
		}
	}
	for _, v := range vectors {
		size += 4 * int64(len(v))
	}
	return name, size, nil
}

// stored lists what a file contains of a layer, in its order.
func stored(r gguf.Refit) [][]float32 {
	return [][]float32{r.WO, r.WD, r.BO, r.BD, r.WU, r.GA, r.GM, r.WG, r.WQ, r.WK, r.WV}
}

// writeWeights writes the content of a weight file.
func writeWeights(to io.Writer, header []byte, refits []gguf.Refit, vectors [][]float32) error {
	w := bufio.NewWriterSize(to, 1<<20)
	if _, err := w.Write(append(header, '\n')); err != nil {
		return err
	}
	for _, r := range refits {
		for _, m := range stored(r) {
			if err := writeFloats(w, m); err != nil {
				return err
			}
		}
	}
	for _, v := range vectors {
		if err := writeFloats(w, v); err != nil {
			return err
		}
	}
	return w.Flush()
}

// Load reads a weight file, checked against its name, for a model.
func (w Weights) Load(ctx context.Context, name string, g *subnet.Geometry) (gguf.Subnet, error) {
	path := filepath.Join(w.Path, filepath.Base(name))
	fail := func(err error) (gguf.Subnet, error) {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: it ends too early", fault.ErrDamaged)
		}
		return gguf.Subnet{}, fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return gguf.Subnet{}, err
	}
	defer func() { _ = f.Close() }() // only read from
	sum := sha256.New()
	in := bufio.NewReaderSize(io.TeeReader(f, sum), 1<<20)
	line, err := readLine(in, maxWeightHeader)
	if err != nil {
		return fail(err)
	}
	var header weightHeader
	if err := json.Unmarshal(line, &header); err != nil || header.Format != weightFormat {
		return fail(fmt.Errorf("%w: not a %s file", fault.ErrDamaged, weightFormat))
	}
	masks, err := subnet.ParseMasks(g, []byte(header.Masks))
	if err != nil {
		return fail(err)
	}
	if len(header.Layers) != masks.Layers() {
		return fail(fmt.Errorf("%w: weights of %d layers, the model has %d", fault.ErrDamaged, len(header.Layers), masks.Layers()))
	}
	s := gguf.Subnet{Masks: masks, Refit: make([]gguf.Refit, masks.Layers())}
	for i, has := range header.Layers {
		if err := ctx.Err(); err != nil {
			return gguf.Subnet{}, err
		}
		r := &s.Refit[i]
		for _, m := range []struct {
			has bool
			to  *[]float32
			n   int
		}{
			{has.WO, &r.WO, g.Hidden * len(masks.OColumns(i))}, {has.WD, &r.WD, g.Hidden * masks.Layer(i).Channels.Len()},
			{has.BO, &r.BO, g.Hidden}, {has.BD, &r.BD, g.Hidden}, {has.WU, &r.WU, g.Hidden * masks.Layer(i).Channels.Len()},
			{has.GA, &r.GA, g.Hidden}, {has.GM, &r.GM, g.Hidden},
			{has.WG, &r.WG, g.Hidden * masks.Layer(i).Channels.Len()}, {has.WQ, &r.WQ, g.Hidden * len(masks.QRows(i))},
			{has.WK, &r.WK, g.Hidden * len(masks.KVRows(i))}, {has.WV, &r.WV, g.Hidden * len(masks.KVRows(i))},
		} {
			if !m.has {
				continue
			}
			if *m.to, err = readFloats(in, m.n); err != nil {
				return fail(err)
			}
		}
	}
	if err := readTypes(in, header, &s); err != nil {
		return fail(err)
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		return fail(fmt.Errorf("%w: it is longer than its header states", fault.ErrDamaged))
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != strings.TrimSuffix(filepath.Base(name), weightSuffix) {
		return fail(fmt.Errorf("%w: its content does not match its name", fault.ErrDamaged))
	}
	return s, nil
}

// typeNames returns types by their names.
func typeNames(types map[string]subnet.Type) map[string]string {
	if types == nil {
		return nil
	}
	out := make(map[string]string, len(types))
	for tensor, t := range types {
		out[tensor] = t.String()
	}
	return out
}

// readTypes reads the types of a subnet and the importance of their columns, which follows the matrices of a file. The writer of model files
// compares both with the model.
func readTypes(in io.Reader, header weightHeader, s *gguf.Subnet) error {
	if header.Types == nil {
		return nil
	}
	s.Types, s.Importance = make(map[string]subnet.Type, len(header.Types)), make(map[string][]float32, len(header.Importance))
	for tensor, name := range header.Types {
		t, err := subnet.ParseType(name)
		if err != nil {
			return fmt.Errorf("%w: type of %.100q: %w", fault.ErrDamaged, tensor, err)
		}
		s.Types[tensor] = t
	}
	for _, v := range header.Importance {
		if v.Columns < 0 || v.Columns > maxColumns {
			return fmt.Errorf("%w: importance of %d columns of %.100q", fault.ErrDamaged, v.Columns, v.Tensor)
		}
		values, err := readFloats(in, v.Columns)
		if err != nil {
			return err
		}
		s.Importance[v.Tensor] = values
	}
	return nil
}

// Sweep removes the files that are not used and those that interrupted writes left.
func (w Weights) Sweep(used map[string]bool) error {
	entries, err := os.ReadDir(w.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if name := entry.Name(); !used[name] && (strings.HasSuffix(name, weightSuffix) || strings.HasPrefix(name, ".")) {
			err = errors.Join(err, os.Remove(filepath.Join(w.Path, name)))
		}
	}
	return err
}

func writeFloats(w io.Writer, values []float32) error {
	var chunk [4096]byte
	for len(values) > 0 {
		n := min(len(values), len(chunk)/4)
		for i, v := range values[:n] {
			binary.LittleEndian.PutUint32(chunk[4*i:], math.Float32bits(v))
		}
		if _, err := w.Write(chunk[:4*n]); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

// readFloats reads n values. What it allocates grows with what is there, not with what n claims.
func readFloats(r io.Reader, n int) ([]float32, error) {
	var chunk [1 << 16]byte
	values := make([]float32, 0, min(n, 1<<20))
	for len(values) < n {
		part := chunk[:4*min(n-len(values), len(chunk)/4)]
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, err
		}
		for i := 0; i < len(part); i += 4 {
			values = append(values, math.Float32frombits(binary.LittleEndian.Uint32(part[i:])))
		}
	}
	return values, nil
}

// readLine reads a line of up to limit bytes, without its end.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return nil, fmt.Errorf("%w: a line of more than %d bytes", fault.ErrDamaged, limit)
		}
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return line, err
		}
		return bytes.TrimSuffix(line, []byte("\n")), nil
	}
}
