package levels

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/reform/algebra"
	"github.com/lathe-llm/lathe/search/importance"
)

// A Fit is what the ladder of a module is made from, besides the moments of the inputs of its output matrix.
type Fit struct {
	Slot   int
	Key    string  // of the levels
	Lambda float64 // ridge, as in [Options]
	Order  []int   // units, the best first
	Counts []int   // units that each level keeps, all of them first
	Tokens int
}

// check returns why a fit cannot be one of a model.
func (f Fit) check(g *subnet.Geometry) error {
	if f.Slot < 0 || f.Slot >= subnet.Modules*len(g.Layers) {
		return fmt.Errorf("levels: Slot %d of %d", f.Slot, subnet.Modules*len(g.Layers))
	}
	n := units(g, f.Slot)
	raw, err := hex.DecodeString(f.Key)
	switch {
	case err != nil || len(raw) != keyBytes:
		return fmt.Errorf("levels: Key %.40q", f.Key)
	case !(f.Lambda > 0 && f.Lambda <= 1e6):
		return fmt.Errorf("levels: Lambda %v", f.Lambda)
	case f.Tokens < 1:
		return fmt.Errorf("levels: Tokens %d", f.Tokens)
	case n == 0 || len(f.Order) != n:
		return fmt.Errorf("levels: Order has %d of %d units", len(f.Order), n)
	case len(f.Counts) == 0 || len(f.Counts) > n+1 || f.Counts[0] != n:
		return fmt.Errorf("levels: Counts has %d levels of %d units", len(f.Counts), n)
	}
	for i, unit := range slices.Sorted(slices.Values(f.Order)) {
		if i != unit {
			return fmt.Errorf("levels: Order has unit %d twice or does not have it", i)
		}
	}
	for i, count := range f.Counts {
		if count < 0 || i > 0 && count >= f.Counts[i-1] {
			return fmt.Errorf("levels: Counts[%d] is %d", i, count)
		}
	}
	return nil
}

// bytes is the most that the file of the ladder has.
func (f Fit) bytes(g *subnet.Geometry) int64 {
	const header, perUnit = 1 << 20, 16
	size := int64(header)
	for i, count := range f.Counts {
		_, columns := levelOf(g, f.Slot, subnet.Range(len(f.Order), 0, count))
		if i > 0 {
			size += 4 * int64(columns) * int64(g.Hidden)
		}
		size += perUnit * int64(len(f.Order))
	}
	return size
}

// keep returns the units of a level.
func (f Fit) keep(level int) subnet.Set { return subnet.Of(len(f.Order), f.Order[:f.Counts[level]]...) }

// solved is a ladder before it is written.
type solved struct {
	weights [][]float32
	sets    []subnet.Set
	lost    []float64
}

// blockOf returns the module of a slot with the moments of the inputs of its output matrix.
func blockOf(m *decoder.Model, slot int, mo *decoder.Moments) (*importance.Block, importance.Unit, error) {
	layer, module := slot/subnet.Modules, subnet.Module(slot%subnet.Modules)
	unit := importance.Channels
	if module == subnet.Attention {
		unit = importance.Groups
	}
	w, dims, err := m.Weights(layer, m.OutputMatrix(module))
	if err != nil {
		return nil, unit, err
	}
	return &importance.Block{
		Module: module, HeadDim: m.Geometry().HeadDim, Layer: m.Geometry().Layers[layer],
		Output: importance.Matrix{Out: dims[0], In: dims[1], Data: w},
		Mid:    importance.Inputs{N: mo.N, Gram: mo.H, Mean: mo.Mean, Var: mo.Var}, Algebra: algebra.Of(m.Device()),
	}, unit, nil
}

// rankUnits orders the units of a module.
func rankUnits(m *decoder.Model, slot int, mo *decoder.Moments) (importance.Ranking, error) {
	block, unit, err := blockOf(m, slot, mo)
	if err != nil {
		return importance.Ranking{}, err
	}
	return importance.Rank(importance.OBS, block, unit, importance.Options{})
}

// solve re-fits the output matrix of a module at the given levels, all if none are given.
func (f Fit) solve(m *decoder.Model, mo *decoder.Moments, only ...int) (solved, error) {
	block, unit, err := blockOf(m, f.Slot, mo)
	if err != nil {
		return solved{}, err
	}
	columns := block.Columns(unit, f.Order)
	if len(only) == 0 {
		for i := range f.Counts {
			only = append(only, i)
		}
	}
	keep := make([]int, len(only))
	for i, level := range only {
		keep[i] = f.Counts[level] * len(columns) / len(f.Order)
	}
	out := block.Output.Out
	problem := reform.Problem{W: block.Output.Data, Out: out, In: block.Output.In, Fit: reform.Moments{Gram: mo.H, Mean: mo.Mean, Tokens: mo.Tokens}, Algebra: block.Algebra}
	fitted, losses, err := reform.SolveNested(problem, columns, keep, f.Lambda, true)
	if err != nil {
		return solved{}, err
	}
	l := solved{make([][]float32, len(only)), make([]subnet.Set, len(only)), make([]float64, len(only))}
	for i, level := range only {
		l.sets[i] = f.keep(level)
		switch {
		case level == 0: // the original
		case f.Counts[level] == 0:
			l.lost[i] = 1
		default:
			l.weights[i], l.lost[i] = sorted(fitted[i], out, columns[:keep[i]]), losses[i]
		}
	}
	return l, nil
}

// Make makes the ladder of a module from a file of moments, in a process other than that of [Build], and writes it to a file.
func Make(ctx context.Context, m *decoder.Model, f Fit, moments, path string) error {
	if err := f.check(m.Geometry()); err != nil {
		return err
	}
	mo, err := readMoments(moments, m.Geometry().OutputColumns(f.Slot/subnet.Modules, subnet.Module(f.Slot%subnet.Modules)))
	if err != nil {
		return err
	}
	if mo.Tokens != f.Tokens {
		return fmt.Errorf("levels: moments of %d tokens, not %d", mo.Tokens, f.Tokens)
	}
	l, err := f.solve(m, mo)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	return writeLadder(path, f.Key, f.Slot, l.weights, l.sets, l.lost)
}

// A file of moments is the magic, the number of inputs and of tokens as uint64, and the mean products and the means as float64, all
// little-endian. Variances are not in it.
const (
	momentsMagic = "lathemom"
	momentsStart = len(momentsMagic) + 16
)

func writeMoments(path string, mo *decoder.Moments) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	head := binary.LittleEndian.AppendUint64([]byte(momentsMagic), uint64(mo.N))
	if _, err := w.Write(binary.LittleEndian.AppendUint64(head, uint64(mo.Tokens))); err != nil {
		return errors.Join(err, f.Close())
	}
	var b [8]byte
	for _, list := range [][]float64{mo.H, mo.Mean} {
		for _, v := range list {
			binary.LittleEndian.PutUint64(b[:], math.Float64bits(v))
			if _, err := w.Write(b[:]); err != nil {
				return errors.Join(err, f.Close())
			}
		}
	}
	return errors.Join(w.Flush(), f.Close())
}

// readMoments reads a file of the moments of so many inputs.
func readMoments(path string, n int) (*decoder.Moments, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	head := make([]byte, momentsStart)
	if _, err := io.ReadFull(f, head); err != nil || string(head[:len(momentsMagic)]) != momentsMagic {
		return nil, fmt.Errorf("%w: %s: it does not begin with %q", ErrDamaged, path, momentsMagic)
	}
	has, tokens := binary.LittleEndian.Uint64(head[len(momentsMagic):]), binary.LittleEndian.Uint64(head[len(momentsMagic)+8:])
	if want := int64(momentsStart) + 8*int64(n)*int64(n+1); has != uint64(n) || info.Size() != want || tokens < 1 || tokens > math.MaxInt32 {
		return nil, fmt.Errorf("%w: %s: moments of %d inputs and %d tokens in %d bytes, the module has %d inputs", ErrDamaged, path, has, tokens, info.Size(), n)
	}
	mo := &decoder.Moments{N: n, Tokens: int(tokens), H: make([]float64, n*n), Mean: make([]float64, n)}
	r := bufio.NewReaderSize(f, 1<<20)
	var b [8]byte
	for _, list := range [][]float64{mo.H, mo.Mean} {
		for i := range list {
			if _, err := io.ReadFull(r, b[:]); err != nil {
				return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
			}
			list[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[:]))
		}
	}
	return mo, nil
}
