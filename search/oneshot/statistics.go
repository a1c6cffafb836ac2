package oneshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search/importance"
)

// ErrStatistics means that stored statistics are damaged or those of another model.
var ErrStatistics = errors.New("unusable statistics")

// Statistics are the result of one pass of calibration text through the dense model: how important each unit is, and how
// much the model's loss rises without it. They are small and can be stored.
type Statistics struct {
	Tokens   int               `json:"tokens"`    // of calibration text
	DenseNLL float64           `json:"dense_nll"` // nats per token of the dense model on the text that losses were measured on
	Layers   []LayerStatistics `json:"layers"`
	// Checks are edits that drop whole modules, predicted and measured: the errors of predictions of such edits.
	Checks []Check `json:"checks,omitempty"`
}

// LayerStatistics are the statistics of one layer. Heads are query heads.
type LayerStatistics struct {
	Channels UnitStatistics `json:"channels"`
	Heads    UnitStatistics `json:"heads"`
	Cosine   float64        `json:"cosine"` // between the hidden states before and after the layer
}

// UnitStatistics are the statistics of the units of one module. Costs are shares of the energy of the module's output that
// are lost after the best re-fit.
type UnitStatistics struct {
	Order []int     `json:"order"` // from the first to drop to the last, by optimal brain surgeon
	Cost  []float64 `json:"cost"`  // of each unit, when dropped after those before it in the order
	Alone []float64 `json:"alone"` // of each unit, when dropped first
	// Rise is the measured loss of a re-fitted cut that cost Probed, as divergence from dense in nats per token.
	Rise   float64 `json:"rise"`
	Probed float64 `json:"probed"`
	// Whole is the measured loss without the module, in the same unit; 0 in statistics from before it was measured.
	Whole float64 `json:"whole,omitempty"`
}

// cost returns the cost of dropping the given units. A unit costs Alone when nothing is dropped before it and Cost when all
// cheaper units are; in between its cost is assumed to grow geometrically with how many of those are dropped.
func (u *UnitStatistics) cost(dropped subnet.Set) float64 {
	var total float64
	before := 0
	for rank, unit := range u.Order {
		if !dropped.Has(unit) {
			continue
		}
		alone, inTurn := u.Alone[unit], u.Cost[unit]
		c := inTurn
		if rank > 0 && alone > 0 && inTurn > 0 {
			c = alone * math.Pow(inTurn/alone, float64(before)/float64(rank))
		}
		total += c
		before++
	}
	return total
}

// rise predicts the rise of the loss.
func (u *UnitStatistics) rise(dropped subnet.Set) float64 {
	switch {
	case dropped.IsEmpty():
		return 0
	case u.Whole > 0 && dropped.Len() == len(u.Order):
		return u.Whole
	case u.Probed == 0:
		return 0
	}
	rise := u.Rise * u.cost(dropped) / u.Probed
	if u.Whole > 0 {
		return min(rise, u.Whole) // the rest of the module does no harm
	}
	return rise
}

// Predict estimates the rise of the model's loss, in nats per token, when it is cut to masks and re-fitted. It does not compute
// with the model. In-head channels count as their share of the head. Losses of modules add up, to no more than that of guessing
// among all words, or than what one layer alone costs.
func (s *Statistics) Predict(masks subnet.Masks) float64 {
	var sum, largest float64
	for i := range masks.Layers() {
		rise := s.PredictLayer(masks, i)
		sum, largest = sum+rise, max(largest, rise)
	}
	return min(sum, max(largest, math.Log(float64(max(1, masks.Geometry().Vocab)))-s.DenseNLL))
}

// PredictLayer returns what one layer adds to Predict.
func (s *Statistics) PredictLayer(masks subnet.Masks, layer int) float64 {
	if layer >= len(s.Layers) {
		return 0
	}
	g, l, st := masks.Geometry(), masks.Layer(layer), &s.Layers[layer]
	guessing := math.Log(float64(max(2, g.Vocab))) // no module whose loss was extrapolated costs more
	bounded := func(u *UnitStatistics, gone subnet.Set) float64 {
		if rise := u.rise(gone); u.Whole == 0 {
			return min(rise, guessing)
		}
		return u.rise(gone)
	}
	sum := bounded(&st.Channels, l.Channels.Complement())
	gone := l.Heads.Complement()
	sum += bounded(&st.Heads, gone)
	if l.QK == nil && l.VO == nil {
		return sum
	}
	per := g.Layers[layer].HeadsPerGroup()
	for _, h := range l.Heads.Indices() {
		kept := l.QKOf(h/per, g.HeadDim).Len() + l.VOOf(h/per, g.HeadDim).Len()
		share := 1 - float64(kept)/float64(2*g.HeadDim)
		sum += share * (st.Heads.rise(gone.With(h)) - st.Heads.rise(gone))
	}
	return sum
}

// Gathering configures [NewStatistics].
type Gathering struct {
	// Kept returns the statistics of a layer that an interrupted run over the same windows kept, nil where there are none. nil keeps
	// nothing.
	Kept func(layer int) *LayerStatistics
	// Keep, unless nil, is called with the statistics of each layer that was not kept.
	Keep func(layer int, s *LayerStatistics) error
	// Others, unless nil, has the statistics of layers gathered by other processes, see [LayerGatherer]. keep takes one over. What it leaves out is
	// gathered here.
	Others   func(ctx context.Context, layers []int, keep func(layer int, s *LayerStatistics) error) error
	Progress func(Event) // as in Config
	// Gate, unless nil, is called between measurements, several times for each layer: the pass waits in it while others compute.
	Gate func(context.Context) error
}

// NewStatistics passes windows through the dense model. Beside the statistics of all units it measures, for each module,
// how much the loss rises when half of it is cut and the rest re-fitted, on windows held out of the statistics where there
// are several. A run that continues an interrupted one has the same result as one in one go.
func NewStatistics(ctx context.Context, m *decoder.Model, windows [][]int32, o Gathering) (*Statistics, error) {
	tokens, err := reform.CheckText(windows)
	if err != nil {
		return nil, err
	}
	p, err := newProber(ctx, m, windows)
	if err != nil {
		return nil, err
	}
	defer p.close()
	p.gate = o.Gate
	s := &Statistics{Tokens: tokens, DenseNLL: p.base.NLL / float64(p.base.Tokens), Layers: make([]LayerStatistics, len(m.Geometry().Layers))}
	g := gathering{Gathering: o, p: p, s: s, kept: make([]bool, len(s.Layers))}
	if err := g.run(ctx); err != nil {
		return nil, err
	}
	return s, s.check(ctx, m, p)
}

// gathering is one NewStatistics.
type gathering struct {
	Gathering
	p    *prober
	s    *Statistics
	kept []bool
	done int
}

func (g *gathering) run(ctx context.Context) error {
	for i := range g.kept {
		if g.Kept == nil {
			break
		}
		if l := g.Kept(i); l != nil {
			g.s.Layers[i], g.kept[i] = *l, true
		}
	}
	if missing := g.missing(); g.Others != nil && len(missing) > 0 {
		g.done = len(g.kept) - len(missing)
		err := g.Others(ctx, missing, func(layer int, l *LayerStatistics) error {
			if g.kept[layer] {
				return nil
			}
			g.s.Layers[layer], g.kept[layer] = *l, true
			g.done++
			return g.keep(layer, g.done)
		})
		if err != nil {
			return err
		}
	}
	missing := g.missing()
	if len(missing) == 0 {
		g.report(len(g.kept))
		return nil
	}
	return g.p.runTo(ctx, missing[len(missing)-1]+1, visitor{
		skip: func(layer int, _ subnet.Module) bool { return g.kept[layer] },
		module: func(layer int, _ subnet.Module, b *importance.Block) error {
			return g.s.Layers[layer].measure(ctx, g.p, layer, b)
		},
		layer: func(layer int, cosine float64) error {
			if !g.kept[layer] {
				g.s.Layers[layer].Cosine = cosine
				if err := g.keep(layer, max(layer+1, g.done)); err != nil {
					return err
				}
			} else {
				g.report(max(layer+1, g.done))
			}
			return ctx.Err()
		},
	})
}

// missing lists the layers without statistics.
func (g *gathering) missing() []int {
	var out []int
	for i, kept := range g.kept {
		if !kept {
			out = append(out, i)
		}
	}
	return out
}

// keep keeps the statistics of a layer.
func (g *gathering) keep(layer, done int) error {
	if g.Keep != nil {
		if err := g.Keep(layer, &g.s.Layers[layer]); err != nil {
			return err
		}
	}
	g.report(done)
	return nil
}

func (g *gathering) report(done int) {
	if g.Progress != nil {
		g.Progress(Event{Phase: Surveying, Done: done, Total: len(g.kept)})
	}
}

// A LayerGatherer gathers the statistics of single layers for a [NewStatistics] of another process.
type LayerGatherer struct {
	m       *decoder.Model
	windows [][]int32
	p       *prober // nil before the first layer
}

// NewLayerGatherer returns one for the windows that are given to [NewStatistics].
func NewLayerGatherer(m *decoder.Model, windows [][]int32) (*LayerGatherer, error) {
	_, err := reform.CheckText(windows)
	return &LayerGatherer{m: m, windows: windows}, err
}

// Layer returns the statistics of a layer. It passes the text through the layers before it, those excepted that it has passed already when
// the layers come in ascending order.
func (l *LayerGatherer) Layer(ctx context.Context, layer int) (_ *LayerStatistics, err error) {
	if layer < 0 || layer >= len(l.m.Geometry().Layers) {
		return nil, fmt.Errorf("%w: layer %d of %d", ErrStatistics, layer, len(l.m.Geometry().Layers))
	}
	if l.p != nil && l.p.at > layer {
		l.Close()
	}
	if l.p == nil {
		if l.p, err = newProber(ctx, l.m, l.windows); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			l.Close() // the text is somewhere in the layer
		}
	}()
	var s LayerStatistics
	err = l.p.runTo(ctx, layer+1, visitor{
		skip:   func(at int, _ subnet.Module) bool { return at != layer },
		module: func(_ int, _ subnet.Module, b *importance.Block) error { return s.measure(ctx, l.p, layer, b) },
		layer: func(_ int, cosine float64) error {
			s.Cosine = cosine
			return ctx.Err()
		},
	})
	return &s, err
}

// Close frees what Layer holds.
func (l *LayerGatherer) Close() {
	if l.p != nil {
		l.p.close()
		l.p = nil
	}
}

// measure ranks the units of a module and measures the rise of the loss without half of them.
func (s *LayerStatistics) measure(ctx context.Context, p *prober, layer int, b *importance.Block) error {
	unit, u := importance.Channels, &s.Channels
	if b.Module == subnet.Attention {
		unit, u = importance.Heads, &s.Heads
	}
	r, err := importance.Rank(importance.OBS, b, unit, importance.Options{})
	if err != nil {
		return err
	}
	all := len(r.Order)
	u.Order, u.Alone, u.Cost = r.Order, r.Alone, make([]float64, all)
	for k, unit := range r.Order {
		u.Cost[unit] = r.Loss[k+1] - r.Loss[k]
	}
	drop := max(1, all/2)
	u.Probed = r.Loss[drop]
	if u.Probed <= 0 {
		u.Probed = 0
		return nil // nothing is lost
	}
	l := subnet.DenseLayer(b.Layer)
	if b.Module == subnet.Attention {
		l.Heads = r.Keep(all - drop)
	} else {
		l.Channels = r.Keep(all - drop)
	}
	if u.Rise, err = p.rise(ctx, layer, l, b); err != nil {
		return err
	}
	u.Whole, err = p.without(ctx, layer, b.Module)
	u.Whole = max(u.Whole, u.Rise)
	return err
}

// statisticsVersion is incremented when the meaning of stored statistics changes.
const statisticsVersion = 1

type storedStatistics struct {
	Version int `json:"version"`
	*Statistics
}

// Save writes s as JSON.
func (s *Statistics) Save(w io.Writer) error {
	return json.NewEncoder(w).Encode(storedStatistics{statisticsVersion, s})
}

// LoadStatistics reads what Save wrote for a model of the given shape. Anything else is ErrStatistics.
func LoadStatistics(r io.Reader, g *subnet.Geometry) (*Statistics, error) {
	in := storedStatistics{Statistics: &Statistics{}}
	if err := json.NewDecoder(r).Decode(&in); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStatistics, err)
	}
	if in.Version != statisticsVersion {
		return nil, fmt.Errorf("%w: version %d", ErrStatistics, in.Version)
	}
	if len(in.Layers) != len(g.Layers) {
		return nil, fmt.Errorf("%w: they have %d layers, the model %d", ErrStatistics, len(in.Layers), len(g.Layers))
	}
	for i, l := range in.Layers {
		if !l.Fits(g.Layers[i]) {
			return nil, fmt.Errorf("%w: layer %d has another shape or is damaged", ErrStatistics, i)
		}
	}
	return in.Statistics, nil
}

// Fits reports whether the statistics are those of a layer of the given shape.
func (s *LayerStatistics) Fits(g subnet.LayerGeometry) bool {
	return s.Channels.fits(g.FFN) && s.Heads.fits(g.Heads)
}

// fits reports whether u describes n units, each once.
func (u *UnitStatistics) fits(n int) bool {
	if len(u.Order) != n || len(u.Cost) != n || len(u.Alone) != n {
		return false
	}
	sorted := slices.Sorted(slices.Values(u.Order))
	for i, v := range sorted {
		if i != v {
			return false
		}
	}
	return true
}
