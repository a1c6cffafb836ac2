package importance

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/lathe-llm/lathe/reform/linalg"
)

const (
	// pendingColumns is how many columns of updates are collected before the inverse itself is updated.
	pendingColumns = 128
	// shrinkAt is the inverse of the share of dropped rows at which they are removed from the state.
	shrinkAt = 8
)

// surgeon removes columns of W, the cheapest first, and re-fits the rest each time: with M = (H + λI)⁻¹ over the columns
// left, removing the columns S changes the outputs by tr(W_S (M_SS)⁻¹ W_Sᵀ), the best re-fit is
// W −= W_S (M_SS)⁻¹ M_S,: and the inverse over the remaining columns is M − M_:,S (M_SS)⁻¹ M_S,:.
//
// Updates of M are collected: M is inverse − pending·pendingᵀ, and only its diagonal is always up to date.
type surgeon struct {
	out     int
	columns []int     // of W, for each row of the state
	alive   []bool    // not yet removed
	left    int       // how many are alive
	w       []float64 // [len(columns), out] re-fitted weights, transposed
	inverse []float64 // [len(columns), len(columns)]
	pending []float64 // [len(columns), filled]; rows of removed columns are stale
	filled  int
	diag    []float64 // of M
}

func newSurgeon(b *Block, ridge float64) (*surgeon, error) {
	n, out := b.Output.In, b.Output.Out
	inverse, err := linalg.Inverse(linalg.OrCPU(b.Algebra), b.Mid.Gram, n, ridge)
	if err != nil {
		return nil, err
	}
	s := &surgeon{
		out: out, left: n, inverse: inverse, columns: make([]int, n), alive: make([]bool, n), diag: make([]float64, n),
		w: make([]float64, n*out),
	}
	for j := range n {
		s.columns[j], s.alive[j], s.diag[j] = j, true, s.inverse[j*n+j]
		for i := range out {
			s.w[j*out+i] = float64(b.Output.Data[i*n+j])
		}
	}
	return s, nil
}

// row returns the re-fitted weights of a row of the state.
func (s *surgeon) row(i int) []float64 { return s.w[i*s.out : (i+1)*s.out] }

// among returns M between rows, [len(rows), len(rows)].
func (s *surgeon) among(rows []int) []float64 {
	k, n := len(rows), len(s.columns)
	m := linalg.Sub(s.inverse, n, rows, rows)
	for a, i := range rows {
		for b, j := range rows {
			m[a*k+b] -= linalg.Dot(s.pendingRow(i), s.pendingRow(j))
		}
	}
	return m
}

func (s *surgeon) pendingRow(i int) []float64 { return s.pending[i*s.filled : (i+1)*s.filled] }

// remove drops rows of the state and returns the cost of each after those before it, in the order given.
func (s *surgeon) remove(rows []int) ([]float64, error) {
	k, n := len(rows), len(s.columns)
	f, err := linalg.Factorize(s.among(rows), k, 0)
	if err != nil {
		return nil, fmt.Errorf("removing column %d: %w", s.columns[rows[0]], err)
	}
	removed := make([]float64, 0, k*s.out)
	for _, i := range rows {
		removed = append(removed, s.row(i)...)
	}
	// With M_SS = C·Cᵀ: step = M_:,S·C⁻ᵀ, white = C⁻¹·W_S; the updates are step·white and step·stepᵀ.
	step := linalg.Columns(s.inverse, n, n, rows)
	if s.filled > 0 {
		chosen := make([]float64, 0, k*s.filled)
		for _, i := range rows {
			chosen = append(chosen, s.pendingRow(i)...)
		}
		for i, v := range linalg.ProductT(n, k, s.filled, s.pending, chosen) {
			step[i] -= v
		}
	}
	f.SolveLower(step, n)
	white := f.Whiten(removed, s.out)
	linalg.SubtractProduct(n, s.out, k, step, white, s.w)
	costs := make([]float64, k)
	for a, i := range rows {
		costs[a] = linalg.Dot(white[a*s.out:(a+1)*s.out], white[a*s.out:(a+1)*s.out])
		s.alive[i] = false
		clear(s.row(i))
	}
	s.left -= k
	s.postpone(step, k)
	return costs, nil
}

// postpone adds an update step·stepᵀ of M to the pending ones, and applies them when there are enough.
func (s *surgeon) postpone(step []float64, k int) {
	n := len(s.columns)
	pending := make([]float64, n*(s.filled+k))
	for i := range n {
		row := step[i*k : (i+1)*k]
		s.diag[i] -= linalg.Dot(row, row)
		dst := pending[i*(s.filled+k):]
		copy(dst, s.pendingRow(i))
		copy(dst[s.filled:], row)
	}
	s.pending, s.filled = pending, s.filled+k
	if s.filled < pendingColumns {
		return
	}
	if s.left <= n-n/shrinkAt {
		s.shrink()
		n = len(s.columns)
	}
	linalg.SubtractSquare(n, s.filled, s.pending, s.inverse)
	s.pending, s.filled = nil, 0
}

// shrink removes dropped rows from the state.
func (s *surgeon) shrink() {
	keep := make([]int, 0, s.left)
	for i, alive := range s.alive {
		if alive {
			keep = append(keep, i)
		}
	}
	n := len(s.columns)
	s.inverse = linalg.Sub(s.inverse, n, keep, keep)
	for to, i := range keep {
		s.columns[to], s.diag[to] = s.columns[i], s.diag[i]
		copy(s.row(to), s.row(i))
		copy(s.pending[to*s.filled:(to+1)*s.filled], s.pendingRow(i))
		s.alive[to] = true
	}
	m := len(keep)
	s.columns, s.diag, s.alive = s.columns[:m], s.diag[:m], s.alive[:m]
	s.w, s.pending = s.w[:m*s.out], s.pending[:m*s.filled]
}

// obs removes units of a block, a step of channels or one head or group at a time, until Options.Keep are left.
func obs(b *Block, u Unit, o Options) (Ranking, error) {
	s, err := newSurgeon(b, o.ridge())
	if err != nil {
		return Ranking{}, err
	}
	step := o.Step
	if step == 0 {
		step = defaultStep
	}
	count := b.Count(u)
	r := Ranking{Scores: make([]float64, count), Loss: make([]float64, 1, count+1)}
	if o.Keep == 0 {
		if r.Alone, err = s.alone(b, u); err != nil {
			return Ranking{}, err
		}
	}
	for len(r.Order) < count-o.Keep {
		var units [][]int // rows of the state
		if u == Channels {
			units = s.cheapestRows(step)
		} else {
			units, err = s.cheapestUnit(b.columns(u))
			if err != nil {
				return Ranking{}, err
			}
		}
		rows := slices.Concat(units...)
		width := b.columns(u)
		names := make([]int, len(units))
		for i, unit := range units {
			names[i] = s.columns[unit[0]] / width
		}
		costs, err := s.remove(rows)
		if err != nil {
			return Ranking{}, err
		}
		for i, name := range names {
			cost := sum(costs[i*width : (i+1)*width])
			r.Order = append(r.Order, name)
			r.Scores[name] = cost
			r.Loss = append(r.Loss, r.Loss[len(r.Loss)-1]+cost)
		}
	}
	if o.Keep > 0 {
		r.Loss = nil
		err := s.order(&r, b.columns(u)) // changes r
		return r, err
	}
	whole := Energy(b)
	r.Loss, r.Alone = relative(r.Loss, whole), relative(r.Alone, whole)
	return r, nil
}

// order adds the remaining units to a ranking, by the cost of each if it were dropped next.
func (s *surgeon) order(r *Ranking, width int) error {
	rows := s.units(width)
	left := slices.Sorted(maps.Keys(rows))
	for _, u := range left {
		if width == 1 {
			r.Scores[u] = s.rowCost(rows[u][0])
			continue
		}
		var err error
		if r.Scores[u], err = s.cost(rows[u]); err != nil {
			return fmt.Errorf("unit %d: %w", u, err)
		}
	}
	slices.SortStableFunc(left, func(a, b int) int { return cmp.Compare(r.Scores[a], r.Scores[b]) })
	r.Order = append(r.Order, left...)
	return nil
}

// alone returns the cost of each unit if it were dropped first.
func (s *surgeon) alone(b *Block, u Unit) ([]float64, error) {
	width := b.columns(u)
	cost := make([]float64, b.Count(u))
	for i := range cost {
		if width == 1 {
			cost[i] = s.rowCost(i)
			continue
		}
		var err error
		if cost[i], err = s.cost(b.Columns(u, []int{i})); err != nil {
			return nil, fmt.Errorf("unit %d: %w", i, err)
		}
	}
	return cost, nil
}

// units returns the rows of the remaining units, which have width columns each.
func (s *surgeon) units(width int) map[int][]int {
	units := make(map[int][]int)
	for i, alive := range s.alive {
		if alive {
			u := s.columns[i] / width
			units[u] = append(units[u], i)
		}
	}
	return units
}

// rowCost returns the cost of removing one row of the state.
func (s *surgeon) rowCost(i int) float64 { return linalg.Dot(s.row(i), s.row(i)) / s.diag[i] }

// cost returns the cost of removing rows of the state together.
func (s *surgeon) cost(rows []int) (float64, error) {
	f, err := linalg.Factorize(s.among(rows), len(rows), 0)
	if err != nil {
		return 0, err
	}
	w := make([]float64, 0, len(rows)*s.out)
	for _, i := range rows {
		w = append(w, s.row(i)...)
	}
	white := f.Whiten(w, s.out)
	return linalg.Dot(white, white), nil
}

// cheapestRows returns the count rows that cost least, each by itself.
func (s *surgeon) cheapestRows(count int) [][]int {
	cost := make([]float64, len(s.columns))
	rows := make([]int, 0, s.left)
	for i, alive := range s.alive {
		if alive {
			cost[i] = s.rowCost(i)
			rows = append(rows, i)
		}
	}
	slices.SortFunc(rows, func(i, j int) int {
		return cmp.Or(cmp.Compare(cost[i], cost[j]), cmp.Compare(s.columns[i], s.columns[j]))
	})
	units := make([][]int, 0, count)
	for _, i := range rows[:min(count, len(rows))] {
		units = append(units, []int{i})
	}
	return units
}

// cheapestUnit returns the rows of the unit that costs least; units have width columns.
func (s *surgeon) cheapestUnit(width int) ([][]int, error) {
	units := s.units(width)
	best, least := -1, 0.0
	for u, rows := range units {
		cost, err := s.cost(rows)
		if err != nil {
			return nil, fmt.Errorf("unit %d: %w", u, err)
		}
		if best < 0 || cost < least || cost == least && u < best {
			best, least = u, cost
		}
	}
	return [][]int{units[best]}, nil
}
