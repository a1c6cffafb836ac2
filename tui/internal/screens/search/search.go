// Package search is the screen that shows and steers a search.
package search

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// A Screen watches and steers a search.
type Screen struct {
	costs  subnets.Costs
	host   screen.Host
	focus  int // the pane that has the keys
	chosen int // candidate under the cursor; 0 keeps the cursor on the best one
	front  bool
	list   widget.List
	logY   bool
	find   string
	near   bool // the chart shows the surroundings of the population
	seen   seen
}

// The panes of the screen, in the order that tab visits them.
const (
	partStack = iota
	partChart
	partPopulation
	partHistory
	partEvents
	partAnswers
	searchParts
)

func searchPartName(i int) string {
	return [...]string{"layers", "chart", "population", "progress", "events", "answers"}[i]
}

// New returns the screen.
func New(host screen.Host) screen.Screen {
	return &Screen{host: host, focus: partPopulation, logY: true}
}

// Name is the screen's name.
func (s *Screen) Name() string { return "search" }

// Title is the name of its tab.
func (s *Screen) Title() string { return "Search" }

func (s *Screen) snap() *explorer.Snapshot { return s.host.Snapshot() }

// cost returns what masks of the model cost.
func (s *Screen) cost(masks subnet.Masks) subnets.Cost {
	return s.costs.Of(masks, &s.snap().Model)
}

// searchCursor is the state of the screen that its panes depend on.
type searchCursor struct {
	focus, chosen, at, top int
	front, logY, near      bool
	find                   string
}

func (s *Screen) state(pane int) searchCursor {
	c := searchCursor{chosen: s.chosen, at: s.list.At, top: s.list.Top, front: s.front, logY: s.logY, near: s.near, find: s.find}
	if s.focus == pane {
		c.focus = 1
	}
	return c
}

// Panes lays the screen out.
func (s *Screen) Panes(area layout.Rect) []screen.Pane {
	snap := s.snap()
	rev := max(snap.Sections[explorer.SectionSearch], snap.Sections[explorer.SectionModel], snap.Sections[explorer.SectionJobs], snap.Sections[explorer.SectionStatistics])
	kept := max(rev, snap.Sections[explorer.SectionSubnets]) // the chart and the candidate show subnets of the library
	one := func(part int, r layout.Rect) screen.Pane {
		p := screen.Pane{ID: "search." + searchPartName(part), Rect: r, Rev: rev, State: s.state(part)}
		switch part {
		case partStack:
			st := s.stackState()
			p.Rev, p.State = kept, st
			p.Draw = func(t *theme.Theme, w, h int) []string { return s.drawStack(t, st, w, h) }
		case partChart:
			p.Rev, p.Draw = kept, s.drawChart
		case partHistory:
			p.Draw = func(t *theme.Theme, w, h int) []string { return s.drawHistory(t, snap, w, h) }
		case partPopulation:
			s.list.Clamp(len(s.candidates(snap)), max(0, r.H-3))
			p.State = s.state(part)
			p.Draw = func(t *theme.Theme, w, h int) []string { return s.drawPopulation(t, snap, w, h) }
		case partEvents:
			p.Draw = func(t *theme.Theme, w, h int) []string { return s.drawEvents(t, snap, w, h) }
		case partAnswers:
			p.Rev, p.Draw = kept, func(t *theme.Theme, w, h int) []string { return s.drawAnswers(t, snap, w, h) }
		}
		return p
	}
	if layout.Single(area) {
		tabs, rest := layout.Tabs(area)
		return []screen.Pane{widget.Tabs("search.tabs", tabs, s.focus, searchPartNames()), one(s.focus, rest)}
	}
	l := layout.NewSearch(area, s.answers())
	places := [searchParts]layout.Rect{
		partStack: l.Stack, partChart: l.Chart, partPopulation: l.Population, partHistory: l.History, partEvents: l.Events, partAnswers: l.Answers,
	}
	if places[s.focus].Empty() { // it takes the place of another one
		for _, other := range []int{partHistory, partAnswers, partPopulation} {
			if !places[other].Empty() {
				places[s.focus], places[other] = places[other], layout.Rect{}
				break
			}
		}
	}
	var out []screen.Pane
	for part, r := range places {
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
func (s *Screen) candidates(snap *explorer.Snapshot) []explorer.Candidate {
	all := s.all(snap)
	if s.find == "" {
		return all
	}
	var out []explorer.Candidate
	for _, c := range all {
		if widget.Contains(fmt.Sprintf("#%d %s %s ratio %.3f tier %d/%d", c.ID, c.Origin, c.Moves, c.Ratio, c.Tier, c.Tiers), s.find) {
			out = append(out, c)
		}
	}
	return out
}

// all are the rows of the population pane when none are hidden.
func (s *Screen) all(snap *explorer.Snapshot) []explorer.Candidate {
	if s.front {
		return snap.Search.Front
	}
	return snap.Search.Population
}

// Find narrows the table of candidates.
func (s *Screen) Find(text string) {
	s.find = text
	if rows := s.candidates(s.snap()); text != "" && len(rows) > 0 && s.cursor(rows) < 0 {
		s.chosen = rows[0].ID
	}
	if s.focus != partPopulation && text != "" {
		s.focus = partPopulation
	}
	s.Follow()
}

// Found returns the text that the candidates are narrowed by.
func (s *Screen) Found() (text string, n, of int) {
	return s.find, len(s.candidates(s.snap())), len(s.all(s.snap()))
}

// Next moves to the next candidate of the table.
func (s *Screen) Next(by int) { s.move(by) }

// selected is the candidate that actions are about; ok is false before there is one.
func (s *Screen) selected(snap *explorer.Snapshot) (c explorer.Candidate, ok bool) {
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

// Follow keeps the cursor on its candidate while the population changes under it.
func (s *Screen) Follow() {
	if c, ok := s.selected(s.snap()); !ok || c.ID != s.chosen {
		s.chosen = 0
	}
	s.list.At = max(0, s.cursor(s.candidates(s.snap())))
	s.watchBest()
}

// cursor returns the row of the selected candidate, -1 if it is not listed: what is highlighted is what keys act on.
func (s *Screen) cursor(rows []explorer.Candidate) int {
	selected, ok := s.selected(s.snap())
	if !ok {
		return -1
	}
	return slices.IndexFunc(rows, func(c explorer.Candidate) bool { return c.ID == selected.ID })
}

// Status returns live numbers for the footer.
func (s *Screen) Status() string {
	sr := s.snap().Search
	if sr.Evaluated == 0 {
		return ""
	}
	out := fmt.Sprintf("eval %d", sr.Evaluated)
	if sr.PerMinute > 0 && s.running() {
		out += fmt.Sprintf("  %.0f cand/min", sr.PerMinute)
	}
	return out
}

// job is the search's job while it has not ended.
func (s *Screen) job() (explorer.Job, bool) { return subnets.Searching(s.snap()) }

func (s *Screen) running() bool {
	j, ok := s.job()
	return ok && j.State == explorer.Running
}

// Back handles esc.
func (s *Screen) Back() (bool, tea.Cmd) {
	if s.chosen != 0 {
		s.chosen, s.list = 0, widget.List{}
		s.Follow()
		return true, nil
	}
	return false, nil
}

// Answer shows a candidate.
func (s *Screen) Answer(r screen.Request) (tea.Cmd, bool) {
	show, ok := r.(screen.ShowCandidate)
	if !ok {
		return nil, false
	}
	s.chosen = show.ID
	s.Follow()
	return s.host.Show(s.Name()), true
}

// readInTime is more than reading saved statistics takes, and less than gathering them on a model of some size.
const readInTime = 20 * time.Second

// Announce reports the end of a search and gathered statistics.
func (s *Screen) Announce(j explorer.Job) string {
	switch j.Kind {
	case explorer.JobSearch:
		sr := s.snap().Search
		ended := "the search ended after " + format.Counted(sr.Evaluated, "candidate")
		if n, ok := s.snap().Subnet(j.Result); ok {
			ended += ": " + text.Line(n.Name) + " is made"
			if f := n.Figure(); f.Relative > 0 {
				ended += ", " + text.Relative(f.Relative) + " × dense"
			}
		}
		if sr.Best == nil {
			return ended
		}
		return ended + "; " + s.host.Key("search.chat") + " on Search chats with the best"
	case explorer.JobStatistics:
		if j.Author == "" && j.Ended.Sub(j.Started) < readInTime {
			return "" // saved ones were read
		}
		return "statistics are gathered: units are ranked and edits are estimated"
	default: // nothing for the others
	}
	return ""
}

// move moves the cursor of the population.
func (s *Screen) move(by int) tea.Cmd {
	rows := s.candidates(s.snap())
	if len(rows) == 0 {
		return nil
	}
	if s.cursor(rows) < 0 && by > 0 {
		by-- // the first step makes the cursor visible
	}
	s.list.Move(by, len(rows))
	s.chosen = rows[s.list.At].ID
	return nil
}

// along moves along the Pareto front.
func (s *Screen) along(by int) tea.Cmd {
	front := s.snap().Search.Front
	if len(front) == 0 {
		return nil
	}
	c, _ := s.selected(s.snap())
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
		at = layout.Clamp(at+by, 0, len(front)-1)
	}
	s.chosen = front[at].ID
	s.Follow()
	return nil
}

// Mouse handles a mouse event inside a pane.
func (s *Screen) Mouse(p screen.Pane, e screen.MouseEvent) tea.Cmd {
	if p.ID == "search.tabs" {
		if i, ok := widget.TabAt(searchPartNames(), e.X); ok && e.Kind == screen.Click {
			s.focus = i
		}
		return nil
	}
	part := slices.Index(searchPartNames(), strings.TrimPrefix(p.ID, "search."))
	switch {
	case e.Kind == screen.Click:
		s.focus = part
		if part == partPopulation {
			if i := s.list.Top + e.Y - 2; e.Y >= 2 && i < len(s.candidates(s.snap())) {
				again := s.chosen == s.candidates(s.snap())[i].ID
				s.list.At, s.chosen = i, s.candidates(s.snap())[i].ID
				if again {
					return s.details()
				}
			}
		}
		if part == partChart {
			s.clickChart(p, e)
		}
	case e.Kind == screen.Wheel && part == partPopulation:
		return s.move(e.Delta)
	case e.Kind == screen.Wheel && part == partChart:
		return s.along(e.Delta)
	}
	return nil
}

// clickChart selects the candidate drawn nearest to a click, if it is one that is still known.
func (s *Screen) clickChart(p screen.Pane, e screen.MouseEvent) {
	var known []explorer.Candidate
	known = append(append(known, s.snap().Search.Front...), s.snap().Search.Population...)
	plot := s.plot(s.host.Theme(), s.snap())
	points := make([]chart.Point, len(known))
	for i, c := range known {
		points[i] = chart.Point{X: c.Ratio, Y: quality(s.snap().Search, c.Score.Perplexity(), c.Score.Fitness)}
	}
	if i := plot.Nearest(p.Rect.W-2, p.Rect.H-2, e.X-1, e.Y-1, points); i >= 0 {
		s.chosen = known[i].ID
		s.Follow()
	}
}

// quality is the value that the chart shows: perplexity where the search measures it, otherwise fitness.
func quality(sr explorer.Search, perplexity, fitness float64) float64 {
	if !showsPerplexity(sr) {
		return fitness
	}
	if perplexity <= 0 {
		return math.NaN()
	}
	if sr.DensePerplexity > 0 {
		return perplexity / sr.DensePerplexity
	}
	return perplexity
}

func showsPerplexity(sr explorer.Search) bool {
	return sr.DensePerplexity > 0 || sr.Best != nil && sr.Best.Score.Perplexity() > 0
}
