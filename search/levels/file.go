package levels

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// A ladder file is the magic, a CRC-32C of everything after it, the length of the
// header as uint32, the header as JSON, and the matrices one after another as
// little-endian float32.
const (
	fileMagic   = "lathelvl"
	fileVersion = 2
	fileStart   = len(fileMagic) + 8
	maxHeader   = 64 << 20
)

// fileHeader describes the levels of one module.
type fileHeader struct {
	Key    string
	Slot   int
	Levels []fileLevel
}

type fileLevel struct {
	Units  string  // text form of the set of KV groups of attention, or of the channels of an MLP
	Lost   float64 // share of the output's energy
	Floats int     // of the matrix, 0 for the original matrix or an empty level
}

// ladderFile is an open ladder.
type ladderFile struct {
	path   string
	data   content
	header fileHeader
	start  int64 // of the matrices
	ladder space.Ladder
}

func writeLadder(path, key string, slot int, weights [][]float32, sets []subnet.Set, lost []float64) error {
	header := fileHeader{Key: key, Slot: slot}
	for i := range weights {
		units, err := sets[i].MarshalText()
		if err != nil {
			return err
		}
		header.Levels = append(header.Levels, fileLevel{Units: string(units), Lost: lost[i], Floats: len(weights[i])})
	}
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	sum := crc32.New(castagnoli())
	if err := writeBody(sum, text, weights); err != nil {
		return err
	}
	return durable.Write(path, 0o600, func(w io.Writer) error {
		if _, err := w.Write(binary.LittleEndian.AppendUint32([]byte(fileMagic), sum.Sum32())); err != nil {
			return err
		}
		return writeBody(w, text, weights)
	})
}

// writeBody writes the part of a ladder file after the checksum.
func writeBody(to io.Writer, header []byte, weights [][]float32) error {
	w := bufio.NewWriterSize(to, 1<<20)
	buf := binary.LittleEndian.AppendUint32(nil, uint32(len(header)))
	buf = append(buf, header...)
	for _, matrix := range weights {
		for _, v := range matrix {
			if len(buf) > 1<<16 {
				if _, err := w.Write(buf); err != nil {
					return err
				}
				buf = buf[:0]
			}
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
		}
	}
	if _, err := w.Write(buf); err != nil {
		return err
	}
	return w.Flush()
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// openLadder opens and checks the file of a slot. Errors name the file and the field, and wrap [ErrDamaged] if there is a file.
func openLadder(path, key string, g *subnet.Geometry, slot int) (*ladderFile, error) {
	return openLadderAs(path, key, g, slot, mapFile)
}

// openLadderAs is openLadder with the function that maps the file.
func openLadderAs(path, key string, g *subnet.Geometry, slot int, mapped mapper) (*ladderFile, error) {
	data, err := openContent(path, mapped)
	if err != nil {
		return nil, err
	}
	f := &ladderFile{path: path, data: data}
	if err := f.check(key, g, slot); err != nil {
		_ = data.close()
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	return f, nil
}

func (f *ladderFile) check(key string, g *subnet.Geometry, slot int) error {
	text, err := f.data.header(fileMagic)
	if err != nil {
		return err
	}
	if n := units(g, slot); bytes.Count(text, []byte("{")) > n+2 { // one for each level, of which there are n+1 at most
		return fmt.Errorf("header.Levels: more than %d levels of %d units", n+1, n)
	}
	if err := json.Unmarshal(text, &f.header); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	f.start = int64(fileStart) + int64(len(text))
	switch {
	case f.header.Key != key:
		return fmt.Errorf("header.Key %.40q: it belongs to other levels, not to %q", f.header.Key, key)
	case f.header.Slot != slot:
		return fmt.Errorf("header.Slot %d: it belongs to another module, not to %d", f.header.Slot, slot)
	}
	return f.makeLadder(g, slot)
}

// makeLadder makes the ladder from the units in the header.
func (f *ladderFile) makeLadder(g *subnet.Geometry, slot int) error {
	n := units(g, slot)
	if count := len(f.header.Levels); count == 0 || count > n+1 { // every level keeps fewer units than the one before
		return fmt.Errorf("header.Levels: %d levels of %d units", count, n)
	}
	end := f.start
	for i, level := range f.header.Levels {
		var set subnet.Set
		if !strings.HasSuffix(level.Units, "/"+strconv.Itoa(n)) {
			return fmt.Errorf("header.Levels[%d].Units %.40q: %w: it has %d units", i, level.Units, errShape, n)
		}
		if err := set.UnmarshalText([]byte(level.Units)); err != nil {
			return fmt.Errorf("header.Levels[%d].Units: %w", i, err)
		}
		l, columns := levelOf(g, slot, set)
		if level.Floats != 0 && level.Floats != columns*g.Hidden || level.Floats == 0 && i > 0 && columns > 0 {
			return fmt.Errorf("header.Levels[%d].Floats %d: %w: it has %d columns of %d", i, level.Floats, errShape, columns, g.Hidden)
		}
		end += 4 * int64(level.Floats)
		l.Loss = level.Lost
		f.ladder = append(f.ladder, l)
	}
	if end != f.data.size {
		return fmt.Errorf("%w: it has %d bytes, its header describes %d", errShape, f.data.size, end)
	}
	return nil
}

// levelOf returns the level of a slot that keeps the given units, and the number of columns of its output matrix.
func levelOf(g *subnet.Geometry, slot int, kept subnet.Set) (space.Level, int) {
	layer, module := slot/subnet.Modules, subnet.Module(slot%subnet.Modules)
	lg := g.Layers[layer]
	l := subnet.DenseLayer(lg)
	if module == subnet.MLP {
		l.Channels = kept
		_, params := l.ModuleParams(g, layer)
		return space.Level{Mask: l, Params: params}, kept.Len()
	}
	per := lg.HeadsPerGroup()
	l.Heads = subnet.Empty(lg.Heads)
	for _, group := range kept.Indices() {
		l.Heads = l.Heads.Union(subnet.Range(lg.Heads, group*per, (group+1)*per))
	}
	params, _ := l.ModuleParams(g, layer)
	return space.Level{Mask: l, Params: params}, kept.Len() * per * g.HeadDim
}

// loss returns the share of output energy that a level loses.
func (f *ladderFile) loss(level int) float64 { return f.header.Levels[level].Lost }

// read returns the matrix of a level, nil for the original matrix or an empty level.
func (f *ladderFile) read(level int) ([]float32, error) {
	at := f.start
	for _, l := range f.header.Levels[:level] {
		at += 4 * int64(l.Floats)
	}
	n := f.header.Levels[level].Floats
	if n == 0 {
		return nil, nil
	}
	out := make([]float32, n)
	if err := f.data.floats(out, at); err != nil {
		return nil, fmt.Errorf("%s: level %d: %w", f.path, level, err)
	}
	return out, nil
}

func (f *ladderFile) close() error {
	if f == nil {
		return nil
	}
	return f.data.close()
}
