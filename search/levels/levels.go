// Package levels makes and stores the levels that a search chooses among: for every
// module, an attention block or an MLP, a ladder of cuts of different sizes, each
// with the units that it keeps and its re-fitted output matrix.
//
// [Build] passes calibration text through the layers once. In each module it
// orders the units by optimal brain surgeon, cuts them at every step of the
// ladder and re-fits W_O or W_D. The text continues through a middle level, so
// that later layers are fitted on inputs like those in a subnet. A module's ladder
// is one file of a folder. An interrupted build continues with the first module
// that is missing, and replaces damaged files.
//
// A [Store] reads matrices on demand and assembles subnets from copies. Matrices
// are [out, kept columns] row-major, in the order of [subnet.Masks.OColumns] and
// of the channels.
package levels

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

var (
	// ErrText is returned when there is no calibration text.
	ErrText = errors.New("levels: no calibration text")
	// ErrOther is wrapped when the levels are not those that are expected.
	ErrOther = errors.New("levels: made from other text or with other options")
	// ErrSpace is wrapped when the levels need more disk than is allowed.
	ErrSpace = errors.New("levels: too little disk is allowed")
	// ErrDamaged is wrapped when a file of a store is truncated or altered.
	ErrDamaged = errors.New("levels: damaged file")
)

// Options configure levels. The zero value has the defaults.
type Options struct {
	// Steps is how many levels below dense an MLP has, the last of which keeps
	// nothing; 0 is 16. Attention has one level for each KV group.
	Steps int
	// Granularity divides MLP widths; 0 is 32.
	Granularity int
	// Middle is the ratio of the MLP levels that the calibration text passes
	// through, with dense attention; 0 is 0.8.
	Middle float64
	// Lambda is the ridge of the re-fit toward the original weights, as a share
	// of the mean diagonal; 0 is 0.1.
	Lambda float64
	// MaxBytes bounds the matrices of the levels, 0 for no bound.
	MaxBytes int64
	// Model identifies the model file, as in [search.Problem].
	Model string
	// Text identifies the calibration text.
	Text string
	// Keep leaves other levels in the folder.
	Keep bool
	// Expect is the key that the levels must have; "" accepts any.
	Expect string
	// Progress, unless nil, is called after every module.
	Progress func(Event)
	// Gate, unless nil, is called between modules and blocks while the work is paused.
	Gate func(context.Context) error
	// HandOut, unless nil, is called once if any ladder is missing. It returns what has ladders made by other processes.
	HandOut func(ctx context.Context, d Deliveries) (Fitter, error)
	Scratch string // folder for the temporary files of HandOut, "" for the system's
	// Persist, unless nil, calls a function that writes until the disk has room for what it writes, and returns any other
	// error of it.
	Persist func(ctx context.Context, write func() error) error
}

// Event reports that the levels of one module are made.
type Event struct {
	Layer       int
	Module      subnet.Module
	Done, Total int
	Reused      bool    // they were in the folder
	Levels      int     // of the module
	Lost        float64 // share of its output energy that the middle one loses
}

func (o Options) withDefaults() Options {
	if o.Steps == 0 {
		o.Steps = 16
	}
	if o.Granularity == 0 {
		o.Granularity = subnet.DefaultGranularity
	}
	if o.Middle == 0 {
		o.Middle = 0.8
	}
	if o.Lambda == 0 {
		o.Lambda = 0.1
	}
	return o
}

// key identifies levels by everything that they depend on.
func (o Options) key(windows [][]int32) string {
	h := sha256.New()
	_ = json.NewEncoder(h).Encode(struct { // a hash never fails
		Version, Steps, Granularity int
		Middle, Lambda              float64
		Model, Text                 string
		Windows                     [][]int32
	}{fileVersion, o.Steps, o.Granularity, o.Middle, o.Lambda, o.Model, o.Text, windows})
	return hex.EncodeToString(h.Sum(nil)[:keyBytes])
}

// keyBytes is the length of a key before it is written in hexadecimal digits.
const keyBytes = 16

// Store is a folder of levels. It may be read from several goroutines.
type Store struct {
	levels  space.Levels
	modules []*ladderFile // by slot, nil for modules without units
	pace    Pace
	dir     string
	// Of typed levels, see [Store.Types].
	source     map[string]subnet.Type
	importance map[string][]float32

	mu    sync.Mutex
	bases map[string]*baseFile // that are open; guarded by mu
}

// Pace is the time that making levels takes: for each window of text, and independently of the text.
type Pace struct {
	Window, Fixed time.Duration
}

// Pace returns the pace at which the levels were made, zero if some of them were in the folder.
func (s *Store) Pace() Pace { return s.pace }

// Levels returns the levels. Until [Store.SetLosses], their losses are the shares of
// the module's output energy that they lose.
func (s *Store) Levels() *space.Levels { return &s.levels }

// Bytes returns the size of the files.
func (s *Store) Bytes() int64 {
	var n int64
	for _, m := range s.modules {
		if m != nil {
			n += m.data.size
		}
	}
	return n
}

// SetLosses sets the predicted loss of every level to its lost share of energy times
// the factor of its slot. It must be called before the levels are searched.
func (s *Store) SetLosses(factor []float64) {
	for slot := range s.levels.Slots() {
		ladder := s.levels.Ladder(slot)
		for i := range ladder {
			ladder[i].Loss = factor[slot] * s.modules[slot].loss(i)
		}
	}
}

// Lost returns the share of output energy that a level of a slot loses.
func (s *Store) Lost(slot, level int) float64 { return s.modules[slot].loss(s.width(slot, level)) }

// Refit returns the re-fitted matrices of a choice, one element per layer. The base, which may be nil, is that of its exact
// modules or, if the choice is nil, all modules are those of the base.
func (s *Store) Refit(c space.Choice, base *space.Base) ([]gguf.Refit, error) {
	out := make([]gguf.Refit, len(s.levels.Geometry.Layers))
	for slot := range s.modules {
		level := space.Exact
		if c != nil {
			level = c[slot]
		}
		if err := s.RefitOver(&out[slot/subnet.Modules], slot, level, base); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// RefitOver sets the re-fitted matrices of one level of a slot in r or, for [space.Exact], those of the base's module.
func (s *Store) RefitOver(r *gguf.Refit, slot int, level int16, base *space.Base) error {
	if level == space.Exact {
		return s.refitExact(r, slot, base)
	}
	return s.RefitModule(r, slot, int(level))
}

// RefitModule sets the re-fitted matrix of one level of a slot in r.
func (s *Store) RefitModule(r *gguf.Refit, slot, level int) error {
	w, err := s.modules[slot].read(s.width(slot, level))
	if err != nil {
		return fmt.Errorf("levels: layer %d: %v level %d: %w", slot/subnet.Modules, subnet.Module(slot%subnet.Modules), level, err)
	}
	if subnet.Module(slot%subnet.Modules) == subnet.Attention {
		r.WO = w
	} else {
		r.WD = w
	}
	return nil
}

// Subnet returns the masks and re-fitted matrices of a choice. The base, which may be nil, is that of its exact modules.
func (s *Store) Subnet(c space.Choice, base *space.Base) (gguf.Subnet, error) {
	masks, err := s.levels.MasksOver(c, base)
	if err != nil {
		return gguf.Subnet{}, err
	}
	refit, err := s.Refit(c, base)
	sub := gguf.Subnet{Masks: masks, Refit: refit, Types: s.levels.Types(c)}
	for tensor := range sub.Types {
		if of := s.importance[tensor]; of != nil {
			if sub.Importance == nil {
				sub.Importance = make(map[string][]float32)
			}
			sub.Importance[tensor] = of
		}
	}
	return sub, err
}

// Close closes the files.
func (s *Store) Close() error {
	var err error
	for _, m := range s.modules {
		err = errors.Join(err, m.close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.bases {
		err = errors.Join(err, b.data.close())
	}
	clear(s.bases)
	return err
}

// Build makes the levels of a model from windows of text in the folder dir, or opens
// those that are there. The folder holds one set of levels; files of others are
// removed. The caller must Close the store.
func Build(ctx context.Context, m *decoder.Model, windows [][]int32, dir string, o Options) (*Store, error) {
	if len(windows) == 0 {
		return nil, ErrText
	}
	o = o.withDefaults()
	g := m.Geometry()
	if err := CheckSpace(g, o); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("levels: %w", err)
	}
	key := o.key(windows)
	b := &builder{ctx: ctx, m: m, dir: dir, o: o, key: key, windows: windows, store: &Store{levels: space.Levels{Geometry: g, Key: key}, dir: dir}}
	if o.Expect != "" && o.Expect != key {
		return nil, fmt.Errorf("%w than those of the search to resume", ErrOther)
	}
	if err := b.prune(); err != nil {
		return nil, fmt.Errorf("levels: %w", err)
	}
	if err := b.run(windows); err != nil {
		_ = b.store.Close() // the first error is the cause
		return nil, err
	}
	if err := b.store.levels.Validate(); err != nil {
		_ = b.store.Close()
		return nil, err
	}
	return b.store, nil
}

// CheckSpace returns an error, which wraps [ErrSpace], if the levels that [Build] makes of a model are larger than is allowed.
func CheckSpace(g *subnet.Geometry, o Options) error {
	o = o.withDefaults()
	if need := bytesNeeded(g, o); o.MaxBytes > 0 && need > o.MaxBytes {
		return fmt.Errorf("%w: they need %.3g MB, %.3g MB are allowed", ErrSpace, float64(need)/1e6, float64(o.MaxBytes)/1e6)
	}
	return nil
}

// bytesNeeded returns the size of the matrices of all levels; dense ones are not stored.
func bytesNeeded(g *subnet.Geometry, o Options) int64 {
	var columns int64
	for _, l := range g.Layers {
		for _, n := range widths(l.FFN, o.Steps, o.Granularity)[1:] {
			columns += int64(n)
		}
		for kept := range l.KVHeads {
			columns += int64(kept * l.HeadsPerGroup() * g.HeadDim)
		}
	}
	return columns * int64(g.Hidden) * 4
}

// Bare returns levels of the sizes that [Build] makes, without weights and losses and with the first units of each
// module. They determine which targets can be reached before the levels are made.
func Bare(g *subnet.Geometry, o Options) *space.Levels {
	o = o.withDefaults()
	l := &space.Levels{Geometry: g}
	for slot := range l.Slots() {
		n := units(g, slot)
		var ladder space.Ladder
		for _, count := range counts(g, slot, o) {
			level, _ := levelOf(g, slot, subnet.Range(n, 0, count))
			ladder = append(ladder, level)
		}
		if subnet.Module(slot%subnet.Modules) == subnet.Attention {
			l.Attention = append(l.Attention, ladder)
		} else {
			l.MLP = append(l.MLP, ladder)
		}
	}
	return l
}

// units returns how many units the module of a slot has: KV groups or MLP channels.
func units(g *subnet.Geometry, slot int) int {
	l := g.Layers[slot/subnet.Modules]
	if subnet.Module(slot%subnet.Modules) == subnet.Attention {
		return l.KVHeads
	}
	return l.FFN
}

// counts returns how many units each level of a slot keeps.
func counts(g *subnet.Geometry, slot int, o Options) []int {
	n := units(g, slot)
	if subnet.Module(slot%subnet.Modules) == subnet.MLP {
		return widths(n, o.Steps, o.Granularity)
	}
	return widths(n, n, 1)
}

// widths returns the number of units kept at each level, from all to none.
func widths(n, steps, granularity int) []int {
	out := []int{n}
	for step := 1; step <= steps && n > 0; step++ {
		kept := n * (steps - step) / steps / granularity * granularity
		if kept < out[len(out)-1] {
			out = append(out, kept)
		}
	}
	return out
}
