package tui

import (
	"fmt"
	"strconv"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
)

func searchActions() []*action {
	noCandidate := func(m *Model) string {
		if _, ok := m.search().selected(m.snap); !ok {
			return "no candidate was found yet"
		}
		return ""
	}
	noSearch := func(m *Model) string {
		if _, ok := m.search().job(m); !ok {
			return "no search runs"
		}
		return ""
	}
	with := func(then func(m *Model, id explorer.SubnetID) tea.Cmd) func(m *Model) tea.Cmd {
		return func(m *Model) tea.Cmd { return m.search().adopt(m, then) }
	}
	return []*action{
		{id: "search.toggle", scope: onSearch, keys: []string{"space"}, title: "Start, pause or resume the search", short: "start", changes: true,
			label: (*Model).searchToggleLabel, run: func(m *Model) tea.Cmd { return m.search().toggle(m) }},
		{id: "search.chat", scope: onSearch, keys: []string{"c"}, title: "Chat with the candidate, beside the dense model", short: "chat", changes: true, engine: true,
			help: "The one under the cursor, or the best one. It is put into the library first.", when: noCandidate, run: with((*Model).chatWith)},
		{id: "search.edit", scope: onSearch, keys: []string{"m"}, title: "Edit the candidate's masks", short: "masks", changes: true, when: noCandidate, run: with((*Model).editMasks)},
		{id: "search.adopt", scope: onSearch, keys: []string{"a"}, title: "Adopt the candidate into the library", short: "adopt", changes: true, when: noCandidate,
			run: with(func(m *Model, id explorer.SubnetID) tea.Cmd {
				m.say(levelInfo, subnetName(m.snap, id)+" is in the library")
				return nil
			})},
		{id: "search.target", scope: onSearch, keys: []string{"t"}, title: "Change the target size", short: "target", changes: true,
			help: "While a search runs it goes on from what it has; the front keeps everything found.", run: func(m *Model) tea.Cmd { return m.search().retarget(m) }},
		{id: "search.details", scope: onSearch, keys: []string{"enter"}, title: "Show the candidate's masks and lineage", short: "details", when: noCandidate,
			run: func(m *Model) tea.Cmd { return m.search().details(m) }},
		{id: "search.cut", scope: onSearch, keys: []string{"o"}, title: "Cut at once, without a search", short: "cut at once", changes: true, run: (*Model).cutForm},
		{id: "search.stop", scope: onSearch, keys: []string{"x"}, title: "Stop the search", short: "stop", changes: true, when: noSearch,
			run: func(m *Model) tea.Cmd {
				j, _ := m.search().job(m)
				return m.ask("stop", "The search ends. What it found stays, and it can be taken up again later.", "stop it", func(m *Model) tea.Cmd { return m.do(explorer.StopJob{Job: j.ID}, nil) })
			}},
		{id: "search.start", scope: onSearch, keys: []string{"s"}, title: "Start a search with other settings", changes: true, run: func(m *Model) tea.Cmd { return m.search().start(m) }},
		{id: "search.inject", scope: onSearch, keys: []string{"i"}, title: "Drop the masks in work into the population", changes: true, when: noSearch,
			run: func(m *Model) tea.Cmd {
				return m.do(explorer.Inject{Subnet: explorer.DraftID}, func(m *Model, _ explorer.Receipt) tea.Cmd {
					m.say(levelInfo, "your masks join the population; they are marked you")
					return nil
				})
			}},
		{id: "search.reform", scope: onSearch, keys: []string{"r"}, title: "Re-fit the candidate's weights", changes: true, when: noCandidate,
			run: with(func(m *Model, id explorer.SubnetID) tea.Cmd { return m.reform().of(m, id) })},
		{id: "search.bench", scope: onSearch, keys: []string{"b"}, title: "Benchmark the candidate against the dense model", changes: true, engine: true, when: noCandidate,
			run: with(func(m *Model, id explorer.SubnetID) tea.Cmd { return m.bench().form(m, []explorer.SubnetID{id}) })},
		{id: "search.gather", scope: onSearch, keys: []string{"g"}, title: "Gather statistics of the calibration text", changes: true,
			help: "Importance of units and estimates of edits come from them. A search gathers them by itself.", run: func(m *Model) tea.Cmd { return m.gatherForm() }},
		{id: "search.list", scope: onSearch, keys: []string{"f"}, title: "Show the front instead of the population", run: func(m *Model) tea.Cmd {
			s := m.search()
			s.front, s.focus = !s.front, partPopulation
			s.list = list{}
			s.follow(m)
			return nil
		}},
		{id: "search.log", scope: onSearch, keys: []string{"l"}, title: "Switch the chart between a logarithmic and a linear scale", run: func(m *Model) tea.Cmd {
			m.search().logY = !m.search().logY
			return nil
		}},
		{id: "search.copy", scope: onSearch, keys: []string{"y"}, title: "Copy the candidate's masks as text", when: noCandidate, run: func(m *Model) tea.Cmd {
			c, _ := m.search().selected(m.snap)
			masks, err := c.Masks.MarshalText()
			if err != nil {
				m.fail(err)
				return nil
			}
			return m.copy(string(masks), fmt.Sprintf("masks of candidate #%d", c.ID))
		}},
		{id: "search.down", scope: onSearch, keys: []string{"down", "j"}, title: "Next candidate", run: func(m *Model) tea.Cmd { return m.search().move(m, 1) }},
		{id: "search.up", scope: onSearch, keys: []string{"up", "k"}, title: "Previous candidate", run: func(m *Model) tea.Cmd { return m.search().move(m, -1) }},
		{id: "search.pagedown", scope: onSearch, keys: []string{"pgdown"}, title: "Ten candidates on", run: func(m *Model) tea.Cmd { return m.search().move(m, 10) }},
		{id: "search.pageup", scope: onSearch, keys: []string{"pgup"}, title: "Ten candidates back", run: func(m *Model) tea.Cmd { return m.search().move(m, -10) }},
		{id: "search.left", scope: onSearch, keys: []string{"left"}, title: "Smaller candidate on the front", run: func(m *Model) tea.Cmd { return m.search().along(m, -1) }},
		{id: "search.right", scope: onSearch, keys: []string{"right"}, title: "Larger candidate on the front", run: func(m *Model) tea.Cmd { return m.search().along(m, 1) }},
		{id: "search.next", scope: onSearch, keys: []string{"tab"}, title: "Next pane", run: func(m *Model) tea.Cmd { return m.search().turn(m, 1) }},
		{id: "search.previous", scope: onSearch, keys: []string{"shift+tab"}, title: "Previous pane", run: func(m *Model) tea.Cmd { return m.search().turn(m, -1) }},
	}
}

// turn moves the focus to another pane that is on the screen.
func (s *searchScreen) turn(m *Model, by int) tea.Cmd {
	parts := searchParts
	area := m.area().Body
	if !layout.Single(area) && layout.NewSearch(area).Events.Empty() {
		parts--
	}
	s.focus = (min(s.focus, parts-1) + by + parts) % parts
	return nil
}

func (m *Model) searchToggleLabel() string {
	j, ok := m.search().job(m)
	switch {
	case !ok:
		return "start"
	case j.State == explorer.Paused:
		return "resume"
	}
	return "pause"
}

// toggle starts, pauses or resumes the search.
func (s *searchScreen) toggle(m *Model) tea.Cmd {
	j, ok := s.job(m)
	switch {
	case !ok:
		return s.start(m)
	case j.State == explorer.Paused:
		return m.do(explorer.ResumeJob{Job: j.ID}, nil)
	case j.State == explorer.Yielded:
		m.say(levelInfo, "the search stands still while chat or bench has the cores, and goes on by itself")
		return nil
	}
	return m.do(explorer.PauseJob{Job: j.ID}, nil)
}

// adopt puts the selected candidate into the library, if it is not there yet, and goes on with it.
func (s *searchScreen) adopt(m *Model, then func(m *Model, id explorer.SubnetID) tea.Cmd) tea.Cmd {
	c, _ := s.selected(m.snap)
	for _, n := range m.snap.Subnets {
		if n.Origin == explorer.Searched && c.Masks.Layers() > 0 && n.Masks.Layers() == c.Masks.Layers() && n.Masks.Equal(c.Masks) {
			return then(m, n.ID)
		}
	}
	return m.do(explorer.Adopt{Candidate: c.ID}, func(m *Model, r explorer.Receipt) tea.Cmd {
		return m.when(r.Job, func(m *Model, j explorer.Job) tea.Cmd { return then(m, j.Result) })
	})
}

// retarget asks for another target size.
func (s *searchScreen) retarget(m *Model) tea.Cmd {
	if _, ok := s.job(m); !ok {
		return s.start(m)
	}
	return m.openForm(&form{
		title: "target", ok: "aim there", note: "The search goes on from what it has found.",
		entries: []*entry{textEntry("target", "share of block parameters", targetName(m.snap.Search.Target), "0.8, or 80 %", ratio)},
		submit:  func(m *Model, f *form) tea.Cmd { return m.do(explorer.Retarget{Target: f.number("target")}, nil) },
	})
}

// lastSearch is a search that can be taken up again.
type lastSearch struct {
	search explorer.StartSearch
	said   string        // what is told of it
	spent  time.Duration // of its time; what is asked for comes on top
	ended  bool          // as opposed to broken off
}

// last is the search that ended or was broken off last, of this process or an earlier one.
func (s *searchScreen) last(m *Model) (lastSearch, bool) {
	if _, runs := s.job(m); runs {
		return lastSearch{}, false
	}
	if e := m.snap.Ended; e != nil {
		said := fmt.Sprintf("at %s, ended %s after %s candidates", targetName(e.Target), e.At.Local().Format("2 Jan 15:04"), text.Count(float64(e.Evaluated)))
		return lastSearch{e.Search, said, e.Elapsed, true}, true
	}
	if u := m.snap.Unfinished; u != nil {
		return lastSearch{search: u.Search, said: "at " + targetName(u.Search.Target) + ", broken off by the end of the program"}, true
	}
	return lastSearch{}, false
}

// start asks for the settings of a search. One that is taken up again keeps its own: it only gets more time.
func (s *searchScreen) start(m *Model) tea.Cmd {
	last, resumable := s.last(m)
	was := last.search
	target, seed := was.Target, was.Seed
	if !resumable {
		target, seed = 0.8, 1
	}
	count := func(n int) string {
		if n == 0 {
			return ""
		}
		return itoa(n)
	}
	entries := []*entry{
		textEntry("target", "target", targetName(target), "share of block parameters to keep", ratio),
		textEntry("minutes", "minutes", "20", "how long it may take; empty: until you stop it", numberIn(0, 1e6)),
		choiceEntry("strategy", "strategy", orElse(was.Strategy, "ladder"), "ladder: levels made in advance; paper: masks as in the paper", "ladder", "paper", "random"),
		choiceEntry("fitness", "fitness", orElse(was.Fitness, "kl"), "kl: stay close to the dense model; perplexity: predict the text", "kl", "perplexity"),
		textEntry("text", "text", was.Calibration.Text, "calibration text: a file or a folder; empty: the default text", nil),
		textEntry("windows", "windows", count(was.Calibration.Windows), "windows of calibration text", countIn(1, 100000)),
		textEntry("seq", "window tokens", count(was.Calibration.Seq), "tokens per window", countIn(16, 1<<20)),
		textEntry("seed", "seed", strconv.FormatUint(seed, 10), "equal seeds give equal searches", countIn(0, 1<<30)),
	}
	if resumable {
		for _, e := range entries {
			e.hidden = func(f *form) bool { return f.yes("resume") && (e.id != "minutes" || !last.ended) }
		}
		entries = append([]*entry{toggleEntry("resume", "take up the last", true, last.said+"; no starts a new one and forgets it")}, entries...)
	}
	return m.openForm(&form{title: "search", ok: "start", entries: entries, submit: func(m *Model, f *form) tea.Cmd {
		more := 60 * f.number("minutes")
		if resumable && f.yes("resume") {
			c := was
			c.Resume = true
			if last.ended {
				c.Budget = explorer.Budget{}
				if more > 0 {
					c.Budget.Seconds = last.spent.Seconds() + more
				}
			}
			return m.do(c, nil)
		}
		return m.do(explorer.StartSearch{
			Strategy: f.get("strategy"), Target: f.number("target"), Fitness: f.get("fitness"), Seed: uint64(f.count("seed")),
			Budget:      explorer.Budget{Seconds: more},
			Calibration: explorer.Calibration{Text: f.get("text"), Windows: f.count("windows"), Seq: f.count("seq")},
		}, nil)
	}})
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// details shows a candidate's masks and where it comes from.
func (s *searchScreen) details(m *Model) tea.Cmd {
	c, ok := s.selected(m.snap)
	if !ok {
		return nil
	}
	do := func(id string) func(m *Model) tea.Cmd {
		return func(m *Model) tea.Cmd {
			s.chosen = c.ID
			return m.perform(m.action(id))
		}
	}
	m.open(&pager{title: fmt.Sprintf("candidate #%d", c.ID), wide: 96, lines: func(m *Model, w int) []string {
		t := m.theme
		rows := m.drawCandidate(t, c, w, 99)
		rows = append(rows, paint.Blank(w), line(w).Put(t.Title, "lineage").String())
		known := map[int]explorer.Candidate{}
		for _, l := range [][]explorer.Candidate{m.snap.Search.Front, m.snap.Search.Population} {
			for _, k := range l {
				known[k.ID] = k
			}
		}
		for at := c; ; {
			rows = append(rows, line(w).Num(t.Text, fmt.Sprintf("#%d", at.ID), 6).Put(t.Dim, fmt.Sprintf("  generation %-4d KL %.3f  %s", at.Generation, at.Score.KL, text.Line(at.Moves))).String())
			parent, ok := known[at.Parent]
			if !ok || parent.ID == at.ID || len(rows) > 200 {
				if at.Parent > 0 {
					rows = append(rows, line(w).Num(t.Dim, fmt.Sprintf("#%d", at.Parent), 6).Put(t.Dim, "  no longer known").String())
				}
				break
			}
			at = parent
		}
		if c.Masks.Layers() > 0 {
			rows = append(rows, paint.Blank(w), line(w).Put(t.Title, "masks").String())
			for i := range c.Masks.Layers() {
				rows = append(rows, layerLine(t, c.Masks, i, w))
			}
		}
		return rows
	}, more: []pagerAction{{"a", "adopt", do("search.adopt")}, {"c", "chat", do("search.chat")}, {"m", "edit masks", do("search.edit")}, {"r", "reform", do("search.reform")}, {"b", "bench", do("search.bench")}}})
	return nil
}

// gatherForm asks for the calibration text and gathers statistics.
func (m *Model) gatherForm() tea.Cmd {
	return m.openForm(&form{title: "statistics", ok: "gather", note: "Runs calibration text through the dense model once. Everything that ranks units comes from this.",
		entries: calibrationEntries(m), submit: func(m *Model, f *form) tea.Cmd {
			return m.do(explorer.GatherStatistics{Calibration: calibrationOf(f)}, nil)
		}})
}

// calibrationEntries are the entries that forms about calibration share.
func calibrationEntries(*Model) []*entry {
	return []*entry{
		textEntry("text", "text", "", "a file, or a folder of text files; empty: the default text", nil),
		textEntry("windows", "windows", "", "windows of calibration text; more is better and takes longer", countIn(1, 100000)),
		textEntry("seq", "window tokens", "", "tokens per window", countIn(16, 1<<20)),
	}
}

func calibrationOf(f *form) explorer.Calibration {
	return explorer.Calibration{Text: f.get("text"), Windows: f.count("windows"), Seq: f.count("seq")}
}

// copy sends text to the terminal's clipboard. Whether the terminal takes it cannot be known.
func (m *Model) copy(s, what string) tea.Cmd {
	const most = 74994 // what terminals accept, before encoding
	if len(s) > most*3/4 {
		m.say(levelWarning, fmt.Sprintf("%s: %s is more than terminals take; export it instead", what, text.Bytes(float64(len(s)))))
		return nil
	}
	m.say(levelInfo, what+": sent to the terminal")
	return tea.SetClipboard(s)
}
