package levels

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// builder is the state of one Build.
type builder struct {
	ctx   context.Context // of Build; a builder does not outlive the call
	m     *decoder.Model
	dir   string
	o     Options
	key   string
	store *Store

	windows [][]int32
	st      *decoder.States
	sub     *decoder.Subnet // the middle levels so far, dense after
	text    time.Duration   // spent on text
	fixed   time.Duration   // spent on choosing and re-fitting
	made    int             // modules whose ladders are there
	away    *away           // ladders that are made elsewhere, nil where all are made here
}

func (b *builder) run(windows [][]int32) error {
	slots := b.store.levels.Slots()
	have := 0 // leading modules whose files are valid
	for have < slots && b.take(have) == nil {
		have++
	}
	b.made = have
	if have == slots {
		b.report(slots-1, true)
		return nil
	}
	err := b.handOut()
	if err != nil {
		return err
	}
	defer b.away.close()
	if b.st, err = b.m.NewStates(b.ctx, windows); err != nil {
		return err
	}
	defer b.st.Close()
	b.sub = b.m.Dense()
	defer func() { b.sub.Close() }()
	found := have > 0 // files of any module
	for slot := range slots {
		if b.o.Gate != nil {
			if err := b.o.Gate(b.ctx); err != nil {
				return err
			}
		}
		reused := slot < have || b.take(slot) == nil
		found = found || reused
		if err := b.module(slot, reused); err != nil {
			return fmt.Errorf("levels: layer %d: %v: %w", slot/subnet.Modules, subnet.Module(slot%subnet.Modules), err)
		}
		elsewhere := b.away.waits(slot) // collect counts it
		if err := b.away.collect(b); err != nil {
			return err
		}
		if elsewhere {
			continue
		}
		if slot >= have {
			b.made++
		}
		b.report(slot, reused)
	}
	if err := b.away.finish(b); err != nil {
		return err
	}
	if !found {
		b.store.pace = Pace{Window: b.text / time.Duration(len(windows)), Fixed: b.fixed}
	}
	return nil
}

func (b *builder) report(slot int, reused bool) {
	if b.o.Progress != nil {
		n := len(b.store.levels.Ladder(slot))
		b.o.Progress(Event{
			Layer: slot / subnet.Modules, Module: subnet.Module(slot % subnet.Modules),
			Done: b.made, Total: b.store.levels.Slots(), Reused: reused, Levels: n, Lost: b.store.Lost(slot, n/2),
		})
	}
}

func (b *builder) path(slot int) string {
	return filepath.Join(b.dir, fmt.Sprintf("%s-%03d-%v.levels", b.key[:8], slot/subnet.Modules, subnet.Module(slot%subnet.Modules)))
}

// prune removes the files of other levels, unless they are to be kept, and the remains of interrupted writes.
func (b *builder) prune() error {
	if !b.o.Keep {
		if err := errors.Join(removeBases(b.dir), remove(filepath.Join(b.dir, typedFile))); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(filepath.Join(b.dir, "*.levels*"))
	if err != nil {
		return err
	}
	for _, path := range files {
		name := filepath.Base(path)
		if strings.HasSuffix(name, ".levels") && (b.o.Keep || strings.HasPrefix(name, b.key[:8]+"-")) {
			continue
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// remove removes a file, if there is one.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// take opens the ladder of the next slot from its file.
func (b *builder) take(slot int) error {
	f, err := openLadder(b.path(slot), b.key, b.m.Geometry(), slot)
	if err != nil {
		return err
	}
	b.add(slot, f)
	return nil
}

// add sets the ladder of a slot.
func (b *builder) add(slot int, f *ladderFile) {
	l, layer := &b.store.levels, slot/subnet.Modules
	b.store.modules = extended(b.store.modules, slot)
	b.store.modules[slot] = f
	if subnet.Module(slot%subnet.Modules) == subnet.Attention {
		l.Attention = extended(l.Attention, layer)
		l.Attention[layer] = f.ladder
	} else {
		l.MLP = extended(l.MLP, layer)
		l.MLP[layer] = f.ladder
	}
}

// extended returns a list that has an element at an index.
func extended[T any](list []T, at int) []T {
	return append(list, make([]T, max(0, at+1-len(list)))...)
}

// module makes the ladder of a slot, unless it is reused, and advances the text past
// the module at its middle level.
func (b *builder) module(slot int, reused bool) error {
	layer, module := slot/subnet.Modules, subnet.Module(slot%subnet.Modules)
	if units(b.m.Geometry(), slot) == 0 {
		if !reused {
			return b.write(slot, solved{[][]float32{nil}, []subnet.Set{subnet.Empty(0)}, []float64{0}})
		}
		return nil
	}
	started, fixed := time.Now(), b.fixed
	defer func() { b.text += time.Since(started) - (b.fixed - fixed) }()
	in, err := b.m.OutputInputs(b.ctx, layer, module, b.sub, b.st)
	if err != nil {
		return err
	}
	defer in.Close()
	if !reused {
		if err := b.fit(slot, in); err != nil {
			return err
		}
	}
	if !b.away.waits(slot) { // else it is set already
		if err := b.middle(slot); err != nil {
			return err
		}
	}
	return b.m.AddOutput(b.ctx, layer, module, b.sub, in, b.st)
}

// fit orders the units of a module and re-fits its output matrix at every level, or has that done elsewhere.
func (b *builder) fit(slot int, in *decoder.Inputs) error {
	mo, err := moments(b.ctx, in)
	if err != nil {
		return err
	}
	started := time.Now()
	defer func() { b.fixed += time.Since(started) }()
	rank, err := rankUnits(b.m, slot, mo)
	if err != nil {
		return err
	}
	f := Fit{Slot: slot, Key: b.key, Lambda: b.o.Lambda, Counts: counts(b.m.Geometry(), slot, b.o), Tokens: mo.Tokens, Order: slices.Clone(rank.Order)}
	slices.Reverse(f.Order) // the best units first
	if b.away != nil {
		return b.away.send(b, f, mo)
	}
	return b.solve(f, mo)
}

// solve makes a ladder here.
func (b *builder) solve(f Fit, mo *decoder.Moments) error {
	l, err := f.solve(b.m, mo)
	if err != nil {
		return err
	}
	return b.write(f.Slot, l)
}

// moments weights every token by the size of its residual, like the re-fit of a whole subnet.
func moments(ctx context.Context, in *decoder.Inputs) (*decoder.Moments, error) {
	relative, err := in.Relative(ctx)
	if err != nil {
		return nil, err
	}
	defer relative.Close()
	return relative.Moments(ctx)
}

// sorted returns w [out, len(columns)] with its columns in ascending order.
func sorted(w []float32, out int, columns []int) []float32 {
	order := make([]int, len(columns))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return columns[a] - columns[b] })
	result := make([]float32, len(w))
	for row := range out {
		from, to := w[row*len(columns):][:len(columns)], result[row*len(columns):][:len(columns)]
		for i, at := range order {
			to[i] = from[at]
		}
	}
	return result
}

// write stores a ladder and opens it.
func (b *builder) write(slot int, l solved) error {
	err := b.persist(func() error { return writeLadder(b.path(slot), b.key, slot, l.weights, l.sets, l.lost) })
	if err != nil {
		return err
	}
	return b.take(slot)
}

// persist writes, on a full disk when it has room again.
func (b *builder) persist(write func() error) error {
	err := write()
	if err != nil && b.o.Persist != nil {
		err = b.o.Persist(b.ctx, write)
	}
	return err
}

// middle sets the middle level of a slot in the subnet that the text passes through.
func (b *builder) middle(slot int) error {
	if subnet.Module(slot%subnet.Modules) == subnet.Attention {
		return nil
	}
	ladder := b.store.levels.Ladder(slot)
	at := middleOf(ladder, b.o.Middle)
	if at == 0 {
		return nil
	}
	var refit gguf.Refit
	if err := b.store.RefitModule(&refit, slot, at); err != nil {
		return err
	}
	return b.passThrough(slot/subnet.Modules, ladder[at].Mask.Channels, refit)
}

// middleOf returns the level of a ladder that the text passes through.
func middleOf(ladder space.Ladder, middle float64) int {
	at := 0
	for at+1 < len(ladder) && float64(ladder[at+1].Params) >= middle*float64(ladder[0].Params) {
		at++
	}
	return at
}

// passThrough sets the MLP of a layer in the subnet that the text passes through.
func (b *builder) passThrough(layer int, channels subnet.Set, refit gguf.Refit) error {
	l := b.sub.Masks().Layer(layer)
	l.Channels = channels
	next, err := b.sub.WithLayer(b.ctx, layer, l, refit)
	if err != nil {
		return err
	}
	b.sub.Close()
	b.sub = next
	return nil
}

var errShape = errors.New("it does not fit the model")
