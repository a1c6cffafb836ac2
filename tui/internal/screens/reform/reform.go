// Package reform is the screen that re-fits the weights of subnets.
package reform

import (
	"fmt"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
	"github.com/lathe-llm/lathe/tui/internal/action"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// A Screen re-fits the weights of subnets, makes one-shot cuts, and shows the progress layer by layer.
type Screen struct {
	costs  subnets.Costs
	host   screen.Host
	subnet explorer.SubnetID // what will be re-fitted; "" is the draft
	list   widget.List       // the layer that is shown in detail, and the scroll position of the layers
	find   string
	pinned bool // the user chose it: do not follow the running layer
}

// New returns the screen.
func New(host screen.Host) screen.Screen { return &Screen{host: host} }

// Name is the screen's name.
func (s *Screen) Name() string { return "reform" }

// Title is the name of its tab.
func (s *Screen) Title() string { return "Reform" }

func (s *Screen) snap() *explorer.Snapshot { return s.host.Snapshot() }

// cost returns what masks of the model cost.
func (s *Screen) cost(masks subnet.Masks) subnets.Cost {
	return s.costs.Of(masks, &s.snap().Model)
}

// Actions returns the table of actions on the screen.
func (s *Screen) Actions() []*action.Action {
	noJob := func() string {
		if _, ok := s.job(); !ok {
			return "nothing is being re-fitted"
		}
		return ""
	}
	noResult := func() string {
		switch n, ok := s.snap().Subnet(s.snap().Reform.Result); {
		case !ok:
			return "there is no result yet"
		case !n.Deleted.IsZero():
			return "the result is in the trash: " + s.host.Key("redo") + " brings it back"
		}
		return ""
	}
	result := func(run func(id explorer.SubnetID) tea.Cmd) func() tea.Cmd {
		return func() tea.Cmd { return run(s.snap().Reform.Result) }
	}
	return []*action.Action{
		{ID: "reform.stop", Keys: []string{"x"}, Title: "Stop re-fitting", Short: "stop", Changes: true, When: noJob, Run: func() tea.Cmd {
			j, _ := s.job()
			return widget.Stop(s.host, j)
		}},
		{ID: "reform.start", Keys: []string{"enter", "s"}, Title: "Re-fit the weights of the subnet", Short: "re-fit", Changes: true,
			Help: "Least squares on calibration text, layer by layer: the remaining weights compensate for the dropped ones.", Run: func() tea.Cmd { return s.form() }},
		{ID: "reform.subnet", Keys: []string{"o"}, Title: "Choose the subnet to re-fit", Short: "other subnet", Run: func() tea.Cmd {
			return subnets.Pick(s.host, "re-fit", []explorer.SubnetID{explorer.DraftID}, func(id explorer.SubnetID) tea.Cmd { s.subnet = id; return nil })
		}},
		{ID: "reform.cut", Keys: []string{"n"}, Title: "One-shot cut of the dense model, then a re-fit", Short: "one-shot cut", Changes: true, Run: s.cutForm},
		{ID: "reform.tune", Keys: []string{"t"}, Title: "Tune norms and channel scales of the subnet", Short: "tune", Changes: true,
			Help: "Trains a few numbers of the subnet end to end on the divergence from the dense model; its matrices stay as they are unless a rank is given.", Run: s.tuneForm},
		{ID: "reform.chat", Keys: []string{"c"}, Title: "Chat with the result, alongside the dense model", Short: "chat", Changes: true, Engine: true, When: noResult, Run: result(func(id explorer.SubnetID) tea.Cmd { return s.host.Ask(screen.ChatWith{Subnet: id}) })},
		{ID: "reform.bench", Keys: []string{"b"}, Title: "Benchmark the result against the dense model", Short: "bench", Changes: true, Engine: true, When: noResult,
			Run: result(func(id explorer.SubnetID) tea.Cmd {
				return s.host.Ask(screen.Benchmark{Subnets: []explorer.SubnetID{id}})
			})},
		{ID: "reform.edit", Keys: []string{"m"}, Title: "Edit the masks of the result", Short: "masks", Changes: true, When: noResult, Run: result(func(id explorer.SubnetID) tea.Cmd { return s.host.Ask(screen.EditMasks{Subnet: id}) })},
		{ID: "reform.export", Keys: []string{"e"}, Title: "Export the result as a GGUF file, a Hugging Face folder or a recipe", Short: "export", Changes: true, When: noResult, Run: result(func(id explorer.SubnetID) tea.Cmd { return subnets.Export(s.host, id) })},
		{ID: "reform.down", Keys: []string{"down", "j"}, Title: "Next layer", Run: func() tea.Cmd { return s.scroll(1) }},
		{ID: "reform.up", Keys: []string{"up", "k"}, Title: "Previous layer", Run: func() tea.Cmd { return s.scroll(-1) }},
		{ID: "reform.pagedown", Keys: []string{"pgdown", "ctrl+d"}, Title: "Ten layers down", Run: func() tea.Cmd { return s.scroll(10) }},
		{ID: "reform.pageup", Keys: []string{"pgup", "ctrl+u"}, Title: "Ten layers up", Run: func() tea.Cmd { return s.scroll(-10) }},
		{ID: "reform.first", Keys: []string{"home", "g"}, Title: "First layer", Run: func() tea.Cmd { return s.scroll(-1 << 20) }},
		{ID: "reform.last", Keys: []string{"end", "G"}, Title: "Last layer", Run: func() tea.Cmd { return s.scroll(1 << 20) }},
	}
}

// found reports whether the text to find is in the row of a layer.
func (s *Screen) found(i int) bool {
	l := s.snap().Reform.Layers[i]
	row := fmt.Sprintf("layer %d", i)
	for name, k := range map[string]*explorer.LayerProgress{"attention": l.Attention, "mlp": l.MLP} {
		switch {
		case k == nil:
			row += " no " + name + " yet"
		case k.Kept == k.Of:
			row += " " + name + " all kept"
		}
	}
	return widget.Contains(row, s.find)
}

// Find goes to the first layer that contains a text.
func (s *Screen) Find(text string) {
	if s.find = text; text != "" {
		s.list.At = min(s.list.At, max(0, len(s.snap().Reform.Layers)-1))
		if len(s.snap().Reform.Layers) > 0 && !s.found(s.list.At) {
			s.Next(1)
		}
	}
}

// Found returns the text that layers are found by.
func (s *Screen) Found() (text string, n, of int) {
	of = len(s.snap().Reform.Layers)
	for i := range of {
		if s.found(i) {
			n++
		}
	}
	return s.find, n, of
}

// Next goes to the next layer that is found.
func (s *Screen) Next(by int) {
	s.pinned = true
	s.list.At = widget.NextMatch(s.list.At, by, len(s.snap().Reform.Layers), s.found)
}

func (s *Screen) scroll(by int) tea.Cmd {
	s.pinned = true
	s.list.Move(by, len(s.snap().Reform.Layers))
	return nil
}

// target is the subnet that will be re-fitted.
func (s *Screen) target() explorer.SubnetID {
	if s.subnet == "" {
		return explorer.DraftID
	}
	return s.subnet
}

// job is the cut or re-fit that has not ended.
func (s *Screen) job() (explorer.Job, bool) {
	for _, j := range s.snap().Jobs {
		if makes(j) && !j.State.Ended() {
			return j, true
		}
	}
	return explorer.Job{}, false
}

// makes reports whether a job cuts, re-fits or tunes.
func makes(j explorer.Job) bool {
	return j.Kind == explorer.JobReform || j.Kind == explorer.JobCut || j.Kind == explorer.JobTune || j.Kind == explorer.JobQuantize
}

// Follow adjusts the screen to a new snapshot.
func (s *Screen) Follow() {
	if _, ok := subnets.Masks(s.snap(), s.subnet); s.subnet != "" && !ok {
		s.subnet = ""
	}
	if _, running := s.job(); !running {
		s.pinned = false
	}
	if s.pinned {
		return
	}
	for i, l := range s.snap().Reform.Layers {
		if l.Attention != nil || l.MLP != nil {
			s.list.At = i
		}
	}
}

// Status returns live numbers for the footer.
func (s *Screen) Status() string {
	if j, ok := s.job(); ok {
		return text.Line(j.Progress.Step)
	}
	return ""
}

// Back handles esc.
func (s *Screen) Back() (bool, tea.Cmd) { return false, nil }

// Mouse handles a mouse event inside a pane.
func (s *Screen) Mouse(p screen.Pane, e screen.MouseEvent) tea.Cmd {
	switch {
	case e.Kind == screen.Wheel:
		return s.scroll(e.Delta * 3)
	case e.Kind == screen.Click && p.ID == "reform.setting":
		return s.host.Perform("reform.subnet")
	case e.Kind == screen.Click && p.ID == "reform.layers" && e.Y >= 2:
		s.pinned = true
		s.list.At = min(s.list.Top+e.Y-2, max(0, len(s.snap().Reform.Layers)-1))
	}
	return nil
}

// Answer asks how to re-fit a subnet, or how to cut in one step.
func (s *Screen) Answer(r screen.Request) (tea.Cmd, bool) {
	switch r := r.(type) {
	case screen.Refit:
		s.subnet = r.Subnet
		return tea.Batch(s.host.Show(s.Name()), s.form()), true
	case screen.OneShot:
		return s.cutForm(), true
	}
	return nil, false
}

// Announce reports a subnet that was cut or re-fitted.
func (s *Screen) Announce(j explorer.Job) string {
	if !makes(j) || j.Result == "" || j.Kind == explorer.JobTune && s.snap().Reform.Result != j.Result { // tuning that gained nothing has a message of its own
		return ""
	}
	snap := s.snap()
	out := subnets.Name(snap, j.Result) + " is made"
	if n, ok := snap.Subnet(j.Result); ok {
		out += fmt.Sprintf(": ratio %.3f", n.Size.Ratio)
		if f := n.Figure(); f.Relative > 0 {
			out += ", " + text.Relative(f.Relative) + " × dense"
		}
		if n.Method.Kept != "" {
			out += "; the re-fit made it worse, so its " + n.Method.Kept + " weights are kept"
		}
	}
	return out + "; " + s.host.Key("reform.chat") + " on Reform chats with it"
}

// UndoLabel is the footer's word for undo here.
func (s *Screen) UndoLabel() string { return "take back" }

// RedoLabel is the footer's word for redo here.
func (s *Screen) RedoLabel() string { return "bring back" }

// CannotUndo returns why the result of the last re-fit cannot be taken back, or "".
func (s *Screen) CannotUndo() string {
	n, ok := s.snap().Subnet(s.snap().Reform.Result)
	if !ok || !n.Deleted.IsZero() {
		return "there is no result to take back"
	}
	return ""
}

// Undo moves the result of the last re-fit to the trash.
func (s *Screen) Undo() tea.Cmd {
	id := s.snap().Reform.Result
	name := subnets.Name(s.snap(), id)
	return s.host.Do(explorer.DeleteSubnet{Subnet: id}, func(_ explorer.Receipt) tea.Cmd {
		s.host.Note(explorer.Info, name+" is in the trash; "+s.host.Key("redo")+" here or "+s.host.Key("undo")+" on Library brings it back")
		return nil
	})
}

// gone returns the result of the last re-fit while it is in the trash.
func (s *Screen) gone() (explorer.Subnet, bool) {
	n, ok := s.snap().Subnet(s.snap().Reform.Result)
	return n, ok && !n.Deleted.IsZero()
}

// CannotRedo returns why no result can be brought back, or "".
func (s *Screen) CannotRedo() string {
	if _, ok := s.gone(); !ok {
		return "no result was taken back"
	}
	return ""
}

// Redo brings the result of the last re-fit back from the trash.
func (s *Screen) Redo() tea.Cmd {
	n, _ := s.gone()
	return s.host.Do(explorer.RestoreSubnet{Subnet: n.ID}, func(_ explorer.Receipt) tea.Cmd {
		s.host.Note(explorer.Info, text.Line(n.Name)+" is back in the library")
		return nil
	})
}

// form asks for the settings of a re-fit.
func (s *Screen) form() tea.Cmd {
	id := s.target()
	entries := append(subnets.RefitEntries("default", nil), subnets.GradientEntry(), widget.TextEntry("name", "name", "", "of the result in the library; empty: by how it is made", nil))
	entries = append(entries, subnets.FitEntries()...)
	subnets.ShowOwn(entries, s.snap().Model.Geometry, func(*widget.Form) string { return string(preset.Default) })
	command := func(f *widget.Form) explorer.Refit {
		return explorer.Refit{Subnet: id, Name: f.Get("name"), Calibration: subnets.CalibrationOf(f), Reform: subnets.WithGradient(f, subnets.RefitOf(f))}
	}
	return s.host.Open(&widget.Form{Title: "re-fit " + subnets.Name(s.snap(), id), OK: "start", Stays: true, Entries: entries,
		NoteOf: func(f *widget.Form) string { return subnets.Expected(s.snap(), command(f)) },
		Submit: func(f *widget.Form) tea.Cmd {
			return f.Send(s.host, command(f), func(_ explorer.Receipt) tea.Cmd { return s.host.Show(s.Name()) })
		}})
}

// presetsOwn is the choice that leaves a setting to the preset.
const presetsOwn = "preset's own"

// cutForm asks for a one-shot cut and starts it.
func (s *Screen) cutForm() tea.Cmd {
	attention := widget.ChoiceEntry("attention", "KV groups", presetsOwn, "drop: drops KV groups too, which shrinks the KV cache; keep: only MLP channels; default: KV groups only if MLP channels alone do not reach the ratio", presetsOwn, "drop", "keep")
	granularity := subnets.GranularityEntry("32")
	layers := func(f *widget.Form) bool { return preset.DropsLayers(f.Get("preset")) }
	attention.Hidden, granularity.Hidden = layers, layers
	entries := append([]*widget.Entry{
		subnets.TargetEntry("target", "0.80", false),
		widget.ChoiceEntry("preset", "preset", "", "how units are selected; allocated, the best known one here: by measured sensitivity of layers", explorer.Presets()...),
		widget.TextEntry("tune", "tune", tuneDefault, fmt.Sprintf("tunes norms and channel scales afterwards: steps such as %dsteps, a time such as 10m, or off; default: %[1]d steps with the default preset and windows, otherwise off", explorer.DefaultTuneSteps), tuning),
	}, subnets.FitEntries()...)
	entries = append(entries, widget.TextEntry("name", "name", "", "of the result in the library; empty: by how it is made", nil), attention, granularity)
	rank := rankEntry("tune-rank", "tuning rank")
	rank.Hidden = func(f *widget.Form) bool { return f.Get("tune") == tuneOff }
	entries = append(append(entries, subnets.RefitEntries(presetsOwn, nil)...), subnets.GradientEntry(), rank)
	subnets.ShowOwn(entries, s.snap().Model.Geometry, func(f *widget.Form) string { return f.Get("preset") })
	attention.Own = func(*widget.Form) string { return "keep, as long as MLP channels are enough" }
	command := func(f *widget.Form) explorer.Cut {
		c := explorer.Cut{Preset: f.Get("preset"), Name: f.Get("name"), Calibration: subnets.CalibrationOf(f), Reform: subnets.WithGradient(f, subnets.RefitOf(f))}
		if c.Within = subnets.TargetOf(f); c.Within.Measure == search.Params {
			c.Target, c.Within = c.Within.Value, search.Target{}
		}
		if !layers(f) {
			c.Granularity = f.Count("granularity")
			if v := f.Get("attention"); v != presetsOwn {
				drop := v == "drop"
				c.Attention = &drop
			}
		}
		c.Tuning = tuningOf(f, c)
		return c
	}
	const note = "Chooses units by the statistics of the calibration text, then re-fits the remaining weights layer by layer."
	return s.host.Open(&widget.Form{Title: "one-shot cut", OK: "cut", Stays: true, Entries: entries,
		NoteOf: func(f *widget.Form) string {
			c := command(f)
			about := strings.TrimSpace(note + " " + subnets.Expected(s.snap(), c))
			if f.Get("tune") == tuneDefault && !c.Tuning.On() {
				about += " Not tuned: by default only the default preset with the default windows is."
			}
			return about
		},
		Submit: func(f *widget.Form) tea.Cmd {
			return f.Send(s.host, command(f), func(_ explorer.Receipt) tea.Cmd { return s.host.Show(s.Name()) })
		}})
}

// Panes lays the screen out.
func (s *Screen) Panes(area layout.Rect) []screen.Pane {
	snap := s.snap()
	first, second := layout.Side(area, 44, 9)
	rev := max(snap.Sections[explorer.SectionReform], snap.Sections[explorer.SectionJobs], snap.Sections[explorer.SectionSubnets], snap.Sections[explorer.SectionDraft], snap.Sections[explorer.SectionModel])
	first, second, detail := splitLayers(first, second, snap.Reform.Layers)
	s.list.Clamp(len(snap.Reform.Layers), max(1, second.H-3))
	j, running := s.job()
	elapsed := int64(0)
	if running && !j.Started.IsZero() {
		elapsed = int64(s.host.Now().Sub(j.Started).Seconds())
	}
	panes := []screen.Pane{
		{ID: "reform.setting", Rect: first, Rev: rev, State: struct {
			id      explorer.SubnetID
			elapsed int64
		}{s.target(), elapsed}, Draw: func(t *theme.Theme, w, h int) []string { return s.drawSetting(t, w, h, elapsed) }},
		{ID: "reform.layers", Rect: second, Rev: rev, State: s.list, Draw: func(t *theme.Theme, w, h int) []string { return s.drawLayers(t, w, h) }},
	}
	if !detail.Empty() {
		panes = append(panes, screen.Pane{ID: "reform.layer", Rect: detail, Rev: rev, State: s.list.At, Draw: func(t *theme.Theme, w, h int) []string { return s.drawLayer(t, w, h) }})
	}
	return panes
}

// drawSetting draws the subnet to re-fit or the progress of the re-fit, and the last result.
func (s *Screen) drawSetting(t *theme.Theme, w, h int, elapsed int64) []string {
	snap, rf := s.snap(), s.snap().Reform
	j, running := s.job()
	return widget.Box(t, paint.Frame{Title: "reform", Focused: true}, w, h, func(w, h int) []string {
		var rows []string
		add := func(label string, forms ...string) {
			if len(rows) < h {
				rows = append(rows, widget.Fact(t, w, label, forms...)...)
			}
		}
		if running {
			rows = append(rows, widget.Line(w).Put(t.Good, text.Line(j.Title)).String(),
				widget.Line(w).Put(t.Accent, t.Glyph.HBar(j.Progress.Fraction(), max(4, w-10))).Right(t.Dim, text.Percent(j.Progress.Fraction())+" ").String())
			for i, l := range text.Wrap(text.Line(j.Progress.Step), max(1, w-widget.FactLabel-2)) {
				label := ""
				if i == 0 {
					label = "now"
				}
				add(label, l)
			}
			if j.Progress.Unit == explorer.TuningUnit && len(rows) < h {
				rows = append(rows, widget.Line(w).Pad(1+widget.FactLabel).Put(t.Dim, "lower is nearer to dense").String())
			}
			add("running", format.Clock(time.Duration(elapsed)*time.Second))
			if j.State != explorer.Running {
				state := string(j.State)
				if what := snap.Awaits(j); what != "" {
					state = "waits for " + text.Line(what)
				}
				add("state", state)
			}
		} else {
			id := s.target()
			add("subnet", subnets.Name(snap, id))
			if masks, ok := subnets.Masks(snap, id); ok {
				r := s.cost(masks).Size.Ratio
				add("ratio", fmt.Sprintf("%.3f of block parameters", r), fmt.Sprintf("%.3f of the blocks", r))
			}
			if h >= 9 {
				rows = append(rows, paint.Blank(w))
			}
			enter := s.host.Key("reform.start")
			rows = append(rows, widget.Line(w).Put(t.Key, enter).Put(t.KeyText, " re-fits its weights").String())
		}
		if n, gone := s.gone(); gone {
			if h >= 9 {
				rows = append(rows, paint.Blank(w))
			}
			if len(rows) < h {
				rows = append(rows, widget.Paragraph(w, t.Dim, text.Line(n.Name)+" is in the trash.")...)
			}
			if len(rows) < h {
				rows = append(rows, widget.Line(w).Put(t.Key, s.host.Key("redo")).Put(t.KeyText, " brings it back").String())
			}
		} else if (rf.Result != "" || len(rf.Layers) > 0 && (!running || rf.Job != j.ID)) && len(rows) < h {
			if h >= 9 {
				rows = append(rows, paint.Blank(w), widget.Line(w).Put(t.Title, "last").String())
			}
			rows = append(rows, outcome(t, rf, w)...)
			if g := rf.General; g.Dense > 0 && g.After > 0 {
				both := fmt.Sprintf("%s × dense, %s ppl", text.Relative(g.After/g.Dense), text.Perplexity(g.After))
				add("general", both+" on the default text", both)
			}
			if rf.Result != "" {
				add("result", subnets.Name(snap, rf.Result))
			}
			if rf.Of != "" {
				add("of", subnets.Name(snap, rf.Of))
			}
			if rf.Method.Seconds > 0 {
				add("took", text.Short(text.Seconds(rf.Method.Seconds)))
			}
			if u := rf.Method.Tune; u != nil {
				from := fmt.Sprintf("%.3f %s %.3f", u.Before, t.Glyph.Right, u.After)
				add("tuned", "divergence "+from+" in "+subnets.TunedBy(u), from+subnets.WithRank(u), from)
			}
			short := rf.Method
			short.Pull, short.Steps = false, 0
			add("method", subnets.MethodName(rf.Method), subnets.MethodName(short))
			if rf.Method.Steps > 0 {
				add("admm", fmt.Sprintf("rho %.3g, %s", rf.Method.Rho, format.Counted(rf.Method.Steps, "step")))
			}
			if rf.Method.Windows > 0 {
				add("calibration", fmt.Sprintf("%d × %d tokens", rf.Method.Windows, rf.Method.Seq))
			}
			if rf.Result != "" && s.CannotUndo() == "" && len(rows) < h {
				rows = append(rows, widget.Line(w).Put(t.Key, s.host.Key("undo")).Put(t.KeyText, " takes it back").String())
			}
		}
		return rows
	})
}

// outcome describes the perplexity before and after the re-fit, relative to the dense model's on the same tokens. A re-fit
// that made it worse is in red.
func outcome(t *theme.Theme, rf explorer.Reform, w int) []string {
	if rf.Before <= 0 || rf.After <= 0 {
		return nil
	}
	after, style := rf.After, t.Good
	if rf.Rejected > 0 {
		after, style = rf.Rejected, t.Bad
	}
	number := text.Perplexity
	unit := " ppl"
	if rf.Dense > 0 {
		number, unit = func(v float64) string { return text.Relative(v / rf.Dense) }, " × dense"
	}
	rows := []string{widget.Line(w).Col(t.Dim, "held-out", widget.FactLabel).Put(t.Text, number(rf.Before)+" "+t.Glyph.Right+" ").Put(style, number(after)+unit).String()}
	if rf.Dense > 0 {
		rows = append(rows, widget.Line(w).Col(t.Dim, "", widget.FactLabel).Put(t.Dim, "ppl "+text.Perplexity(rf.Before)+" "+t.Glyph.Right+" "+text.Perplexity(after)).String())
	}
	if rf.Rejected > 0 {
		rows = append(rows, widget.Line(w).Put(t.Bad, "Worse: the "+rf.Method.Kept+" weights are kept").String())
	}
	return rows
}
