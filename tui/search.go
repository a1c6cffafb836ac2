package tui

import (
	"fmt"
	"math"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// searchScreen watches and steers a search.
type searchScreen struct {
	focus  int // the part that has the keys: index into searchParts
	chosen int // candidate under the cursor; 0 is the best, whoever that is
	front  bool
	list   list
	logY   bool
}

// The parts of the Search screen, in the order that tab visits them.
const (
	partChart = iota
	partBest
	partHistory
	partPopulation
	partEvents
	searchParts
)

func searchPartName(i int) string {
	return [...]string{"chart", "best", "progress", "population", "events"}[i]
}

func newSearchScreen() *searchScreen { return &searchScreen{focus: partPopulation, logY: true} }

// searchCursor is the state of the screen that its panes depend on.
type searchCursor struct {
	focus, chosen, at, top int
	front, logY, alone     bool
}

func (s *searchScreen) state(focusMatters int) searchCursor {
	c := searchCursor{chosen: s.chosen, at: s.list.at, top: s.list.top, front: s.front, logY: s.logY}
	if s.focus == focusMatters {
		c.focus = 1
	}
	return c
}

func (s *searchScreen) panes(m *Model, area layout.Rect) []pane {
	snap := m.snap
	rev := max(snap.Sections[explorer.SectionSearch], snap.Sections[explorer.SectionModel], snap.Sections[explorer.SectionJobs], snap.Sections[explorer.SectionStatistics])
	alone := !layout.Single(area) && layout.NewSearch(area).Events.Empty() // the events have no pane
	draw := [searchParts]func(*theme.Theme, int, int) []string{
		func(t *theme.Theme, w, h int) []string { return s.drawChart(m, t, w, h) },
		func(t *theme.Theme, w, h int) []string { return s.drawBest(m, t, alone, w, h) },
		func(t *theme.Theme, w, h int) []string { return s.drawHistory(t, snap, w, h) },
		func(t *theme.Theme, w, h int) []string { return s.drawPopulation(t, snap, w, h) },
		func(t *theme.Theme, w, h int) []string { return s.drawEvents(t, snap, w, h) },
	}
	one := func(part int, r layout.Rect) pane {
		if part == partPopulation {
			s.list.clamp(len(s.candidates(snap)), max(0, r.H-3))
		}
		state := s.state(part)
		state.alone = alone
		return pane{id: "search." + searchPartName(part), rect: r, rev: rev, state: state, draw: draw[part]}
	}
	if layout.Single(area) {
		tabs, rest := layout.Tabs(area)
		return []pane{m.tabsPane("search.tabs", tabs, s.focus, searchPartNames()), one(s.focus, rest)}
	}
	l := layout.NewSearch(area)
	var out []pane
	for part, r := range []layout.Rect{l.Chart, l.Best, l.History, l.Population, l.Events} {
		if !r.Empty() {
			out = append(out, one(part, r))
		}
	}
	return out
}

func searchPartNames() []string {
	out := make([]string, searchParts)
	for i := range out {
		out[i] = searchPartName(i)
	}
	return out
}

// candidates are the rows of the population pane.
func (s *searchScreen) candidates(snap *explorer.Snapshot) []explorer.Candidate {
	if s.front {
		return snap.Search.Front
	}
	return snap.Search.Population
}

// selected is the candidate that actions are about; ok is false before there is one.
func (s *searchScreen) selected(snap *explorer.Snapshot) (c explorer.Candidate, ok bool) {
	if s.chosen != 0 {
		for _, list := range [][]explorer.Candidate{snap.Search.Population, snap.Search.Front} {
			if i := slices.IndexFunc(list, func(c explorer.Candidate) bool { return c.ID == s.chosen }); i >= 0 {
				return list[i], true
			}
		}
	}
	if best := snap.Search.Best; best != nil {
		return *best, true
	}
	return explorer.Candidate{}, false
}

// follow keeps the cursor on its candidate while the population changes under it.
func (s *searchScreen) follow(m *Model) {
	if s.chosen == 0 {
		return
	}
	rows := s.candidates(m.snap)
	if i := slices.IndexFunc(rows, func(c explorer.Candidate) bool { return c.ID == s.chosen }); i >= 0 {
		s.list.at = i
		return
	}
	if c, ok := s.selected(m.snap); !ok || c.ID != s.chosen {
		s.chosen, s.list = 0, list{}
	}
}

func (s *searchScreen) status(m *Model) string {
	sr := m.snap.Search
	if sr.Evaluated == 0 {
		return ""
	}
	out := fmt.Sprintf("eval %d", sr.Evaluated)
	if sr.PerMinute > 0 && s.running(m) {
		out += fmt.Sprintf("  %.0f cand/min", sr.PerMinute)
	}
	return out
}

// job is the search's job while it has not ended.
func (s *searchScreen) job(m *Model) (explorer.Job, bool) {
	j, ok := m.snap.Job(m.snap.Search.Job)
	if ok && !j.State.Ended() {
		return j, true
	}
	i := slices.IndexFunc(m.snap.Jobs, func(j explorer.Job) bool { return j.Kind == explorer.JobSearch && !j.State.Ended() })
	if i < 0 {
		return explorer.Job{}, false
	}
	return m.snap.Jobs[i], true
}

func (s *searchScreen) running(m *Model) bool {
	j, ok := s.job(m)
	return ok && j.State == explorer.Running
}

func (s *searchScreen) back(*Model) (bool, tea.Cmd) {
	if s.chosen != 0 {
		s.chosen, s.list = 0, list{}
		return true, nil
	}
	return false, nil
}

// move moves the cursor of the population, or along the front on the chart.
func (s *searchScreen) move(m *Model, by int) tea.Cmd {
	rows := s.candidates(m.snap)
	if len(rows) == 0 {
		return nil
	}
	if s.chosen == 0 && s.list.at == 0 && by > 0 {
		by-- // the first step only makes the cursor visible
	}
	s.list.move(by, len(rows))
	s.chosen = rows[s.list.at].ID
	return nil
}

// along moves along the Pareto front.
func (s *searchScreen) along(m *Model, by int) tea.Cmd {
	front := m.snap.Search.Front
	if len(front) == 0 {
		return nil
	}
	c, _ := s.selected(m.snap)
	at, dist := 0, math.Inf(1)
	for i, f := range front {
		if d := math.Abs(f.Ratio - c.Ratio); f.ID == c.ID || d < dist {
			at, dist = i, d
			if f.ID == c.ID {
				break
			}
		}
	}
	if front[at].ID == c.ID {
		at = clamp(at+by, 0, len(front)-1)
	}
	s.chosen = front[at].ID
	s.follow(m)
	return nil
}

func (s *searchScreen) mouse(m *Model, p pane, e mouseEvent) tea.Cmd {
	if p.id == "search.tabs" {
		if i, ok := tabHit(searchPartNames(), e.x); ok && e.kind == mouseClick {
			s.focus = i
		}
		return nil
	}
	part := slices.Index(searchPartNames(), strings.TrimPrefix(p.id, "search."))
	switch {
	case e.kind == mouseClick:
		s.focus = part
		if part == partPopulation {
			if i := s.list.top + e.y - 2; e.y >= 2 && i < len(s.candidates(m.snap)) {
				again := s.chosen == s.candidates(m.snap)[i].ID
				s.list.at, s.chosen = i, s.candidates(m.snap)[i].ID
				if again {
					return s.details(m)
				}
			}
		}
		if part == partChart {
			s.clickChart(m, p, e)
		}
	case e.kind == mouseWheel && part == partPopulation:
		return s.move(m, e.delta)
	case e.kind == mouseWheel && part == partChart:
		return s.along(m, e.delta)
	}
	return nil
}

// clickChart selects the candidate drawn nearest to a click, if it is one that is still known.
func (s *searchScreen) clickChart(m *Model, p pane, e mouseEvent) {
	var known []explorer.Candidate
	known = append(append(known, m.snap.Search.Front...), m.snap.Search.Population...)
	plot := s.plot(m.theme, m.snap)
	points := make([]chart.Point, len(known))
	for i, c := range known {
		points[i] = chart.Point{X: c.Ratio, Y: quality(m.snap.Search, c.Score.Perplexity(), c.Score.Fitness)}
	}
	if i := plot.Nearest(p.rect.W-2, p.rect.H-2, e.x-1, e.y-1, points); i >= 0 {
		s.chosen = known[i].ID
		s.follow(m)
	}
}

// quality is what the chart shows of a candidate: perplexity where the search measures it, otherwise its fitness.
func quality(sr explorer.Search, perplexity, fitness float64) float64 {
	if !showsPerplexity(sr) {
		return fitness
	}
	if perplexity <= 0 {
		return math.NaN()
	}
	return perplexity
}

func showsPerplexity(sr explorer.Search) bool {
	return sr.DensePerplexity > 0 || sr.Best != nil && sr.Best.Score.Perplexity() > 0
}

// targetName is how the target of a search is written: "0.80".
func targetName(v float64) string { return text.Fixed(v, 2) }
