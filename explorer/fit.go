package explorer

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/explorer/internal/jobs"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// A Fit is a subnet that is within a limit.
type Fit struct {
	Subnet    SubnetID // of the library, or DenseID; "" when it is a candidate of the search's front
	Candidate int      // of the search's front; 0 when it is a subnet
	Name      string
	Cost      float64 // what the limit is about
	Relative  float64 // perplexity relative to the dense model, as last measured; 0 if it was not
	Share     float64 // of the block parameters
}

// BestWithin returns, of the dense model, the library and the front of the newest search, the one of lowest perplexity whose cost is
// at most limit, and the one of least cost. It reports false where none is within the limit. cost is called with masks and, where their
// matrices have types of their own, the size of the file in these, otherwise nil.
func (s *Snapshot) BestWithin(limit float64, cost func(masks subnet.Masks, own *gguf.FileSize) float64) (best, least Fit, ok bool) {
	dense := subnet.Dense(s.Model.Geometry)
	all := []Fit{{Subnet: DenseID, Name: "dense", Cost: cost(dense, nil), Relative: 1, Share: 1}}
	for _, n := range s.Subnets {
		all = append(all, Fit{Subnet: n.ID, Name: n.Name, Cost: cost(n.Masks, s.Model.typedSize(&n)), Relative: n.Figure().Relative, Share: n.Size.Ratio})
	}
	for _, c := range s.Search.Front {
		f := Fit{Candidate: c.ID, Name: fmt.Sprintf("#%d", c.ID), Cost: cost(c.Masks, c.typedSize()), Share: c.Ratio}
		if s.Search.DensePerplexity > 0 {
			f.Relative = c.Score.Perplexity() / s.Search.DensePerplexity
		}
		all = append(all, f)
	}
	least = slices.MinFunc(all, func(a, b Fit) int { return cmp.Compare(a.Cost, b.Cost) })
	within := slices.DeleteFunc(all, func(f Fit) bool { return !(f.Cost <= limit) })
	if len(within) == 0 {
		return Fit{}, least, false
	}
	// The dense model, where it is within the limit, is the best there is. Others that were not measured count as worse than those
	// that were, and the larger of them as the better.
	rank := func(f Fit) int {
		switch {
		case f.Subnet == DenseID:
			return 0
		case f.Relative > 0:
			return 1
		}
		return 2
	}
	return slices.MinFunc(within, func(a, b Fit) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		if rank(a) == 1 && a.Relative != b.Relative {
			return cmp.Compare(a.Relative, b.Relative)
		}
		return cmp.Compare(b.Share, a.Share)
	}), least, true
}

// FitTarget returns the best within a target of any kind but a time, for which there is [FindFit]. Its error wraps ErrUnsupported when
// none is, and then contains the nearest.
func (s *Snapshot) FitTarget(t search.Target) (Fit, error) {
	if err := checkTarget(t); err != nil {
		return Fit{}, err
	}
	return s.fit(t, sizePrices{&s.Model})
}

func (s *Snapshot) fit(t search.Target, prices search.Prices) (Fit, error) {
	best, least, ok := s.BestWithin(t.Value*(1+1e-9), func(masks subnet.Masks, own *gguf.FileSize) float64 {
		if own != nil && t.Type == "" && !t.Timed() {
			return t.Cost(masks, ownPrices{own: *own})
		}
		return t.Cost(masks, prices)
	})
	if ok {
		return best, nil
	}
	return Fit{}, fmt.Errorf("%w: of what was found so far, %s is the smallest: %w", ErrUnsupported, least.Name, t.Within(least.Cost))
}

// sizePrices are the prices of sizes alone.
type sizePrices struct{ m *ModelInfo }

func (p sizePrices) Bytes(m subnet.Masks, typ string) (file, tensors int64, err error) {
	size := p.m.FileSize(m, typ)
	if size.File == 0 {
		return 0, 0, fmt.Errorf("%w: no file can hold it", ErrUnsupported)
	}
	return size.File, size.Tensors, nil
}

// ownPrices are the sizes of a subnet in its own types.
type ownPrices struct {
	sizePrices
	own gguf.FileSize
}

func (p ownPrices) Bytes(subnet.Masks, string) (file, tensors int64, err error) {
	if p.own.File == 0 {
		return 0, 0, fmt.Errorf("%w: no file can hold it", ErrUnsupported)
	}
	return p.own.File, p.own.Tensors, nil
}

// typedSize returns the size of the file of a subnet whose matrices have types of their own, nil for others.
func (m *ModelInfo) typedSize(n *Subnet) *gguf.FileSize {
	if n.Types == nil {
		return nil
	}
	size := m.SubnetSize(n)
	return &size
}

// typedSize returns the size of the file of a candidate whose matrices have types of their own, nil for others.
func (c Candidate) typedSize() *gguf.FileSize {
	if c.Individual.Bytes == 0 {
		return nil
	}
	return &gguf.FileSize{File: c.Individual.Bytes, Tensors: c.Individual.Tensors}
}

func (sizePrices) Seconds(subnet.Masks, string) (float64, bool) { return 0, false }

func (c FindFit) do(_ context.Context, e *Exploration, a Actor) (Receipt, error) {
	if err := checkTarget(c.Target); err != nil {
		return Receipt{}, err
	}
	return e.launch(a, jobs.Foreground, JobFit, "the best for "+TargetName(c.Target), func(ctx context.Context, m *monitor) error {
		prices, err := e.model.Prices(ctx, c.Target, e.folder("search"), m)
		if err != nil {
			return err
		}
		found, err := e.Snapshot().fit(c.Target, prices)
		if err != nil {
			return err
		}
		m.show(func(j *Job) { j.Fit, j.Result = &found, found.Subnet })
		return nil
	})
}
