package levels

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// A Fitter has ladders made by other processes, see [Make]. Its methods may be called from any goroutine.
type Fitter interface {
	// Ahead is how many ladders may be under way at once. What is beyond them is made here.
	Ahead() int
	// Fit has a ladder made from a file of moments. It has so many bytes at most.
	Fit(f Fit, moments string, limit int64) error
	// Withdraw takes a ladder back that is not needed any more.
	Withdraw(slot int)
	// Close ends the work and returns its error.
	Close() error
}

// Deliveries are what a [Fitter] calls when a ladder was made, or could not be.
type Deliveries struct{ a *away }

// textTokens is how much text [Deliveries.Text] returns.
const textTokens = 512

// Text is the beginning of the text that the levels are made from, as one window.
func (d Deliveries) Text() [][]int32 {
	w := d.a.b.windows[0]
	return [][]int32{w[:min(len(w), textTokens)]}
}

// away are the ladders that are made elsewhere. A nil away has none.
type away struct {
	b      *builder
	fitter Fitter
	folder *scratch.Folder // of moments, and of ladders that have arrived

	mu      sync.Mutex
	pending map[int]*lent // by slot
	arrived []int         // slots whose files are in the folder
	fixed   time.Duration // that others took
	broken  error
	news    chan struct{} // has an element when something of these has changed
}

// lent is a ladder that is made elsewhere.
type lent struct {
	Fit
	moments string    // file
	at      int       // level that is computed here too, 0 for none
	matrix  []float32 // its matrix
	taken   bool      // it is made here, or has arrived and is moved; guarded by away.mu
}

// handOut begins to have ladders made elsewhere, where that is wanted.
func (b *builder) handOut() error {
	if b.o.HandOut == nil {
		return nil
	}
	a := &away{b: b, pending: map[int]*lent{}, news: make(chan struct{}, 1)}
	var err error
	if a.folder, err = scratch.New(b.o.Scratch, "moments"); err != nil {
		return err
	}
	if a.fitter, err = b.o.HandOut(b.ctx, Deliveries{a}); err != nil {
		return errors.Join(err, a.folder.Remove())
	}
	b.away = a
	return nil
}

// close ends the work of others.
func (a *away) close() {
	if a == nil {
		return
	}
	_ = a.fitter.Close() // its error is that of broken
	for _, slot := range a.arrived {
		_ = durable.Copy(a.ladder(slot), a.b.path(slot), 0o600) // else it is made again
	}
	_ = a.folder.Remove()
}

// ladder is the file of a ladder that has arrived.
func (a *away) ladder(slot int) string { return a.folder.Join(fmt.Sprintf("%d.ladder", slot)) }

// waits reports whether a ladder is made elsewhere.
func (a *away) waits(slot int) bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pending[slot] != nil || slices.Contains(a.arrived, slot)
}

// send has a ladder made elsewhere, unless others have enough to do. The text goes on through its middle level, which is computed here.
func (a *away) send(b *builder, f Fit, mo *decoder.Moments) error {
	a.mu.Lock()
	under := len(a.pending)
	a.mu.Unlock()
	if under >= a.fitter.Ahead() {
		return b.solve(f, mo)
	}
	l := &lent{Fit: f, moments: a.folder.Join(fmt.Sprintf("%d.moments", f.Slot))}
	if err := b.persist(func() error { return writeMoments(l.moments, mo) }); err != nil {
		return err
	}
	mlp, through := subnet.Module(f.Slot%subnet.Modules) == subnet.MLP, middleOf(b.bare(f), b.o.Middle)
	if l.at = through; !mlp || through == 0 {
		l.at = len(f.Counts) / 2
	}
	if l.at > 0 { // what others compute is compared with it
		s, err := f.solve(b.m, mo, l.at)
		if err != nil {
			return err
		}
		l.matrix = s.weights[0]
		if mlp && through > 0 {
			if err := b.passThrough(f.Slot/subnet.Modules, s.sets[0], gguf.Refit{WD: l.matrix}); err != nil {
				return err
			}
		}
	}
	a.mu.Lock()
	a.pending[f.Slot] = l
	a.mu.Unlock()
	return a.fitter.Fit(f, l.moments, f.bytes(b.m.Geometry()))
}

// collect stores and reports the ladders that have arrived.
func (a *away) collect(b *builder) error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	fixed, broken := a.fixed, a.broken
	a.fixed = 0
	a.mu.Unlock()
	b.fixed += fixed
	for slot, ok := a.next(); ok; slot, ok = a.next() {
		if err := a.store(b, slot); err != nil {
			return fmt.Errorf("levels: %w", err)
		}
		b.made++
		b.report(slot, false)
	}
	if broken != nil && b.ctx.Err() == nil {
		return broken
	}
	return b.ctx.Err()
}

// next returns a slot whose ladder has arrived.
func (a *away) next() (slot int, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.arrived) == 0 {
		return 0, false
	}
	return a.arrived[0], true
}

// store stores a ladder that has arrived.
func (a *away) store(b *builder, slot int) error {
	if err := b.persist(func() error { return durable.Copy(a.ladder(slot), b.path(slot), 0o600) }); err != nil {
		return err
	}
	a.mu.Lock()
	a.arrived = slices.DeleteFunc(a.arrived, func(other int) bool { return other == slot })
	a.mu.Unlock()
	if err := os.Remove(a.ladder(slot)); err != nil {
		return err
	}
	return b.take(slot)
}

// finish makes the ladders that are left, the last one first, while others make the first ones.
func (a *away) finish(b *builder) error {
	if a == nil {
		return nil
	}
	for {
		if b.o.Gate != nil {
			if err := b.o.Gate(b.ctx); err != nil {
				return err
			}
		}
		if err := a.collect(b); err != nil {
			return err
		}
		l, under := a.last()
		switch {
		case l != nil:
			if err := a.solve(b, l); err != nil {
				return err
			}
		case under == 0:
			return a.collect(b)
		default: // they are being copied
			select {
			case <-a.news:
			case <-b.ctx.Done():
			}
		}
	}
}

// last takes the last ladder that others have not made, nil for none, and returns how many are under way.
func (a *away) last() (last *lent, under int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for slot, l := range a.pending {
		if !l.taken && (last == nil || slot > last.Slot) {
			last = l
		}
	}
	if last != nil {
		last.taken = true
	}
	return last, len(a.pending)
}

// solve makes a ladder here.
func (a *away) solve(b *builder, l *lent) error {
	mo, err := readMoments(l.moments, b.m.Geometry().OutputColumns(l.Slot/subnet.Modules, subnet.Module(l.Slot%subnet.Modules)))
	if err != nil {
		return err
	}
	started := time.Now()
	s, err := l.solve(b.m, mo)
	b.fixed += time.Since(started)
	if err != nil {
		return err
	}
	a.fitter.Withdraw(l.Slot)
	if err := b.write(l.Slot, s); err != nil {
		return err
	}
	a.mu.Lock()
	delete(a.pending, l.Slot)
	a.mu.Unlock()
	b.made++
	b.report(l.Slot, false)
	return os.Remove(l.moments)
}

// Made takes over the file of a ladder that another process has made in so many seconds. Its error wraps [ErrDamaged] if the file cannot
// be the ladder.
func (d Deliveries) Made(slot int, path string, seconds float64) error {
	a := d.a
	a.mu.Lock()
	l := a.pending[slot]
	a.mu.Unlock()
	if l == nil {
		return nil
	}
	if err := l.accept(a.b, path); err != nil {
		return err
	}
	a.mu.Lock()
	here := l.taken
	l.taken = true
	a.mu.Unlock()
	if here {
		return nil
	}
	failed := os.Rename(path, a.ladder(slot))
	if failed != nil { // it is on another disk
		failed = durable.Copy(path, a.ladder(slot), 0o600)
	}
	a.mu.Lock()
	if failed != nil { // on a full disk it is made here in the end, which waits for room
		l.taken = false
	} else {
		delete(a.pending, slot)
		a.arrived = append(a.arrived, slot)
	}
	if failed == nil && seconds > 0 && seconds < 1e6 {
		a.fixed += time.Duration(seconds * float64(time.Second))
	}
	a.mu.Unlock()
	a.signal()
	if failed != nil {
		return nil
	}
	return os.Remove(l.moments)
}

func (a *away) signal() {
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// Failed reports that no ladders are made elsewhere any more.
func (d Deliveries) Failed(err error) {
	d.a.mu.Lock()
	d.a.broken = err
	d.a.mu.Unlock()
	d.a.signal()
}

// accept checks a file of another process: its units are those that were asked for, and one of its levels is what was computed here, to the last
// bit.
func (l *lent) accept(b *builder, path string) error {
	f, err := openLadder(path, b.key, b.m.Geometry(), l.Slot)
	if err != nil {
		if !errors.Is(err, ErrDamaged) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return err
	}
	defer func() { _ = f.close() }() // only read from
	if len(f.header.Levels) != len(l.Counts) {
		return fmt.Errorf("%w: %d levels, not %d", ErrDamaged, len(f.header.Levels), len(l.Counts))
	}
	for i, level := range f.header.Levels {
		want, err := l.keep(i).MarshalText()
		if err != nil {
			return err
		}
		if level.Units != string(want) {
			return fmt.Errorf("%w: level %d keeps other units", ErrDamaged, i)
		}
		if math.IsNaN(level.Lost) || level.Lost < 0 || math.IsInf(level.Lost, 0) || i == 0 && level.Floats != 0 {
			return fmt.Errorf("%w: level %d loses %v", ErrDamaged, i, level.Lost)
		}
	}
	if l.at == 0 {
		return nil
	}
	got, err := f.read(l.at)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if !slices.EqualFunc(got, l.matrix, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) }) {
		return fmt.Errorf("%w: its matrices differ from those that are computed here", ErrDamaged)
	}
	return nil
}

// bare returns the sizes of the levels of a fit.
func (b *builder) bare(f Fit) space.Ladder {
	var ladder space.Ladder
	for i := range f.Counts {
		level, _ := levelOf(b.m.Geometry(), f.Slot, f.keep(i))
		ladder = append(ladder, level)
	}
	return ladder
}
