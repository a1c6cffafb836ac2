package search

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/tui/internal/action"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// Actions returns the table of actions on the screen.
func (s *Screen) Actions() []*action.Action {
	noCandidate := func() string {
		if _, ok := s.selected(s.snap()); !ok {
			return "no candidate was found yet"
		}
		return ""
	}
	noSearch := func() string {
		if _, ok := s.job(); !ok {
			return "no search runs"
		}
		return ""
	}
	with := func(then func(id explorer.SubnetID) tea.Cmd) func() tea.Cmd {
		return func() tea.Cmd { return s.adopt(then) }
	}
	return []*action.Action{
		{ID: "search.toggle", Keys: []string{"space"}, Title: "Start, pause or resume the search", Short: "start", Changes: true,
			Label: s.toggleLabel, Run: func() tea.Cmd { return s.toggle() }},
		{ID: "search.chat", Keys: []string{"c"}, Title: "Chat with the candidate, alongside the dense model", Short: "chat", Changes: true, Engine: true,
			Help: "The candidate under the cursor, or the best one. It is added to the library first.", When: noCandidate, Run: with(func(id explorer.SubnetID) tea.Cmd { return s.host.Ask(screen.ChatWith{Subnet: id}) })},
		{ID: "search.edit", Keys: []string{"m"}, Title: "Edit the candidate's masks", Short: "masks", Changes: true, When: noCandidate, Run: with(func(id explorer.SubnetID) tea.Cmd { return s.host.Ask(screen.EditMasks{Subnet: id}) })},
		{ID: "search.adopt", Keys: []string{"a"}, Title: "Adopt the candidate into the library", Short: "adopt", Changes: true, When: noCandidate,
			Run: with(func(id explorer.SubnetID) tea.Cmd {
				s.host.Note(explorer.Info, subnets.Name(s.snap(), id)+" is in the library")
				return nil
			})},
		{ID: "search.target", Keys: []string{"t"}, Title: "Change the target of the running search", Short: "target", Changes: true, When: s.noTarget,
			Help: "It continues from its population; the front keeps everything found.", Run: func() tea.Cmd { return s.retarget() }},
		{ID: "search.details", Keys: []string{"enter"}, Title: "Show the candidate's masks and lineage", Short: "details", When: noCandidate,
			Run: func() tea.Cmd { return s.details() }},
		{ID: "search.cut", Keys: []string{"o"}, Title: "One-shot cut, without a search", Short: "one-shot cut", Changes: true, Run: func() tea.Cmd { return s.host.Ask(screen.OneShot{}) }},
		{ID: "search.stop", Keys: []string{"x"}, Title: "Stop the search", Short: "stop", Changes: true, When: noSearch,
			Run: func() tea.Cmd {
				j, _ := s.job()
				return widget.Stop(s.host, j)
			}},
		{ID: "search.start", Keys: []string{"s"}, Title: "Start a search with other settings", Changes: true, Run: func() tea.Cmd { return s.start() }},
		{ID: "search.inject", Keys: []string{"i"}, Title: "Inject the draft into the population", Changes: true, When: noSearch,
			Help: "It keeps its masks, and its re-fitted weights if the strategy has levels; mutations replace its modules by levels.",
			Run: func() tea.Cmd {
				return s.host.Do(explorer.Inject{Subnet: explorer.DraftID}, func(_ explorer.Receipt) tea.Cmd {
					s.host.Note(explorer.Info, "the draft is in the population, marked as yours")
					return nil
				})
			}},
		{ID: "search.reform", Keys: []string{"r"}, Title: "Re-fit the candidate's weights", Changes: true, When: noCandidate,
			Run: with(func(id explorer.SubnetID) tea.Cmd { return s.host.Ask(screen.Refit{Subnet: id}) })},
		{ID: "search.bench", Keys: []string{"b"}, Title: "Benchmark the candidate against the dense model", Changes: true, Engine: true, When: noCandidate,
			Run: with(func(id explorer.SubnetID) tea.Cmd {
				return s.host.Ask(screen.Benchmark{Subnets: []explorer.SubnetID{id}})
			})},
		{ID: "search.prompt", Keys: []string{"p"}, Title: "Change the prompt that new best candidates answer", Changes: true, Engine: true, When: noSearch,
			Help: "The dense model and each new best candidate answer it while the search runs, in at most 3 % of the time. An empty prompt ends the answers.",
			Run:  func() tea.Cmd { return s.askPrompt() }},
		{ID: "search.workers", Keys: []string{"w"}, Title: "Show the workers of the search or another job", When: s.noWorkers, Run: func() tea.Cmd { return s.showWorkers() }},
		{ID: "search.drain", Keys: []string{"d"}, Title: "Have a worker finish its task and leave", Changes: true, When: s.noWorkers, Run: func() tea.Cmd { return s.drain() }},
		{ID: "search.gather", Keys: []string{"S"}, Title: "Gather statistics on the calibration text", Changes: true, Remedies: explorer.ErrNoStatistics,
			Help: "Unit importance and edit estimates come from them.", Run: func() tea.Cmd { return s.gatherForm() }},
		{ID: "search.list", Keys: []string{"f"}, Title: "Show the front instead of the population", Run: func() tea.Cmd {
			s := s
			s.front, s.focus = !s.front, partPopulation
			s.list = widget.List{}
			s.Follow()
			return nil
		}},
		{ID: "search.log", Keys: []string{"l"}, Title: "Switch the chart between a logarithmic and a linear scale", Run: func() tea.Cmd {
			s.logY = !s.logY
			return nil
		}},
		{ID: "search.zoom", Keys: []string{"+"}, Title: "Zoom the chart to the population, or out to the dense model", Run: func() tea.Cmd {
			s.near = !s.near
			return nil
		}},
		{ID: "search.copy", Keys: []string{"y"}, Title: "Copy the candidate's masks as text", When: noCandidate, Run: func() tea.Cmd {
			c, _ := s.selected(s.snap())
			return subnets.CopyMasks(s.host, c.Masks, fmt.Sprintf("masks of candidate #%d", c.ID))
		}},
		{ID: "search.down", Keys: []string{"down", "j"}, Title: "Next candidate", Run: func() tea.Cmd { return s.move(1) }},
		{ID: "search.up", Keys: []string{"up", "k"}, Title: "Previous candidate", Run: func() tea.Cmd { return s.move(-1) }},
		{ID: "search.pagedown", Keys: []string{"pgdown", "ctrl+d"}, Title: "Ten candidates down", Run: func() tea.Cmd { return s.move(10) }},
		{ID: "search.pageup", Keys: []string{"pgup", "ctrl+u"}, Title: "Ten candidates up", Run: func() tea.Cmd { return s.move(-10) }},
		{ID: "search.first", Keys: []string{"home", "g"}, Title: "First candidate", Run: func() tea.Cmd { return s.move(-1 << 20) }},
		{ID: "search.last", Keys: []string{"end", "G"}, Title: "Last candidate", Run: func() tea.Cmd { return s.move(1 << 20) }},
		{ID: "search.left", Keys: []string{"left"}, Title: "Smaller candidate on the front", Run: func() tea.Cmd { return s.along(-1) }},
		{ID: "search.right", Keys: []string{"right"}, Title: "Larger candidate on the front", Run: func() tea.Cmd { return s.along(1) }},
		{ID: "search.next", Keys: []string{"tab"}, Title: "Next pane", Run: func() tea.Cmd { return s.turn(1) }},
		{ID: "search.previous", Keys: []string{"shift+tab"}, Title: "Previous pane", Run: func() tea.Cmd { return s.turn(-1) }},
	}
}

// turn moves the focus to another pane.
func (s *Screen) turn(by int) tea.Cmd {
	s.focus = (s.focus + by + searchParts) % searchParts
	return nil
}

func (s *Screen) toggleLabel() string {
	j, ok := s.job()
	switch {
	case !ok:
		return "start"
	case j.State == explorer.Paused:
		return "resume"
	}
	return "pause"
}

// toggle starts, pauses or resumes the search.
func (s *Screen) toggle() tea.Cmd {
	j, ok := s.job()
	switch {
	case !ok:
		return s.start()
	case j.State == explorer.Paused:
		return s.host.Do(explorer.ResumeJob{Job: j.ID}, nil)
	case j.State == explorer.Yielded:
		what := "another job"
		if awaited := s.snap().Awaits(j); awaited != "" {
			what = awaited
		}
		s.host.Note(explorer.Info, "the search waits for "+what+", and resumes by itself")
		return nil
	}
	return s.host.Do(explorer.PauseJob{Job: j.ID}, nil)
}

// adopt adds the selected candidate to the library, unless it is there already, and then runs a function on it: the one with
// re-fitted weights, where there is one.
func (s *Screen) adopt(then func(id explorer.SubnetID) tea.Cmd) tea.Cmd {
	c, _ := s.selected(s.snap())
	if n, ok := s.snap().Kept(c); ok {
		return then(n.ID)
	}
	return s.host.Do(explorer.Adopt{Candidate: c.ID}, func(r explorer.Receipt) tea.Cmd {
		return s.host.AfterJob(r.Job, func(j explorer.Job) tea.Cmd { return then(j.Result) })
	})
}

// noTarget returns why there is no target to change, or "".
func (s *Screen) noTarget() string {
	if _, ok := s.job(); !ok {
		return "no search runs: " + s.host.Key("search.toggle") + " starts one"
	}
	return ""
}

// retarget asks for another target.
func (s *Screen) retarget() tea.Cmd {
	now := s.snap().Search.Target
	if u := s.snap().Unfinished; u != nil { // before the first candidates too
		now = cmp.Or(u.Search.Retarget, u.Search.Target, now)
	}
	return s.host.Open(&widget.Form{
		Title: "target", OK: "set", Note: "The search continues from what it has found.", Stays: true,
		Entries: []*widget.Entry{subnets.TargetEntry("target", explorer.TargetName(now), false)},
		Submit: func(f *widget.Form) tea.Cmd {
			return f.Send(s.host, explorer.Retarget{Target: subnets.TargetOf(f)}, func(explorer.Receipt) tea.Cmd {
				note := "the search continues with the target " + explorer.TargetName(subnets.TargetOf(f))
				if j, ok := s.job(); ok && j.State == explorer.Paused {
					note += " when it is resumed"
				}
				s.host.Note(explorer.Info, note)
				return nil
			})
		},
	})
}

// lastSearch is a search that can be resumed.
type lastSearch struct {
	search  explorer.StartSearch
	summary string        // where it ended
	spent   time.Duration // of its time; the time asked for is added
	ended   bool          // as opposed to interrupted
}

// last is the newest search that ended or was interrupted, in this process or an earlier one.
func (s *Screen) last() (lastSearch, bool) {
	if _, runs := s.job(); runs {
		return lastSearch{}, false
	}
	if e := s.snap().Ended; e != nil {
		summary := fmt.Sprintf("at %s, ended %s after %s candidates", explorer.TargetName(e.Target), e.At.Local().Format("2 Jan 15:04"), format.Count(float64(e.Evaluated)))
		return lastSearch{e.Search, summary, e.Elapsed, true}, true
	}
	if u := s.snap().Unfinished; u != nil {
		return lastSearch{search: u.Search, summary: "at " + explorer.TargetName(u.Search.Target) + ", interrupted by the end of the program"}, true
	}
	return lastSearch{}, false
}

// ownTypes leaves matrices in the types of the model.
const ownTypes = "as the model"

// typesOf returns the types that are searched.
func typesOf(f *widget.Form) []string {
	if t := f.Get("types"); t != ownTypes && t != "" {
		return strings.Split(t, ",")
	}
	return nil
}

// defaultFitness leaves the fitness to the strategy.
const defaultFitness = "default"

// start asks for the settings of a search. A resumed one keeps its settings and only gets more time.
func (s *Screen) start() tea.Cmd {
	last, resumable := s.last()
	was := last.search
	target, seed := was.Target, was.Seed
	if !resumable {
		target, seed = search.Ratio(0.8), 1
	}
	count := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	entries := []*widget.Entry{
		subnets.TargetEntry("target", explorer.TargetName(target), false),
		widget.TextEntry("minutes", "minutes", "20", "limit of the time; empty: until you stop it", widget.NumberIn(0, 1e6)),
		widget.ChoiceEntry("strategy", "strategy", cmp.Or(was.Strategy, "ladder"), "ladder: levels computed in advance; paper: the evolution of masks of arXiv 2409.17372; paper+: paper, re-fitted as ladder is; paper-laptop: a smaller paper", search.Names()...),
		widget.ChoiceEntry("fitness", "fitness", cmp.Or(was.Fitness, defaultFitness), "kl: divergence from the dense model; perplexity: on the text; default: kl, or perplexity with the paper's strategies", defaultFitness, "kl", "perplexity"),
		subnets.TextEntry(was.Calibration),
		widget.TextEntry("windows", "windows", count(was.Calibration.Windows), "windows of calibration text; empty: 8, or with a time limit as many as there is time for", widget.CountIn(1, 100000)),
		widget.TextEntry("seq", "window tokens", count(was.Calibration.Seq), "tokens per window; empty: 2048", widget.CountIn(16, 1<<20)),
		widget.TextEntry("seed", "seed", strconv.FormatUint(seed, 10), "equal seeds give equal searches", widget.CountIn(0, 1<<30)),
		widget.TextEntry("set", "settings", was.Set, "of the strategy, such as population=20,alpha=0.9; empty: those of the strategy", nil),
		widget.ChoiceEntry("types", "types", cmp.Or(strings.Join(was.Types, ","), ownTypes), "auto: types of matrices are searched together with widths, for a size or a memory; as the model: each matrix keeps its type", ownTypes, explorer.AutoTypeName),
		widget.TextEntry("vocab", "vocabulary", was.Vocab.String(), "tokens to keep such as 24000, a share of the tokens such as 0.999, or auto to search it too; empty: all", subnets.CheckVocab),
		subnets.GranularityEntry("32, or 1 with the strategies paper and paper+"),
		promptEntry(cmp.Or(was.Prompt, explorer.DefaultPrompt)),
		widget.ToggleEntry("fitting", "re-fit settings", false, "how the weights of the result are re-fitted; no: by the strategy's settings"),
	}
	for _, e := range entries {
		if e.ID == "prompt" {
			e.Hidden = func(*widget.Form) bool { return s.snap().Model.NoRuntime != "" }
		}
	}
	entries = append(entries, subnets.ComputeEntries(was.Calibration)...)
	entries = append(entries, machinesEntries(was.Machines)...)
	entries = append(entries, subnets.RefitEntries("strategy's own", func(f *widget.Form) bool { return !f.Yes("fitting") })...)
	if resumable {
		for _, e := range entries {
			hidden := e.Hidden
			e.Hidden = func(f *widget.Form) bool {
				return f.Yes("resume") && (e.ID != "minutes" || !last.ended) || hidden != nil && hidden(f)
			}
		}
		entries = append([]*widget.Entry{widget.ToggleEntry("resume", "resume the last", true, last.summary+"; no discards it and starts a new one")}, entries...)
	}
	return s.host.Open(&widget.Form{Title: "search", OK: "start", Stays: true, Entries: entries, Submit: func(f *widget.Form) tea.Cmd {
		more := 60 * f.Number("minutes")
		if resumable && f.Yes("resume") {
			c := was
			c.Resume, c.Target = true, search.Target{} // it has one
			if last.ended {
				c.Budget = explorer.Budget{}
				if more > 0 {
					c.Budget.Seconds = last.spent.Seconds() + more
				}
			}
			return f.Send(s.host, c, nil)
		}
		fitness := f.Get("fitness")
		if fitness == defaultFitness {
			fitness = ""
		}
		var refit explorer.ReformOptions
		if f.Yes("fitting") {
			refit = subnets.RefitOf(f)
		}
		return f.Send(s.host, explorer.StartSearch{
			Granularity: f.Count("granularity"), Reform: refit, Types: typesOf(f), Vocab: subnets.VocabOf(f),
			Strategy: f.Get("strategy"), Target: subnets.TargetOf(f), Fitness: fitness, Set: f.Get("set"), Seed: uint64(f.Count("seed")),
			Budget:      explorer.Budget{Seconds: more},
			Machines:    machinesOf(f),
			Prompt:      s.promptOf(f),
			Calibration: subnets.CalibrationOf(f),
		}, nil)
	}})
}

// details shows a candidate's masks and where it comes from.
func (s *Screen) details() tea.Cmd {
	c, ok := s.selected(s.snap())
	if !ok {
		return nil
	}
	do := func(id string) func() tea.Cmd {
		return func() tea.Cmd {
			s.chosen = c.ID
			return s.host.Perform(id)
		}
	}
	s.host.Open(&widget.Pager{Title: fmt.Sprintf("candidate #%d", c.ID), Width: 96, Lines: func(w int) []string {
		t := s.host.Theme()
		rows := s.drawCandidate(t, c, w)
		rows = append(rows, paint.Blank(w), widget.Line(w).Put(t.Title, "lineage").String())
		known := map[int]explorer.Candidate{}
		for _, l := range [][]explorer.Candidate{s.snap().Search.Front, s.snap().Search.Population} {
			for _, k := range l {
				known[k.ID] = k
			}
		}
		for at := c; ; {
			rows = append(rows, widget.Line(w).Num(t.Text, fmt.Sprintf("#%d", at.ID), 6).Put(t.Dim, fmt.Sprintf("  generation %-4d KL %.3f  %s", at.Generation, at.Score.KL, text.Line(at.Moves))).String())
			parent, ok := known[at.Parent]
			if !ok || parent.ID == at.ID || len(rows) > 200 {
				if at.Parent > 0 {
					rows = append(rows, widget.Line(w).Num(t.Dim, fmt.Sprintf("#%d", at.Parent), 6).Put(t.Dim, "  no longer available").String())
				}
				break
			}
			at = parent
		}
		if c.Masks.Layers() > 0 {
			rows = append(rows, paint.Blank(w), widget.Line(w).Put(t.Title, "masks").String())
			for i := range c.Masks.Layers() {
				rows = append(rows, subnets.LayerRow(t, c.Masks, i, w))
			}
		}
		return rows
	}, More: []widget.PagerAction{{Key: "a", Label: "adopt", Run: do("search.adopt")}, {Key: "c", Label: "chat", Run: do("search.chat")}, {Key: "m", Label: "edit masks", Run: do("search.edit")}, {Key: "r", Label: "reform", Run: do("search.reform")}, {Key: "b", Label: "bench", Run: do("search.bench")}}})
	return nil
}

// gatherForm asks for the calibration text and gathers statistics.
func (s *Screen) gatherForm() tea.Cmd {
	return s.host.Open(&widget.Form{Title: "statistics", OK: "gather", Stays: true, Note: "Runs the calibration text through the dense model once. All rankings of units come from these statistics.",
		Entries: append(subnets.CalibrationEntries("8", "2048"), piecesEntries(explorer.Machines{}, "gather layers")...), Submit: func(f *widget.Form) tea.Cmd {
			return f.Send(s.host, explorer.GatherStatistics{Calibration: subnets.CalibrationOf(f), Machines: piecesOf(f)}, nil)
		}})
}
