package tui

import (
	"fmt"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// reformScreen makes subnets: it re-fits the weights of one, or cuts one at once, and shows the layers filling.
type reformScreen struct {
	subnet explorer.SubnetID // what will be re-fitted; "" is the draft
	list   list              // scroll position of the layers
	pinned bool              // the user scrolled: do not follow the running layer
}

func newReformScreen() *reformScreen { return &reformScreen{} }

func reformActions() []*action {
	noJob := func(m *Model) string {
		if _, ok := m.reform().job(m); !ok {
			return "nothing is being re-fitted"
		}
		return ""
	}
	noResult := func(m *Model) string {
		if _, ok := m.snap.Subnet(m.snap.Reform.Result); !ok {
			return "there is no result yet"
		}
		return ""
	}
	result := func(run func(m *Model, id explorer.SubnetID) tea.Cmd) func(m *Model) tea.Cmd {
		return func(m *Model) tea.Cmd { return run(m, m.snap.Reform.Result) }
	}
	return []*action{
		{id: "reform.start", scope: onReform, keys: []string{"enter", "s"}, title: "Re-fit the weights of the subnet", short: "re-fit", changes: true,
			help: "Surviving weights take over what the dropped ones did, layer after layer, from calibration text.", run: func(m *Model) tea.Cmd { return m.reform().form(m) }},
		{id: "reform.subnet", scope: onReform, keys: []string{"o"}, title: "Choose the subnet to re-fit", short: "other subnet", run: func(m *Model) tea.Cmd {
			return m.pickSubnet("re-fit", []explorer.SubnetID{explorer.DraftID}, func(m *Model, id explorer.SubnetID) tea.Cmd { m.reform().subnet = id; return nil })
		}},
		{id: "reform.cut", scope: onReform, keys: []string{"n"}, title: "Cut the dense model at once, and re-fit", short: "cut at once", changes: true, run: (*Model).cutForm},
		{id: "reform.stop", scope: onReform, keys: []string{"x"}, title: "Stop re-fitting", short: "stop", changes: true, when: noJob, run: func(m *Model) tea.Cmd {
			j, _ := m.reform().job(m)
			return m.do(explorer.StopJob{Job: j.ID}, nil)
		}},
		{id: "reform.chat", scope: onReform, keys: []string{"c"}, title: "Chat with the result, beside the dense model", short: "chat", changes: true, engine: true, when: noResult, run: result((*Model).chatWith)},
		{id: "reform.bench", scope: onReform, keys: []string{"b"}, title: "Benchmark the result against the dense model", short: "bench", changes: true, engine: true, when: noResult,
			run: result(func(m *Model, id explorer.SubnetID) tea.Cmd { return m.bench().form(m, []explorer.SubnetID{id}) })},
		{id: "reform.edit", scope: onReform, keys: []string{"m"}, title: "Edit the masks of the result", short: "masks", changes: true, when: noResult, run: result((*Model).editMasks)},
		{id: "reform.export", scope: onReform, keys: []string{"e"}, title: "Export the result as a GGUF file or as a recipe", short: "export", changes: true, when: noResult, run: result((*Model).exportForm)},
		{id: "reform.down", scope: onReform, keys: []string{"down", "j"}, title: "Scroll down", run: func(m *Model) tea.Cmd { return m.reform().scroll(m, 1) }},
		{id: "reform.up", scope: onReform, keys: []string{"up", "k"}, title: "Scroll up", run: func(m *Model) tea.Cmd { return m.reform().scroll(m, -1) }},
		{id: "reform.pagedown", scope: onReform, keys: []string{"pgdown"}, title: "Scroll a page down", run: func(m *Model) tea.Cmd { return m.reform().scroll(m, 10) }},
		{id: "reform.pageup", scope: onReform, keys: []string{"pgup"}, title: "Scroll a page up", run: func(m *Model) tea.Cmd { return m.reform().scroll(m, -10) }},
	}
}

func (s *reformScreen) scroll(m *Model, by int) tea.Cmd {
	s.pinned = true
	s.list.move(by, len(m.snap.Reform.Layers))
	return nil
}

// target is the subnet that will be re-fitted.
func (s *reformScreen) target(m *Model) explorer.SubnetID {
	if s.subnet == "" {
		return explorer.DraftID
	}
	return s.subnet
}

// job is the cut or re-fitting that has not ended.
func (s *reformScreen) job(m *Model) (explorer.Job, bool) {
	for _, j := range m.snap.Jobs {
		if (j.Kind == explorer.JobReform || j.Kind == explorer.JobCut) && !j.State.Ended() {
			return j, true
		}
	}
	return explorer.Job{}, false
}

func (s *reformScreen) follow(m *Model) {
	if _, ok := masksOf(m.snap, s.subnet); s.subnet != "" && !ok {
		s.subnet = ""
	}
	if _, running := s.job(m); !running {
		s.pinned = false
	}
	if s.pinned {
		return
	}
	for i, l := range m.snap.Reform.Layers {
		if l.Attention != nil || l.MLP != nil {
			s.list.at = i
		}
	}
}

func (s *reformScreen) status(m *Model) string {
	if j, ok := s.job(m); ok {
		return text.Line(j.Progress.Step)
	}
	return ""
}

func (s *reformScreen) back(*Model) (bool, tea.Cmd) { return false, nil }

func (s *reformScreen) mouse(m *Model, p pane, e mouseEvent) tea.Cmd {
	switch {
	case e.kind == mouseWheel:
		return s.scroll(m, e.delta*3)
	case e.kind == mouseClick && p.id == "reform.setting":
		return m.perform(m.action("reform.subnet"))
	}
	return nil
}

// of goes to the screen with a subnet to re-fit.
func (s *reformScreen) of(m *Model, id explorer.SubnetID) tea.Cmd {
	s.subnet = id
	return tea.Batch(m.show(reformID), s.form(m))
}

// cannotUndo says why the last re-fitting cannot be taken back.
func (s *reformScreen) cannotUndo(m *Model) string {
	n, ok := m.snap.Subnet(m.snap.Reform.Result)
	if !ok || !n.Deleted.IsZero() {
		return "there is no result to take back"
	}
	return ""
}

// undo takes the result of the last re-fitting out of the library; it stays in the trash.
func (s *reformScreen) undo(m *Model) tea.Cmd {
	id := m.snap.Reform.Result
	name := subnetName(m.snap, id)
	return m.do(explorer.DeleteSubnet{Subnet: id}, func(m *Model, _ explorer.Receipt) tea.Cmd {
		m.say(levelInfo, name+" was taken back; "+m.keys.first(m.action("undo"))+" on Library restores it")
		return nil
	})
}

// form asks how to re-fit.
func (s *reformScreen) form(m *Model) tea.Cmd {
	id := s.target(m)
	admm := func(f *form) bool { return f.get("method") != "admm" }
	exact := func(f *form) bool { return f.get("method") != "exact" }
	pull := toggleEntry("pull", "pull to original", true, "draws weights to what they were instead of zero; better with little text")
	lambda := textEntry("lambda", "lambda", "", "ridge term, relative to the mean diagonal of H", numberIn(0, 100))
	rho := textEntry("rho", "rho", "", "penalty of the paper's method", numberIn(1e-6, 1e6))
	steps := textEntry("steps", "steps", "", "iterations of the paper's method", countIn(1, 1000))
	pull.hidden, lambda.hidden, rho.hidden, steps.hidden = exact, exact, admm, admm
	entries := append([]*entry{
		choiceEntry("method", "method", "exact", "exact: least squares; admm: the paper's iteration, same end; none: original weights", "exact", "admm", "none"),
		lambda, pull, rho, steps,
		toggleEntry("bias", "bias", false, "also fits a constant per output, which stock llama.cpp can load"),
		textEntry("name", "name", "", "of the result in the library", nil),
	}, calibrationEntries(m)...)
	return m.openForm(&form{title: "re-fit " + subnetName(m.snap, id), ok: "start", entries: entries, submit: func(m *Model, f *form) tea.Cmd {
		return m.do(explorer.Refit{Subnet: id, Name: f.get("name"), Calibration: calibrationOf(f), Reform: reformOptions(f)}, func(m *Model, _ explorer.Receipt) tea.Cmd { return m.show(reformID) })
	}})
}

func reformOptions(f *form) explorer.ReformOptions {
	o := explorer.ReformOptions{Method: f.get("method")}
	bias := f.yes("bias")
	o.Bias = &bias
	switch o.Method {
	case "exact":
		pull := f.yes("pull")
		o.Lambda, o.Pull = f.number("lambda"), &pull
	case "admm":
		o.Rho, o.Steps = f.number("rho"), f.count("steps")
	}
	return o
}

// cutForm asks for a one-shot cut and starts it.
func (m *Model) cutForm() tea.Cmd {
	entries := append([]*entry{
		textEntry("target", "target", "0.80", "share of block parameters to keep", ratio),
		choiceEntry("preset", "preset", "", "how units are chosen", explorer.Presets()...),
		choiceEntry("method", "re-fit", "exact", "exact: least squares; admm: the paper's iteration; none: keep the original weights", "exact", "admm", "none"),
		textEntry("name", "name", "", "of the result in the library", nil),
	}, calibrationEntries(m)...)
	return m.openForm(&form{title: "cut at once", ok: "cut", note: "Chooses what to keep from the statistics of the calibration text, then re-fits what is left, layer by layer.", entries: entries,
		submit: func(m *Model, f *form) tea.Cmd {
			c := explorer.Cut{Preset: f.get("preset"), Target: f.number("target"), Name: f.get("name"), Calibration: calibrationOf(f), Reform: explorer.ReformOptions{Method: f.get("method")}}
			return m.do(c, func(m *Model, _ explorer.Receipt) tea.Cmd { return m.show(reformID) })
		}})
}

func (s *reformScreen) panes(m *Model, area layout.Rect) []pane {
	snap := m.snap
	first, second := layout.Side(area, 44, 9)
	rev := max(snap.Sections[explorer.SectionReform], snap.Sections[explorer.SectionJobs], snap.Sections[explorer.SectionSubnets], snap.Sections[explorer.SectionDraft], snap.Sections[explorer.SectionModel])
	s.list.clamp(len(snap.Reform.Layers), max(1, second.H-3))
	j, running := s.job(m)
	elapsed := int64(0)
	if running && !j.Started.IsZero() {
		elapsed = int64(m.now().Sub(j.Started).Seconds())
	}
	return []pane{
		{id: "reform.setting", rect: first, rev: rev, state: struct {
			id      explorer.SubnetID
			elapsed int64
		}{s.target(m), elapsed}, draw: func(t *theme.Theme, w, h int) []string { return s.drawSetting(m, t, w, h, elapsed) }},
		{id: "reform.layers", rect: second, rev: rev, state: s.list, draw: func(t *theme.Theme, w, h int) []string { return s.drawLayers(m, t, w, h) }},
	}
}

// drawSetting draws what will be, is being or was re-fitted.
func (s *reformScreen) drawSetting(m *Model, t *theme.Theme, w, h int, elapsed int64) []string {
	snap, rf := m.snap, m.snap.Reform
	j, running := s.job(m)
	return box(t, paint.Frame{Title: "reform", Focused: true}, w, h, func(w, h int) []string {
		var rows []string
		say := func(label string, forms ...string) {
			if len(rows) < h {
				rows = append(rows, fact(t, w, label, forms...)...)
			}
		}
		if running {
			rows = append(rows, line(w).Put(t.Good, text.Line(j.Title)).String())
			rows = append(rows, line(w).Put(t.Accent, t.Glyph.HBar(j.Progress.Fraction(), max(4, w-10))).Right(t.Dim, text.Percent(j.Progress.Fraction())+" ").String())
			say("now", text.Line(j.Progress.Step))
			say("running", text.Clock(secondsOf(elapsed)))
			if j.State != explorer.Running {
				say("state", string(j.State))
			}
		} else {
			id := s.target(m)
			say("subnet", subnetName(snap, id))
			if masks, ok := masksOf(snap, id); ok {
				ratio := m.cost(masks).size.Ratio
				say("share", fmt.Sprintf("%.3f of block parameters", ratio), fmt.Sprintf("%.3f of the blocks", ratio))
			}
			if h >= 9 {
				rows = append(rows, paint.Blank(w))
			}
			enter := m.keyLabel(m.keys.first(m.action("reform.start")))
			rows = append(rows, line(w).Put(t.Key, enter).Put(t.KeyText, " re-fits its weights").String())
		}
		if rf.Job != "" && len(rows) < h {
			if h >= 9 {
				rows = append(rows, paint.Blank(w), line(w).Put(t.Title, "last").String())
			}
			if rf.Before > 0 && rf.After > 0 {
				r := line(w).Col(t.Dim, "held-out", factLabel).Put(t.Text, "ppl "+text.Perplexity(rf.Before)+" "+t.Glyph.Right+" ").Put(t.Good, text.Perplexity(rf.After))
				if rf.Method.Seconds > 0 {
					r.Put(t.Dim, ", "+text.Short(secondsF(rf.Method.Seconds)))
				}
				rows = append(rows, r.String())
			}
			if g := rf.General; g.Dense > 0 && g.After > 0 {
				both := fmt.Sprintf("ppl %s, dense %s", text.Perplexity(g.After), text.Perplexity(g.Dense))
				say("general", both+" on the default text", both)
			}
			if rf.Result != "" {
				say("result", subnetName(snap, rf.Result))
			}
			if rf.Of != "" {
				say("of", subnetName(snap, rf.Of))
			}
			short := rf.Method
			short.Pull = false
			say("method", methodName(rf.Method), methodName(short))
			if rf.Method.Windows > 0 {
				say("calibration", fmt.Sprintf("%d × %d tokens", rf.Method.Windows, rf.Method.Seq))
			}
			if rf.Result != "" && s.cannotUndo(m) == "" && len(rows) < h {
				rows = append(rows, line(w).Put(t.Key, m.keys.first(m.action("undo"))).Put(t.KeyText, " takes it back").String())
			}
		}
		return rows
	})
}

func methodName(me explorer.Method) string {
	s := me.Reform
	if me.Preset != "" {
		s = me.Preset + ", " + s
	}
	if me.Lambda > 0 {
		s += fmt.Sprintf(", lambda %.3g", me.Lambda)
	}
	if me.Pull {
		s += " to the original"
	}
	return s
}

// drawLayers draws a row per layer: the error of its blocks before and after.
func (s *reformScreen) drawLayers(m *Model, t *theme.Theme, w, h int) []string {
	layers := m.snap.Reform.Layers
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
	return box(t, paint.Frame{Title: "error of each block", Note: note, Foot: scrollNote(s.list.top, h-3, len(layers))}, w, h, func(w, h int) []string {
		if len(layers) == 0 {
			return append([]string{paint.Blank(w)}, paragraph(w, t.Dim, "Each layer gets a bar here as it is re-fitted: how far its output was off with the original weights, and how far it still is.")...)
		}
		bar := max(4, (w-8)/2-16)
		head := paint.NewRow(w, theme.Style{}).Put(t.Dim, "   L").Pad(6).Put(t.Dim, "attention").Pad(6+(w-6)/2).Put(t.Dim, "mlp")
		rows := []string{head.String()}
		for i := s.list.top; i < min(len(layers), s.list.top+h-1); i++ {
			l := layers[i]
			r := paint.NewRow(w, theme.Style{}).Num(t.Text, itoa(i), 4).Pad(6)
			errorBar(r, t, l.Attention, highest, bar)
			r.Pad(6 + (w-6)/2)
			errorBar(r, t, l.MLP, highest, bar)
			rows = append(rows, r.String())
		}
		return rows
	})
}

// errorBar draws the error before as a faint bar and the error after as a solid one over it.
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
		r.Put(t.Removed, repeat(t.Glyph.Shades[1], n))
	}
	r.Put(t.Dim, " "+smallNumber(l.ErrBefore)+t.Glyph.Right).Put(t.Text, smallNumber(l.ErrAfter))
}
