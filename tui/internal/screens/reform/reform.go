// Package reform is the screen that re-fits the weights of subnets.
package reform

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
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
	list   widget.List       // scroll position of the layers
	pinned bool              // the user scrolled: do not follow the running layer
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
		if _, ok := s.snap().Subnet(s.snap().Reform.Result); !ok {
			return "there is no result yet"
		}
		return ""
	}
	result := func(run func(id explorer.SubnetID) tea.Cmd) func() tea.Cmd {
		return func() tea.Cmd { return run(s.snap().Reform.Result) }
	}
	return []*action.Action{
		{ID: "reform.start", Keys: []string{"enter", "s"}, Title: "Re-fit the weights of the subnet", Short: "re-fit", Changes: true,
			Help: "Least squares on calibration text, layer by layer: the remaining weights compensate for the dropped ones.", Run: func() tea.Cmd { return s.form() }},
		{ID: "reform.subnet", Keys: []string{"o"}, Title: "Choose the subnet to re-fit", Short: "other subnet", Run: func() tea.Cmd {
			return subnets.Pick(s.host, "re-fit", []explorer.SubnetID{explorer.DraftID}, func(id explorer.SubnetID) tea.Cmd { s.subnet = id; return nil })
		}},
		{ID: "reform.cut", Keys: []string{"n"}, Title: "One-shot cut of the dense model, then a re-fit", Short: "one-shot cut", Changes: true, Run: s.cutForm},
		{ID: "reform.stop", Keys: []string{"x"}, Title: "Stop re-fitting", Short: "stop", Changes: true, When: noJob, Run: func() tea.Cmd {
			j, _ := s.job()
			return s.host.Do(explorer.StopJob{Job: j.ID}, nil)
		}},
		{ID: "reform.chat", Keys: []string{"c"}, Title: "Chat with the result, alongside the dense model", Short: "chat", Changes: true, Engine: true, When: noResult, Run: result(func(id explorer.SubnetID) tea.Cmd { return s.host.Ask(screen.ChatWith{Subnet: id}) })},
		{ID: "reform.bench", Keys: []string{"b"}, Title: "Benchmark the result against the dense model", Short: "bench", Changes: true, Engine: true, When: noResult,
			Run: result(func(id explorer.SubnetID) tea.Cmd {
				return s.host.Ask(screen.Benchmark{Subnets: []explorer.SubnetID{id}})
			})},
		{ID: "reform.edit", Keys: []string{"m"}, Title: "Edit the masks of the result", Short: "masks", Changes: true, When: noResult, Run: result(func(id explorer.SubnetID) tea.Cmd { return s.host.Ask(screen.EditMasks{Subnet: id}) })},
		{ID: "reform.export", Keys: []string{"e"}, Title: "Export the result as a GGUF file or as a recipe", Short: "export", Changes: true, When: noResult, Run: result(func(id explorer.SubnetID) tea.Cmd { return subnets.Export(s.host, id) })},
		{ID: "reform.down", Keys: []string{"down", "j"}, Title: "Scroll down", Run: func() tea.Cmd { return s.scroll(1) }},
		{ID: "reform.up", Keys: []string{"up", "k"}, Title: "Scroll up", Run: func() tea.Cmd { return s.scroll(-1) }},
		{ID: "reform.pagedown", Keys: []string{"pgdown"}, Title: "Scroll a page down", Run: func() tea.Cmd { return s.scroll(10) }},
		{ID: "reform.pageup", Keys: []string{"pgup"}, Title: "Scroll a page up", Run: func() tea.Cmd { return s.scroll(-10) }},
	}
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
		if (j.Kind == explorer.JobReform || j.Kind == explorer.JobCut) && !j.State.Ended() {
			return j, true
		}
	}
	return explorer.Job{}, false
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
	if j.Kind != explorer.JobCut && j.Kind != explorer.JobReform || j.Result == "" {
		return ""
	}
	snap := s.snap()
	out := subnets.Name(snap, j.Result) + " is made"
	if n, ok := snap.Subnet(j.Result); ok {
		out += fmt.Sprintf(": ratio %.3f", n.Size.Ratio)
		if snap.Reform.Result == j.Result && snap.Reform.After > 0 {
			out += ", held-out ppl " + text.Perplexity(snap.Reform.After)
		}
	}
	return out + "; " + s.host.Key("reform.chat") + " on Reform chats with it"
}

// UndoLabel is the footer's word for undo here.
func (s *Screen) UndoLabel() string { return "take back" }

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
		s.host.Note(explorer.Info, name+" was taken back; "+s.host.Key("undo")+" on Library restores it")
		return nil
	})
}

// form asks for the settings of a re-fit.
func (s *Screen) form() tea.Cmd {
	id := s.target()
	admm := func(f *widget.Form) bool { return f.Get("method") != "admm" }
	exact := func(f *widget.Form) bool { return f.Get("method") != "exact" }
	pull := widget.ToggleEntry("pull", "pull to original", true, "regularizes towards the original weights instead of zero; better with little text")
	lambda := widget.TextEntry("lambda", "lambda", "", "ridge term, relative to the mean of the diagonal of H", widget.NumberIn(0, 100))
	rho := widget.TextEntry("rho", "rho", "", "penalty of the paper's method", widget.NumberIn(1e-6, 1e6))
	steps := widget.TextEntry("steps", "steps", "", "iterations of the paper's method", widget.CountIn(1, 1000))
	pull.Hidden, lambda.Hidden, rho.Hidden, steps.Hidden = exact, exact, admm, admm
	entries := append([]*widget.Entry{
		widget.ChoiceEntry("method", "method", "exact", "exact: least squares; admm: the paper's iteration to the same solution; none: keep the original weights", "exact", "admm", "none"),
		lambda, pull, rho, steps,
		widget.ToggleEntry("bias", "bias", false, "also fits a bias per output; stock llama.cpp loads such files"),
		widget.TextEntry("name", "name", "", "of the result in the library", nil),
	}, subnets.CalibrationEntries()...)
	return s.host.Open(&widget.Form{Title: "re-fit " + subnets.Name(s.snap(), id), OK: "start", Entries: entries, Submit: func(f *widget.Form) tea.Cmd {
		return s.host.Do(explorer.Refit{Subnet: id, Name: f.Get("name"), Calibration: subnets.CalibrationOf(f), Reform: reformOptions(f)}, func(_ explorer.Receipt) tea.Cmd { return s.host.Show(s.Name()) })
	}})
}

func reformOptions(f *widget.Form) explorer.ReformOptions {
	o := explorer.ReformOptions{Method: f.Get("method")}
	bias := f.Yes("bias")
	o.Bias = &bias
	switch o.Method {
	case "exact":
		pull := f.Yes("pull")
		o.Lambda, o.Pull = f.Number("lambda"), &pull
	case "admm":
		o.Rho, o.Steps = f.Number("rho"), f.Count("steps")
	}
	return o
}

// cutForm asks for a one-shot cut and starts it.
func (s *Screen) cutForm() tea.Cmd {
	entries := append([]*widget.Entry{
		widget.TextEntry("target", "target", "0.80", "inheriting ratio: the share of block parameters to keep", widget.Ratio),
		widget.ChoiceEntry("preset", "preset", "", "how units are selected", explorer.Presets()...),
		widget.ChoiceEntry("method", "re-fit", "exact", "exact: least squares; admm: the paper's iteration; none: keep the original weights", "exact", "admm", "none"),
		widget.TextEntry("name", "name", "", "of the result in the library", nil),
	}, subnets.CalibrationEntries()...)
	return s.host.Open(&widget.Form{Title: "one-shot cut", OK: "cut", Note: "Chooses units by the statistics of the calibration text, then re-fits the remaining weights layer by layer.", Entries: entries,
		Submit: func(f *widget.Form) tea.Cmd {
			c := explorer.Cut{Preset: f.Get("preset"), Target: f.Number("target"), Name: f.Get("name"), Calibration: subnets.CalibrationOf(f), Reform: explorer.ReformOptions{Method: f.Get("method")}}
			return s.host.Do(c, func(_ explorer.Receipt) tea.Cmd { return s.host.Show(s.Name()) })
		}})
}

// Panes lays the screen out.
func (s *Screen) Panes(area layout.Rect) []screen.Pane {
	snap := s.snap()
	first, second := layout.Side(area, 44, 9)
	rev := max(snap.Sections[explorer.SectionReform], snap.Sections[explorer.SectionJobs], snap.Sections[explorer.SectionSubnets], snap.Sections[explorer.SectionDraft], snap.Sections[explorer.SectionModel])
	s.list.Clamp(len(snap.Reform.Layers), max(1, second.H-3))
	j, running := s.job()
	elapsed := int64(0)
	if running && !j.Started.IsZero() {
		elapsed = int64(s.host.Now().Sub(j.Started).Seconds())
	}
	return []screen.Pane{
		{ID: "reform.setting", Rect: first, Rev: rev, State: struct {
			id      explorer.SubnetID
			elapsed int64
		}{s.target(), elapsed}, Draw: func(t *theme.Theme, w, h int) []string { return s.drawSetting(t, w, h, elapsed) }},
		{ID: "reform.layers", Rect: second, Rev: rev, State: s.list, Draw: func(t *theme.Theme, w, h int) []string { return s.drawLayers(t, w, h) }},
	}
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
			add("now", text.Line(j.Progress.Step))
			add("running", format.Clock(time.Duration(elapsed)*time.Second))
			if j.State != explorer.Running {
				add("state", string(j.State))
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
		if rf.Job != "" && len(rows) < h {
			if h >= 9 {
				rows = append(rows, paint.Blank(w), widget.Line(w).Put(t.Title, "last").String())
			}
			if rf.Before > 0 && rf.After > 0 {
				r := widget.Line(w).Col(t.Dim, "held-out", widget.FactLabel).Put(t.Text, "ppl "+text.Perplexity(rf.Before)+" "+t.Glyph.Right+" ").Put(t.Good, text.Perplexity(rf.After))
				if rf.Method.Seconds > 0 {
					r.Put(t.Dim, ", "+text.Short(text.Seconds(rf.Method.Seconds)))
				}
				rows = append(rows, r.String())
			}
			if g := rf.General; g.Dense > 0 && g.After > 0 {
				both := fmt.Sprintf("ppl %s, dense %s", text.Perplexity(g.After), text.Perplexity(g.Dense))
				add("general", both+" on the default text", both)
			}
			if rf.Result != "" {
				add("result", subnets.Name(snap, rf.Result))
			}
			if rf.Of != "" {
				add("of", subnets.Name(snap, rf.Of))
			}
			short := rf.Method
			short.Pull = false
			add("method", subnets.MethodName(rf.Method), subnets.MethodName(short))
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

// drawLayers draws a row per layer: the error of its blocks before and after the re-fit.
func (s *Screen) drawLayers(t *theme.Theme, w, h int) []string {
	layers := s.snap().Reform.Layers
	done := 0
	highest := 0.0
	for _, l := range layers {
		if l.Attention != nil && l.MLP != nil {
			done++
		}
		for _, k := range []*explorer.LayerProgress{l.Attention, l.MLP} {
			if k != nil {
				highest = max(highest, k.ErrBefore)
			}
		}
	}
	note := ""
	if len(layers) > 0 {
		note = fmt.Sprintf("%d/%d", done, len(layers))
	}
	return widget.Box(t, paint.Frame{Title: "error of each block", Note: note, Foot: widget.ScrollNote(s.list.Top, h-3, len(layers))}, w, h, func(w, h int) []string {
		if len(layers) == 0 {
			return append([]string{paint.Blank(w)}, widget.Paragraph(w, t.Dim, "Each layer gets a bar here as it is re-fitted: the relative error of its output before and after the re-fit.")...)
		}
		bar := max(4, (w-8)/2-16)
		head := paint.NewRow(w, theme.Style{}).Put(t.Dim, "   L").Pad(6).Put(t.Dim, "attention").Pad(6+(w-6)/2).Put(t.Dim, "mlp")
		rows := []string{head.String()}
		for i := s.list.Top; i < min(len(layers), s.list.Top+h-1); i++ {
			l := layers[i]
			r := paint.NewRow(w, theme.Style{}).Num(t.Text, strconv.Itoa(i), 4).Pad(6)
			errorBar(r, t, l.Attention, highest, bar)
			r.Pad(6 + (w-6)/2)
			errorBar(r, t, l.MLP, highest, bar)
			rows = append(rows, r.String())
		}
		return rows
	})
}

// errorBar draws the error after the re-fit as a solid bar and the rest of the error before it as a faint one.
func errorBar(r *paint.Row, t *theme.Theme, l *explorer.LayerProgress, highest float64, w int) {
	if l == nil {
		r.Put(t.Dropped, t.Glyph.Shades[1])
		return
	}
	if l.Kept == l.Of {
		r.Put(t.Dim, "all kept")
		return
	}
	if highest <= 0 {
		highest = 1
	}
	after := t.Glyph.HBar(l.ErrAfter/highest, w)
	before := int(min(1, l.ErrBefore/highest)*float64(w) + 0.5)
	r.Put(t.Kept, after)
	if n := before - text.Width(after); n > 0 {
		r.Put(t.Removed, strings.Repeat(t.Glyph.Shades[1], n))
	}
	r.Put(t.Dim, " "+text.Small(l.ErrBefore)+t.Glyph.Right).Put(t.Text, text.Small(l.ErrAfter))
}
