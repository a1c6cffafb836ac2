package levels

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"

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
	Units  subnet.Set // KV groups of attention, channels of an MLP
	Lost   float64    // share of the output's energy
	Floats int        // of the matrix, 0 for the original matrix or an empty level
}

// ladderFile is an open ladder.
type ladderFile struct {
	file   *os.File
	header fileHeader
	start  int64 // of the matrices
	ladder space.Ladder
}

func writeLadder(path, key string, slot int, weights [][]float32, sets []subnet.Set, lost []float64) error {
	header := fileHeader{Key: key, Slot: slot}
	for i := range weights {
		header.Levels = append(header.Levels, fileLevel{Units: sets[i], Lost: lost[i], Floats: len(weights[i])})
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

// openLadder opens and checks the file of a slot. Errors wrap [ErrDamaged] if there
// is a file.
func openLadder(path, key string, g *subnet.Geometry, slot int) (*ladderFile, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f := &ladderFile{file: file}
	if err := f.check(key, g, slot); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	return f, nil
}

func (f *ladderFile) check(key string, g *subnet.Geometry, slot int) error {
	head := make([]byte, fileStart)
	if _, err := io.ReadFull(f.file, head); err != nil {
		return err
	}
	if string(head[:len(fileMagic)]) != fileMagic {
		return errors.New("it does not begin with the magic")
	}
	sum := crc32.New(castagnoli())
	_, _ = sum.Write(head[fileStart-4:])
	if _, err := io.Copy(sum, bufio.NewReaderSize(f.file, 1<<20)); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(head[len(fileMagic):]) != sum.Sum32() {
		return errors.New("wrong checksum")
	}
	length := binary.LittleEndian.Uint32(head[fileStart-4:])
	if length > maxHeader {
		return fmt.Errorf("its header has %d bytes", length)
	}
	text := make([]byte, length)
	if _, err := f.file.ReadAt(text, int64(fileStart)); err != nil {
		return err
	}
	if err := json.Unmarshal(text, &f.header); err != nil {
		return err
	}
	f.start = int64(fileStart) + int64(length)
	if f.header.Key != key || f.header.Slot != slot {
		return errors.New("it belongs to other levels")
	}
	return f.makeLadder(g, slot)
}

// makeLadder makes the ladder from the units in the header.
func (f *ladderFile) makeLadder(g *subnet.Geometry, slot int) error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	end := f.start
	for i, level := range f.header.Levels {
		if level.Units.N() != units(g, slot) {
			return errShape
		}
		l, columns := levelOf(g, slot, level.Units)
		if level.Floats != 0 && level.Floats != columns*g.Hidden || level.Floats == 0 && i > 0 && columns > 0 {
			return errShape
		}
		end += 4 * int64(level.Floats)
		l.Loss = level.Lost
		f.ladder = append(f.ladder, l)
	}
	if end != info.Size() || len(f.ladder) == 0 {
		return errShape
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
	raw := make([]byte, 4*n)
	if _, err := f.file.ReadAt(raw, at); err != nil {
		return nil, err
	}
	out := make([]float32, n)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return out, nil
}

func (f *ladderFile) close() error {
	if f == nil {
		return nil
	}
	return f.file.Close()
}
