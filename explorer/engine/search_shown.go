package engine

import (
	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/search"
)

// shown is a snapshot as the explorer shows it.
func (h *hunt) shown(s *search.Snapshot) explorer.Search {
	out := explorer.Search{
		Strategy: h.strategy(), Target: s.Target.Value, Seed: s.Seed, Fitness: string(h.eval.Fitness()), Generation: s.State.Generation,
		Evaluated: s.Spent.Evaluations, Dropped: s.Spent.Dropped, Tokens: s.Spent.Tokens, PerMinute: s.CandidatesPerMinute,
		DensePerplexity: h.dense,
		Elapsed:         s.Elapsed, Left: max(s.Left, 0), PrefixReuse: h.eval.Reused(),
		Cloud: s.State.Points, History: s.State.History, Events: s.State.Events,
	}
	tiers := 1
	if l := s.State.Ladder; l != nil {
		tiers = len(l.Tiers)
		for _, a := range l.Agreement {
			out.TierHits += a / float64(len(l.Agreement))
		}
	}
	population := s.State.Population
	if len(s.Scoring) > 0 {
		population = s.Scoring
	}
	for _, in := range population {
		out.Population = append(out.Population, h.candidate(in, tiers))
	}
	for _, in := range s.State.Front {
		out.Front = append(out.Front, h.candidate(in, tiers))
	}
	if best, ok := s.Best(); ok {
		c := h.candidate(best, tiers)
		out.Best = &c
	}
	return out
}

func (h *hunt) candidate(in search.Individual, tiers int) explorer.Candidate {
	size, ok := h.bytes[in.ID]
	if !ok {
		size = in.Masks.GGUFBytes(h.m.Info().FileType)
		h.bytes[in.ID] = size
	}
	g := h.work.dm.Geometry()
	share := 1 - float64(g.BlockParams()-in.Masks.BlockParams())/float64(max(h.m.Info().Params, 1))
	return explorer.Candidate{Individual: in, ShareAll: share, Bytes: size, Tiers: tiers}
}
