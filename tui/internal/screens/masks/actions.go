package masks

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/lathe-llm/lathe/explorer/draft"
	"github.com/lathe-llm/lathe/explorer/format"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/action"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// Actions returns the table of actions on the screen.
func (s *Screen) Actions() []*action.Action {
	notUnits := func() string {
		if s.zoom == zoomUnits {
			return "zoom out first: this applies to whole blocks"
		}
		return ""
	}
	onlyUnits := func() string {
		if s.zoom != zoomUnits {
			return "zoom in to the units first"
		}
		return ""
	}
	ranked := func() string {
		s := s
		if s.block.kind == subnet.QK || s.block.kind == subnet.VO {
			return "channels inside heads are not ranked"
		}
		if len(s.snap().Statistics.Importance) == 0 {
			return "units are not ranked yet"
		}
		return ""
	}
	deepest := func() string {
		if s.zoom == zoomUnits {
			return "units are the closest zoom"
		}
		return ""
	}
	return []*action.Action{
		{ID: "masks.in", Keys: []string{"enter"}, Title: "Zoom in: a layer, then the units of a block", Short: "zoom in", When: deepest,
			Run: func() tea.Cmd { return s.zoomIn() }},
		{ID: "masks.out", Keys: []string{"backspace"}, Title: "Zoom out", Run: func() tea.Cmd { _, cmd := s.Back(); return cmd }},
		{ID: "masks.toggle", Keys: []string{"space"}, Title: "Mark a layer; zoomed in, keep or drop a block or units", Short: "keep/drop",
			Label: func() string {
				if s.zoom == zoomModel {
					return "mark"
				}
				return "keep/drop"
			}, Run: s.toggle},
		{ID: "masks.shrink", Keys: []string{"left", "h"}, Title: "Keep one step less; among units, move left", Short: "cut", Twin: "masks.grow", Changes: true,
			Label: func() string {
				if s.zoom == zoomUnits {
					return "move"
				}
				return "cut"
			},
			Run: func() tea.Cmd { return s.sideways(-1) }},
		{ID: "masks.grow", Keys: []string{"right", "l"}, Title: "Keep one step more; among units, move right", Changes: true,
			Run: func() tea.Cmd { return s.sideways(1) }},
		{ID: "masks.block", Keys: []string{"tab"}, Title: "Next block: attention, MLP, channels inside heads", Short: "other block", Run: func() tea.Cmd { return s.nextBlock(1) }},
		{ID: "masks.save", Keys: []string{"w"}, Title: "Save the draft to the library", Short: "save", Changes: true, Run: s.saveForm},
		{ID: "masks.top", Keys: []string{"n"}, Title: "Keep the n most important units", Short: "keep top n", Changes: true, When: ranked, Run: s.topForm},
		{ID: "masks.drop", Keys: []string{"x"}, Title: "Drop the block, or the selected units", Short: "drop", Changes: true, Run: s.drop},
		{ID: "masks.droplayer", Keys: []string{"X"}, Title: "Drop whole layers", Changes: true, When: notUnits,
			Run: func() tea.Cmd {
				return s.edit(draft.DropLayer{Layers: s.selection()})
			}},
		{ID: "masks.restore", Keys: []string{"u"}, Title: "Keep all units of the block again", Short: "restore block", Changes: true,
			Help: "Steps back to all units of the block, however it was cut; undo takes back one step.", When: s.cannotRestore, Run: s.restore},
		{ID: "masks.invert", Keys: []string{"i"}, Title: "Swap kept and dropped units", Short: "invert", Changes: true, Run: s.invert},
		{ID: "masks.like", Keys: []string{"="}, Title: "Make the layers like another layer", Short: "like layer", Changes: true, When: notUnits, Run: s.likeForm},
		{ID: "masks.equalise", Keys: []string{"e"}, Title: "Give the selected layers equal numbers of units", Short: "equalise", Changes: true,
			When: func() string {
				if why := notUnits(); why != "" {
					return why
				}
				if len(s.selection()) < 2 {
					return "select two layers or more"
				}
				return ranked()
			},
			Run: func() tea.Cmd {
				return s.edit(draft.Equalise{Layers: s.selection(), Module: s.part()})
			}},
		{ID: "masks.range", Keys: []string{"v"}, Title: "Start or end a range of layers or units", Short: "range", Run: s.rangeKey},
		{ID: "masks.all", Keys: []string{"*", "ctrl+a"}, Title: "Select all", Run: s.selectAll},
		{ID: "masks.blockback", Keys: []string{"shift+tab"}, Title: "Previous block", Run: func() tea.Cmd { return s.nextBlock(-1) }},
		{ID: "masks.sort", Keys: []string{"s"}, Title: "Sort units by importance or by position", Short: "order", When: onlyUnits,
			Run: func() tea.Cmd { return s.resort() }},
		{ID: "masks.finer", Keys: []string{"["}, Title: "Halve the step of the cut", Run: func() tea.Cmd { s.step = max(1, s.step/2); return nil }},
		{ID: "masks.coarser", Keys: []string{"]"}, Title: "Double the step of the cut", Run: func() tea.Cmd { s.step = min(1024, s.step*2); return nil }},
		{ID: "masks.open", Keys: []string{"o"}, Title: "Replace the draft by another subnet's masks", Changes: true, Run: func() tea.Cmd {
			return subnets.Pick(s.host, "edit the masks of", []explorer.SubnetID{explorer.DenseID}, func(id explorer.SubnetID) tea.Cmd {
				return s.host.EditDraft(explorer.Checkout{Subnet: id, Keep: s.snap().Draft.Dirty()})
			})
		}},
		{ID: "masks.diff", Keys: []string{"d"}, Title: "Show or hide the difference from another subnet", Run: s.diff},
		{ID: "masks.measure", Keys: []string{"p"}, Title: "Measure the true perplexity of the draft", Short: "measure", Changes: true,
			Run: func() tea.Cmd { return subnets.Measure(s.host, explorer.DraftID) }},
		{ID: "masks.chat", Keys: []string{"c"}, Title: "Chat with the draft, alongside the dense model", Short: "chat", Changes: true, Engine: true,
			Run: func() tea.Cmd { return s.host.Ask(screen.ChatWith{Subnet: explorer.DraftID}) }},
		{ID: "masks.reform", Keys: []string{"r"}, Title: "Re-fit the weights of the draft", Short: "reform", Changes: true,
			Help: "An edit of a re-fitted subnet keeps the re-fitted weights of the units that stay and takes the original weights of units that come back; neither makes up for the units that the edit drops.",
			Run:  func() tea.Cmd { return s.host.Ask(screen.Refit{Subnet: explorer.DraftID}) }},
		{ID: "masks.vocab", Keys: []string{"V"}, Title: "Drop tokens of the vocabulary", Short: "vocabulary", Changes: true, Run: s.vocabForm},
		{ID: "masks.steps", Keys: []string{"H"}, Title: "Show the steps of the draft", Run: s.steps},
		{ID: "masks.copy", Keys: []string{"y"}, Title: "Copy the masks as text", Run: func() tea.Cmd {
			return subnets.CopyMasks(s.host, s.masks(), "masks")
		}},
		{ID: "masks.down", Keys: []string{"down", "j"}, Title: "Down", Run: func() tea.Cmd { return s.vertical(1) }},
		{ID: "masks.up", Keys: []string{"up", "k"}, Title: "Up", Run: func() tea.Cmd { return s.vertical(-1) }},
		{ID: "masks.extenddown", Keys: []string{"shift+down"}, Title: "Down, selecting", Run: func() tea.Cmd { s.extend(); return s.vertical(1) }},
		{ID: "masks.extendup", Keys: []string{"shift+up"}, Title: "Up, selecting", Run: func() tea.Cmd { s.extend(); return s.vertical(-1) }},
		{ID: "masks.extendright", Keys: []string{"shift+right"}, Title: "Right, selecting units", When: onlyUnits, Run: func() tea.Cmd { s.extend(); return s.sideways(1) }},
		{ID: "masks.extendleft", Keys: []string{"shift+left"}, Title: "Left, selecting units", When: onlyUnits, Run: func() tea.Cmd { s.extend(); return s.sideways(-1) }},
		{ID: "masks.pagedown", Keys: []string{"pgdown", "ctrl+d"}, Title: "Ten rows down", Run: func() tea.Cmd { return s.vertical(10) }},
		{ID: "masks.pageup", Keys: []string{"pgup", "ctrl+u"}, Title: "Ten rows up", Run: func() tea.Cmd { return s.vertical(-10) }},
		{ID: "masks.first", Keys: []string{"home", "g"}, Title: "First row", Run: func() tea.Cmd { return s.vertical(-1 << 20) }},
		{ID: "masks.last", Keys: []string{"end", "G"}, Title: "Last row", Run: func() tea.Cmd { return s.vertical(1 << 20) }},
	}
}

// zoomIn zooms in.
func (s *Screen) zoomIn() tea.Cmd {
	if s.zoom < zoomUnits {
		s.zoom++
		s.from = -1
		s.unit = widget.List{}
	}
	return nil
}

// vertical moves the cursor by rows.
func (s *Screen) vertical(by int) tea.Cmd {
	switch s.zoom {
	case zoomModel:
		s.layer.Move(by, s.masks().Layers())
	case zoomLayer:
		return s.nextBlock(by)
	case zoomUnits:
		g := s.gridNow()
		s.unit.Move(layout.Clamp(by, -g.n, g.n)*g.columns, g.n)
	}
	return nil
}

// gridNow is the grid of units as it is on the screen.
func (s *Screen) gridNow() grid {
	for _, p := range s.Panes(s.host.Body()) {
		if p.ID == "masks.left" {
			return newGrid(s.units().N(), p.Rect.W-2, p.Rect.H-2)
		}
	}
	return newGrid(s.units().N(), 1, 1)
}

// sideways moves the cut by a step, or the cursor among units.
func (s *Screen) sideways(by int) tea.Cmd {
	if s.zoom == zoomUnits {
		s.unit.Move(by, s.units().N())
		return nil
	}
	masks := s.masks()
	if masks.Layers() == 0 {
		return nil
	}
	switch s.block.kind {
	case subnet.Channels:
		return s.keep(func(layer int) int { return s.block.set(masks, layer).Len() + by*s.step })
	case subnet.Heads:
		return s.keep(func(layer int) int { return masks.Layer(layer).Groups(masks.Geometry().Layers[layer]).Len() + by })
	default: // nothing for the others
	}
	set := s.units()
	n := layout.Clamp(set.Len()+2*by, 0, set.N()) // rotary pairs stay together
	return s.edit(s.block.with(s.layer.At, subnet.Range(set.N(), 0, n)))
}

// keep keeps the most important units of the selected layers: count of MLP channels, or of KV groups.
func (s *Screen) keep(count func(layer int) int) tea.Cmd {
	masks := s.masks()
	var out []draft.Mutation
	for _, layer := range s.selection() {
		lg := masks.Geometry().Layers[layer]
		most := lg.FFN
		if s.part() == draft.Attention {
			most = lg.KVHeads
		}
		n := layout.Clamp(count(layer), 0, most)
		switch {
		case n == most:
			out = append(out, draft.Restore{Layers: []int{layer}, Module: s.part()})
		case n == 0 && s.part() == draft.MLP:
			out = append(out, draft.DropMLP{Layers: []int{layer}})
		case n == 0:
			out = append(out, draft.DropAttention{Layers: []int{layer}})
		default:
			out = append(out, draft.KeepTop{Layers: []int{layer}, Module: s.part(), Count: n})
		}
	}
	return s.changing(out)
}

// changing queues mutations unless they change nothing.
func (s *Screen) changing(out []draft.Mutation) tea.Cmd {
	masks := s.masks()
	if next, err := draft.Apply(masks, s.snap().Statistics.Importance, out...); err == nil && next.Equal(masks) {
		return nil
	}
	return s.edit(out...)
}

// topForm asks how many units to keep.
func (s *Screen) topForm() tea.Cmd {
	masks := s.masks()
	layers := s.selection()
	lg := masks.Geometry().Layers[layers[0]]
	most, what, now := lg.FFN, "MLP channels", s.block.set(masks, layers[0]).Len()
	if s.part() == draft.Attention {
		most, what, now = lg.KVHeads, "KV groups", masks.Layer(layers[0]).Groups(lg).Len()
	}
	title := fmt.Sprintf("keep the most important %s", what)
	check := func(v string) error {
		if v == "" {
			return widget.NeedText(v)
		}
		if n, err := widget.ParseNumber(v); err == nil && (v[len(v)-1] == '%' || n > 0 && n < 1) {
			return widget.Ratio(v)
		}
		return widget.CountIn(0, most)(v)
	}
	return s.host.Open(&widget.Form{Title: title, OK: "keep", Note: "in " + format.Counted(len(layers), "layer"),
		Entries: []*widget.Entry{widget.TextEntry("n", fmt.Sprintf("of %d", most), strconv.Itoa(now), "a number, or a percentage: 70 %", check)},
		Submit: func(f *widget.Form) tea.Cmd {
			v := f.Number("n")
			text := f.Get("n")
			if text[len(text)-1] == '%' || v > 0 && v < 1 {
				v = float64(most)*v + 0.5
			}
			return s.keep(func(int) int { return int(v) })
		}})
}

// drop drops the current block of the selected layers, or the selected units.
func (s *Screen) drop() tea.Cmd {
	if s.zoom == zoomUnits {
		return s.setUnits(s.units().Without(s.chosenUnits()...))
	}
	switch s.block.kind {
	case subnet.Channels:
		return s.changing([]draft.Mutation{draft.DropMLP{Layers: s.selection()}})
	case subnet.Heads:
		return s.changing([]draft.Mutation{draft.DropAttention{Layers: s.selection()}})
	default: // nothing for the others
	}
	return s.setUnits(subnet.Empty(s.units().N()))
}

// setUnits gives the current block another set.
func (s *Screen) setUnits(set subnet.Set) tea.Cmd {
	if set.Equal(s.units()) {
		return nil
	}
	return s.edit(s.block.with(s.layer.At, set))
}

// cannotRestore returns why there is nothing to restore, or "".
func (s *Screen) cannotRestore() string {
	masks := s.masks()
	if masks.Layers() == 0 {
		return "no model is open"
	}
	if s.zoom != zoomModel && (s.zoom == zoomUnits || s.block.kind == subnet.QK || s.block.kind == subnet.VO) {
		if s.units().IsFull() {
			return "it keeps all its units"
		}
		return ""
	}
	for _, i := range s.selection() {
		l := masks.Layer(i)
		if s.part() == draft.MLP && !l.Channels.IsFull() || s.part() == draft.Attention && (!l.Heads.IsFull() || l.QK != nil || l.VO != nil) {
			return ""
		}
	}
	return "it keeps all its units"
}

// restore keeps everything of the current block, or the selected units, again.
func (s *Screen) restore() tea.Cmd {
	switch {
	case s.zoom == zoomUnits && s.from >= 0:
		return s.setUnits(s.units().With(s.chosenUnits()...))
	case s.zoom == zoomUnits || s.block.kind == subnet.QK || s.block.kind == subnet.VO:
		return s.setUnits(subnet.Full(s.units().N()))
	}
	return s.changing([]draft.Mutation{draft.Restore{Layers: s.selection(), Module: s.part()}})
}

// invert swaps kept and dropped units.
func (s *Screen) invert() tea.Cmd {
	if s.zoom == zoomUnits || s.block.kind == subnet.QK || s.block.kind == subnet.VO {
		set := s.units()
		if s.from < 0 {
			return s.setUnits(set.Complement())
		}
		return s.toggleUnits(s.chosenUnits())
	}
	return s.edit(draft.Invert{Layers: s.selection(), Module: s.part()})
}

func (s *Screen) toggleUnits(units []int) tea.Cmd {
	set := s.units()
	for _, u := range units {
		if set.Has(u) {
			set = set.Without(u)
		} else {
			set = set.With(u)
		}
	}
	return s.setUnits(set)
}

// toggle marks a layer, drops or restores a block of one, or drops the selected units if all are kept and keeps them otherwise.
func (s *Screen) toggle() tea.Cmd {
	switch s.zoom {
	case zoomModel:
		if s.marked[s.layer.At] {
			delete(s.marked, s.layer.At)
		} else {
			s.marked[s.layer.At] = true
		}
		s.layer.Move(1, s.masks().Layers())
		return nil
	case zoomLayer:
		if s.block.set(s.masks(), s.layer.At).IsEmpty() {
			return s.host.Perform("masks.restore")
		}
		return s.host.Perform("masks.drop")
	default: // nothing for the others
	}
	if why := s.host.Blocked("masks.drop"); why != "" {
		s.host.Note(explorer.Info, why)
		return nil
	}
	set, units := s.units(), s.chosenUnits()
	if slices.ContainsFunc(units, func(u int) bool { return !set.Has(u) }) {
		return s.setUnits(set.With(units...))
	}
	return s.setUnits(set.Without(units...))
}

// extend starts a range at the cursor, if there is none.
func (s *Screen) extend() {
	if s.zoom == zoomUnits {
		if s.from < 0 {
			s.from = s.unit.At
		}
		return
	}
	if s.anchor < 0 {
		s.anchor = s.layer.At
	}
}

// rangeKey starts a range, or clears it.
func (s *Screen) rangeKey() tea.Cmd {
	if s.zoom == zoomUnits && s.from >= 0 || s.zoom != zoomUnits && s.anchor >= 0 {
		s.from, s.anchor = -1, -1
		return nil
	}
	s.extend()
	return nil
}

func (s *Screen) selectAll() tea.Cmd {
	if s.zoom == zoomUnits {
		s.from, s.unit.At = 0, max(0, s.units().N()-1)
		return nil
	}
	s.zoom = zoomModel
	for i := range s.masks().Layers() {
		s.marked[i] = true
	}
	return nil
}

// nextBlock moves to another block: attention or mlp of all layers, or any block of one.
func (s *Screen) nextBlock(by int) tea.Cmd {
	masks := s.masks()
	if masks.Layers() == 0 {
		return nil
	}
	all := blocks(masks.Geometry().Layers[s.layer.At])
	if s.zoom == zoomModel {
		all = all[:2]
	}
	at := max(0, slices.Index(all, s.block))
	if s.zoom == zoomLayer {
		at = layout.Clamp(at+by, 0, len(all)-1)
	} else {
		at = ((at+by)%len(all) + len(all)) % len(all)
	}
	s.block, s.unit, s.from = all[at], widget.List{}, -1
	return nil
}

// resort changes the order of the units and keeps the cursor on its unit.
func (s *Screen) resort() tea.Cmd {
	order := s.order()
	s.sorted = !s.sorted
	s.from = -1
	if s.unit.At < len(order) {
		s.unit.At = max(0, slices.Index(s.order(), order[s.unit.At]))
	}
	return nil
}

func (s *Screen) likeForm() tea.Cmd {
	layers := s.selection()
	n := s.masks().Layers()
	return s.host.Open(&widget.Form{Title: "like layer", OK: "copy", Note: format.Counted(len(layers), "layer") + " will keep the same units as another layer",
		Entries: []*widget.Entry{
			widget.TextEntry("from", "layer", "", fmt.Sprintf("0 to %d", n-1), func(v string) error {
				if v == "" {
					return widget.NeedText(v)
				}
				return widget.CountIn(0, n-1)(v)
			}),
			widget.ChoiceEntry("part", "what", string(s.part()), "", string(draft.Attention), string(draft.MLP), string(draft.Whole)),
		},
		Submit: func(f *widget.Form) tea.Cmd {
			return s.changing([]draft.Mutation{draft.CopyLayer{From: f.Count("from"), To: layers, Module: draft.Module(f.Get("part"))}})
		}})
}

func (s *Screen) saveForm() tea.Cmd {
	name := ""
	if base := subnets.Name(s.snap(), s.snap().Draft.Base); s.snap().Draft.Base != explorer.DenseID {
		name = base + " edited"
	}
	return s.host.Open(&widget.Form{Title: "save to the library", OK: "save", Entries: []*widget.Entry{widget.TextEntry("name", "name", name, "its name in the library", widget.NeedText)},
		Submit: func(f *widget.Form) tea.Cmd {
			return s.host.Do(explorer.SaveDraft{Name: f.Get("name")}, func(r explorer.Receipt) tea.Cmd {
				s.host.Note(explorer.Info, "saved as "+subnets.Name(s.snap(), r.Subnet))
				return s.host.Ask(screen.Made{Subnet: r.Subnet})
			})
		}})
}

func (s *Screen) diff() tea.Cmd {
	if s.other != "" {
		s.other = ""
		return nil
	}
	return subnets.Pick(s.host, "compare with", []explorer.SubnetID{explorer.DenseID}, func(id explorer.SubnetID) tea.Cmd {
		s.other = id
		return nil
	})
}

// steps shows the undo and redo stacks.
func (s *Screen) steps() tea.Cmd {
	return widget.Pick(s.host, "steps", func() []widget.Choice {
		d := s.snap().Draft
		var out []widget.Choice
		add := func(st explorer.Step, detail string) {
			if st.Author != "" {
				detail += " " + st.Author
			}
			out = append(out, widget.Choice{Title: st.Summary, Detail: detail, Run: func() tea.Cmd { return nil }})
		}
		for i := len(d.Steps) - 1; i >= 0; i-- {
			add(d.Steps[i], d.Steps[i].At.Local().Format("15:04:05"))
		}
		for i := len(d.Undone) - 1; i >= 0; i-- {
			add(d.Undone[i], "undone")
		}
		if len(out) == 0 {
			out = append(out, widget.Choice{Title: "no steps yet", Run: func() tea.Cmd { return nil }})
		}
		return out
	})
}
