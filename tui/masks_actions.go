package tui

import (
	"fmt"
	"slices"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
)

func masksActions() []*action {
	notUnits := func(m *Model) string {
		if m.masks().zoom == zoomUnits {
			return "zoom out first: this is about whole blocks"
		}
		return ""
	}
	onlyUnits := func(m *Model) string {
		if m.masks().zoom != zoomUnits {
			return "zoom in to the units first"
		}
		return ""
	}
	ranked := func(m *Model) string {
		s := m.masks()
		if s.block.kind == subnet.QK || s.block.kind == subnet.VO {
			return "channels inside heads are not ranked"
		}
		if !m.snap.Statistics.Ready {
			return "statistics are not gathered yet"
		}
		return ""
	}
	deepest := func(m *Model) string {
		if m.masks().zoom == zoomUnits {
			return "these are single units"
		}
		return ""
	}
	run := func(f func(s *masksScreen, m *Model) tea.Cmd) func(*Model) tea.Cmd {
		return func(m *Model) tea.Cmd { return f(m.masks(), m) }
	}
	return []*action{
		{id: "masks.in", scope: onMasks, keys: []string{"enter"}, title: "Look closer: a layer, then the units of a block", short: "closer", when: deepest,
			run: run(func(s *masksScreen, _ *Model) tea.Cmd { return s.zoomIn() })},
		{id: "masks.out", scope: onMasks, keys: []string{"backspace"}, title: "Look from further away", run: run(func(s *masksScreen, m *Model) tea.Cmd { _, cmd := s.back(m); return cmd })},
		{id: "masks.toggle", scope: onMasks, keys: []string{"space"}, title: "Mark a layer; closer, keep or drop a block or units", short: "keep/drop",
			label: func(m *Model) string {
				if m.masks().zoom == zoomModel {
					return "mark"
				}
				return "keep/drop"
			}, run: run((*masksScreen).toggle)},
		{id: "masks.shrink", scope: onMasks, keys: []string{"left", "h"}, title: "Keep one step less; among units, move left", short: "cut", twin: "masks.grow", changes: true,
			label: func(m *Model) string {
				if m.masks().zoom == zoomUnits {
					return "move"
				}
				return "cut"
			},
			run: run(func(s *masksScreen, m *Model) tea.Cmd { return s.sideways(m, -1) })},
		{id: "masks.grow", scope: onMasks, keys: []string{"right", "l"}, title: "Keep one step more; among units, move right", changes: true,
			run: run(func(s *masksScreen, m *Model) tea.Cmd { return s.sideways(m, 1) })},
		{id: "masks.block", scope: onMasks, keys: []string{"tab"}, title: "Next block: attention, mlp, channels inside heads", short: "other block", run: run(func(s *masksScreen, m *Model) tea.Cmd { return s.nextBlock(m, 1) })},
		{id: "masks.save", scope: onMasks, keys: []string{"w"}, title: "Save the masks in work to the library", short: "save", changes: true, run: run((*masksScreen).saveForm)},
		{id: "masks.top", scope: onMasks, keys: []string{"n"}, title: "Keep the n most important units", short: "keep top n", changes: true, when: ranked, run: run((*masksScreen).topForm)},
		{id: "masks.drop", scope: onMasks, keys: []string{"x"}, title: "Drop the block, or the units selected", short: "drop", changes: true, run: run((*masksScreen).drop)},
		{id: "masks.droplayer", scope: onMasks, keys: []string{"X"}, title: "Drop whole layers", changes: true, when: notUnits,
			run: run(func(s *masksScreen, m *Model) tea.Cmd {
				return s.edit(m, explorer.DropLayer{Layers: s.selection()})
			})},
		{id: "masks.restore", scope: onMasks, keys: []string{"u"}, title: "Keep every unit of the block again", short: "restore", changes: true, run: run((*masksScreen).restore)},
		{id: "masks.invert", scope: onMasks, keys: []string{"i"}, title: "Swap kept and dropped units", short: "invert", changes: true, run: run((*masksScreen).invert)},
		{id: "masks.like", scope: onMasks, keys: []string{"="}, title: "Make the layers like another layer", short: "like layer", changes: true, when: notUnits, run: run((*masksScreen).likeForm)},
		{id: "masks.equalise", scope: onMasks, keys: []string{"e"}, title: "Give the selected layers equally many units", short: "equalise", changes: true,
			when: func(m *Model) string {
				if why := notUnits(m); why != "" {
					return why
				}
				if len(m.masks().selection()) < 2 {
					return "select two layers or more"
				}
				return ranked(m)
			},
			run: run(func(s *masksScreen, m *Model) tea.Cmd {
				return s.edit(m, explorer.Equalise{Layers: s.selection(), Part: s.part()})
			})},
		{id: "masks.range", scope: onMasks, keys: []string{"v"}, title: "Begin or end a range of layers or units", short: "range", run: run((*masksScreen).rangeKey)},
		{id: "masks.all", scope: onMasks, keys: []string{"*", "ctrl+a"}, title: "Select all", run: run((*masksScreen).selectAll)},
		{id: "masks.blockback", scope: onMasks, keys: []string{"shift+tab"}, title: "Previous block", run: run(func(s *masksScreen, m *Model) tea.Cmd { return s.nextBlock(m, -1) })},
		{id: "masks.sort", scope: onMasks, keys: []string{"s"}, title: "Show units by importance or in place", short: "order", when: onlyUnits,
			run: run(func(s *masksScreen, m *Model) tea.Cmd { return s.resort(m) })},
		{id: "masks.finer", scope: onMasks, keys: []string{"["}, title: "Halve the step of the cut", run: run(func(s *masksScreen, _ *Model) tea.Cmd { s.step = max(1, s.step/2); return nil })},
		{id: "masks.coarser", scope: onMasks, keys: []string{"]"}, title: "Double the step of the cut", run: run(func(s *masksScreen, _ *Model) tea.Cmd { s.step = min(1024, s.step*2); return nil })},
		{id: "masks.open", scope: onMasks, keys: []string{"o"}, title: "Take another subnet's masks into work", changes: true, run: func(m *Model) tea.Cmd {
			return m.pickSubnet("take into work", []explorer.SubnetID{explorer.DenseID}, func(m *Model, id explorer.SubnetID) tea.Cmd {
				return m.masks().queue(m, explorer.Checkout{Subnet: id, Keep: m.snap.Draft.Dirty()})
			})
		}},
		{id: "masks.diff", scope: onMasks, keys: []string{"d"}, title: "Show the difference to another subnet, or stop showing it", run: run((*masksScreen).diff)},
		{id: "masks.measure", scope: onMasks, keys: []string{"p"}, title: "Measure the true perplexity of the masks in work", short: "measure", changes: true,
			run: func(m *Model) tea.Cmd { return m.measure(explorer.DraftID) }},
		{id: "masks.chat", scope: onMasks, keys: []string{"c"}, title: "Chat with the masks in work, beside the dense model", short: "chat", changes: true, engine: true,
			run: func(m *Model) tea.Cmd { return m.chatWith(explorer.DraftID) }},
		{id: "masks.reform", scope: onMasks, keys: []string{"r"}, title: "Re-fit the weights for the masks in work", short: "reform", changes: true,
			run: func(m *Model) tea.Cmd { return m.reform().of(m, explorer.DraftID) }},
		{id: "masks.steps", scope: onMasks, keys: []string{"H"}, title: "Show the steps made so far", run: run((*masksScreen).steps)},
		{id: "masks.copy", scope: onMasks, keys: []string{"y"}, title: "Copy the masks as text", run: run(func(s *masksScreen, m *Model) tea.Cmd {
			b, err := s.masks(m).MarshalText()
			if err != nil {
				m.fail(err)
				return nil
			}
			return m.copy(string(b), "masks")
		})},
		{id: "masks.down", scope: onMasks, keys: []string{"down", "j"}, title: "Down", run: run(func(s *masksScreen, m *Model) tea.Cmd { return s.vertical(m, 1) })},
		{id: "masks.up", scope: onMasks, keys: []string{"up", "k"}, title: "Up", run: run(func(s *masksScreen, m *Model) tea.Cmd { return s.vertical(m, -1) })},
		{id: "masks.extenddown", scope: onMasks, keys: []string{"shift+down"}, title: "Down, selecting", run: run(func(s *masksScreen, m *Model) tea.Cmd { s.extend(); return s.vertical(m, 1) })},
		{id: "masks.extendup", scope: onMasks, keys: []string{"shift+up"}, title: "Up, selecting", run: run(func(s *masksScreen, m *Model) tea.Cmd { s.extend(); return s.vertical(m, -1) })},
		{id: "masks.extendright", scope: onMasks, keys: []string{"shift+right"}, title: "Right, selecting units", when: onlyUnits, run: run(func(s *masksScreen, m *Model) tea.Cmd { s.extend(); return s.sideways(m, 1) })},
		{id: "masks.extendleft", scope: onMasks, keys: []string{"shift+left"}, title: "Left, selecting units", when: onlyUnits, run: run(func(s *masksScreen, m *Model) tea.Cmd { s.extend(); return s.sideways(m, -1) })},
		{id: "masks.pagedown", scope: onMasks, keys: []string{"pgdown"}, title: "Ten rows down", run: run(func(s *masksScreen, m *Model) tea.Cmd { return s.vertical(m, 10) })},
		{id: "masks.pageup", scope: onMasks, keys: []string{"pgup"}, title: "Ten rows up", run: run(func(s *masksScreen, m *Model) tea.Cmd { return s.vertical(m, -10) })},
		{id: "masks.first", scope: onMasks, keys: []string{"home"}, title: "First row", run: run(func(s *masksScreen, m *Model) tea.Cmd { return s.vertical(m, -1<<20) })},
		{id: "masks.last", scope: onMasks, keys: []string{"end"}, title: "Last row", run: run(func(s *masksScreen, m *Model) tea.Cmd { return s.vertical(m, 1<<20) })},
	}
}

// zoomIn looks closer.
func (s *masksScreen) zoomIn() tea.Cmd {
	if s.zoom < zoomUnits {
		s.zoom++
		s.from = -1
		s.unit = list{}
	}
	return nil
}

// vertical moves the cursor by rows.
func (s *masksScreen) vertical(m *Model, by int) tea.Cmd {
	switch s.zoom {
	case zoomModel:
		s.layer.move(by, s.masks(m).Layers())
	case zoomLayer:
		return s.nextBlock(m, by)
	case zoomUnits:
		g := s.gridNow(m)
		s.unit.move(clamp(by, -g.n, g.n)*g.columns, g.n)
	}
	return nil
}

// gridNow is the grid of units as it is on the screen.
func (s *masksScreen) gridNow(m *Model) grid {
	for _, p := range s.panes(m, m.area().Body) {
		if p.id == "masks.left" {
			return newGrid(s.units(m).N(), p.rect.W-2, p.rect.H-2)
		}
	}
	return newGrid(s.units(m).N(), 1, 1)
}

// sideways moves the cut by a step, or the cursor among units.
func (s *masksScreen) sideways(m *Model, by int) tea.Cmd {
	if s.zoom == zoomUnits {
		s.unit.move(by, s.units(m).N())
		return nil
	}
	masks := s.masks(m)
	if masks.Layers() == 0 {
		return nil
	}
	switch s.block.kind {
	case subnet.Channels:
		return s.keep(m, func(layer int) int { return s.block.set(masks, layer).Len() + by*s.step })
	case subnet.Heads:
		return s.keep(m, func(layer int) int { return masks.Layer(layer).Groups(masks.Geometry().Layers[layer]).Len() + by })
	}
	set := s.units(m)
	n := clamp(set.Len()+2*by, 0, set.N()) // rotary pairs stay together
	return s.edit(m, s.block.with(s.layer.at, subnet.Range(set.N(), 0, n)))
}

// keep keeps the most important units of the selected layers: count of MLP channels, or of KV groups.
func (s *masksScreen) keep(m *Model, count func(layer int) int) tea.Cmd {
	masks := s.masks(m)
	var out []explorer.Mutation
	for _, layer := range s.selection() {
		lg := masks.Geometry().Layers[layer]
		most := lg.FFN
		if s.part() == explorer.Attention {
			most = lg.KVHeads
		}
		n := clamp(count(layer), 0, most)
		switch {
		case n == most:
			out = append(out, explorer.Restore{Layers: []int{layer}, Part: s.part()})
		case n == 0 && s.part() == explorer.MLP:
			out = append(out, explorer.DropMLP{Layers: []int{layer}})
		case n == 0:
			out = append(out, explorer.DropAttention{Layers: []int{layer}})
		default:
			out = append(out, explorer.KeepTop{Layers: []int{layer}, Part: s.part(), Count: n})
		}
	}
	return s.changing(m, out)
}

// changing queues mutations unless they change nothing.
func (s *masksScreen) changing(m *Model, out []explorer.Mutation) tea.Cmd {
	masks := s.masks(m)
	if next, err := explorer.Apply(masks, m.snap.Statistics, out...); err == nil && next.Equal(masks) {
		return nil
	}
	return s.edit(m, out...)
}

// topForm asks how many units to keep.
func (s *masksScreen) topForm(m *Model) tea.Cmd {
	masks := s.masks(m)
	layers := s.selection()
	lg := masks.Geometry().Layers[layers[0]]
	most, what, now := lg.FFN, "MLP channels", s.block.set(masks, layers[0]).Len()
	if s.part() == explorer.Attention {
		most, what, now = lg.KVHeads, "KV groups", masks.Layer(layers[0]).Groups(lg).Len()
	}
	title := fmt.Sprintf("keep the most important %s", what)
	check := func(v string) error {
		if v == "" {
			return needText(v)
		}
		if n, err := parseNumber(v); err == nil && (v[len(v)-1] == '%' || n > 0 && n < 1) {
			return ratio(v)
		}
		return countIn(0, most)(v)
	}
	return m.openForm(&form{title: title, ok: "keep", note: fmt.Sprintf("in %d %s", len(layers), plural(len(layers), "layer", "layers")),
		entries: []*entry{textEntry("n", fmt.Sprintf("of %d", most), itoa(now), "a number, or a share: 70 %", check)},
		submit: func(m *Model, f *form) tea.Cmd {
			v := f.number("n")
			text := f.get("n")
			if text[len(text)-1] == '%' || v > 0 && v < 1 {
				v = float64(most)*v + 0.5
			}
			return s.keep(m, func(int) int { return int(v) })
		}})
}

// drop drops the current block of the selected layers, or the selected units.
func (s *masksScreen) drop(m *Model) tea.Cmd {
	if s.zoom == zoomUnits {
		return s.setUnits(m, s.units(m).Without(s.chosenUnits(m)...))
	}
	switch s.block.kind {
	case subnet.Channels:
		return s.changing(m, []explorer.Mutation{explorer.DropMLP{Layers: s.selection()}})
	case subnet.Heads:
		return s.changing(m, []explorer.Mutation{explorer.DropAttention{Layers: s.selection()}})
	}
	return s.setUnits(m, subnet.Empty(s.units(m).N()))
}

// setUnits gives the current block another set.
func (s *masksScreen) setUnits(m *Model, set subnet.Set) tea.Cmd {
	if set.Equal(s.units(m)) {
		return nil
	}
	return s.edit(m, s.block.with(s.layer.at, set))
}

// restore keeps everything of the current block, or the selected units, again.
func (s *masksScreen) restore(m *Model) tea.Cmd {
	switch {
	case s.zoom == zoomUnits && s.from >= 0:
		return s.setUnits(m, s.units(m).With(s.chosenUnits(m)...))
	case s.zoom == zoomUnits || s.block.kind == subnet.QK || s.block.kind == subnet.VO:
		return s.setUnits(m, subnet.Full(s.units(m).N()))
	}
	return s.changing(m, []explorer.Mutation{explorer.Restore{Layers: s.selection(), Part: s.part()}})
}

// invert swaps kept and dropped units.
func (s *masksScreen) invert(m *Model) tea.Cmd {
	if s.zoom == zoomUnits || s.block.kind == subnet.QK || s.block.kind == subnet.VO {
		set := s.units(m)
		if s.from < 0 {
			return s.setUnits(m, set.Complement())
		}
		return s.toggleUnits(m, s.chosenUnits(m))
	}
	return s.edit(m, explorer.Invert{Layers: s.selection(), Part: s.part()})
}

func (s *masksScreen) toggleUnits(m *Model, units []int) tea.Cmd {
	set := s.units(m)
	for _, u := range units {
		if set.Has(u) {
			set = set.Without(u)
		} else {
			set = set.With(u)
		}
	}
	return s.setUnits(m, set)
}

// toggle marks a layer, drops or restores a block of one, or drops the selected units if all are kept and keeps them otherwise.
func (s *masksScreen) toggle(m *Model) tea.Cmd {
	switch s.zoom {
	case zoomModel:
		if s.marked[s.layer.at] {
			delete(s.marked, s.layer.at)
		} else {
			s.marked[s.layer.at] = true
		}
		s.layer.move(1, s.masks(m).Layers())
		return nil
	case zoomLayer:
		if s.block.set(s.masks(m), s.layer.at).IsEmpty() {
			return m.perform(m.action("masks.restore"))
		}
		return m.perform(m.action("masks.drop"))
	}
	if why := m.blocked(m.action("masks.drop")); why != "" {
		m.say(levelInfo, why)
		return nil
	}
	set, units := s.units(m), s.chosenUnits(m)
	if slices.ContainsFunc(units, func(u int) bool { return !set.Has(u) }) {
		return s.setUnits(m, set.With(units...))
	}
	return s.setUnits(m, set.Without(units...))
}

// extend begins a range where the cursor is, if there is none.
func (s *masksScreen) extend() {
	if s.zoom == zoomUnits {
		if s.from < 0 {
			s.from = s.unit.at
		}
		return
	}
	if s.anchor < 0 {
		s.anchor = s.layer.at
	}
}

// rangeKey begins a range, or forgets it.
func (s *masksScreen) rangeKey(*Model) tea.Cmd {
	if s.zoom == zoomUnits && s.from >= 0 || s.zoom != zoomUnits && s.anchor >= 0 {
		s.from, s.anchor = -1, -1
		return nil
	}
	s.extend()
	return nil
}

func (s *masksScreen) selectAll(m *Model) tea.Cmd {
	if s.zoom == zoomUnits {
		s.from, s.unit.at = 0, max(0, s.units(m).N()-1)
		return nil
	}
	s.zoom = zoomModel
	for i := range s.masks(m).Layers() {
		s.marked[i] = true
	}
	return nil
}

// nextBlock moves to another block: attention or mlp of all layers, or any block of one.
func (s *masksScreen) nextBlock(m *Model, by int) tea.Cmd {
	masks := s.masks(m)
	if masks.Layers() == 0 {
		return nil
	}
	all := blocks(masks.Geometry().Layers[s.layer.at])
	if s.zoom == zoomModel {
		all = all[:2]
	}
	at := max(0, slices.Index(all, s.block))
	if s.zoom == zoomLayer {
		at = clamp(at+by, 0, len(all)-1)
	} else {
		at = ((at+by)%len(all) + len(all)) % len(all)
	}
	s.block, s.unit, s.from = all[at], list{}, -1
	return nil
}

// resort changes the order of the units and keeps the cursor on its unit.
func (s *masksScreen) resort(m *Model) tea.Cmd {
	order := s.order(m)
	s.sorted = !s.sorted
	s.from = -1
	if s.unit.at < len(order) {
		s.unit.at = max(0, slices.Index(s.order(m), order[s.unit.at]))
	}
	return nil
}

func (s *masksScreen) likeForm(m *Model) tea.Cmd {
	layers := s.selection()
	n := s.masks(m).Layers()
	return m.openForm(&form{title: "like layer", ok: "copy", note: fmt.Sprintf("%d %s will keep the same units as another", len(layers), plural(len(layers), "layer", "layers")),
		entries: []*entry{
			textEntry("from", "layer", "", fmt.Sprintf("0 to %d", n-1), func(v string) error {
				if v == "" {
					return needText(v)
				}
				return countIn(0, n-1)(v)
			}),
			choiceEntry("part", "what", string(s.part()), "", string(explorer.Attention), string(explorer.MLP), string(explorer.Whole)),
		},
		submit: func(m *Model, f *form) tea.Cmd {
			return s.changing(m, []explorer.Mutation{explorer.CopyLayer{From: f.count("from"), To: layers, Part: explorer.Part(f.get("part"))}})
		}})
}

func (s *masksScreen) saveForm(m *Model) tea.Cmd {
	name := ""
	if base := subnetName(m.snap, m.snap.Draft.Base); m.snap.Draft.Base != explorer.DenseID {
		name = base + " edited"
	}
	return m.openForm(&form{title: "save to the library", ok: "save", entries: []*entry{textEntry("name", "name", name, "how it is called in the library", needText)},
		submit: func(m *Model, f *form) tea.Cmd {
			return m.do(explorer.SaveDraft{Name: f.get("name")}, func(m *Model, r explorer.Receipt) tea.Cmd {
				m.library().chosen = r.Subnet
				m.library().follow(m)
				m.say(levelInfo, "saved as "+subnetName(m.snap, r.Subnet))
				return nil
			})
		}})
}

func (s *masksScreen) diff(m *Model) tea.Cmd {
	if s.other != "" {
		s.other = ""
		return nil
	}
	return m.pickSubnet("compare with", []explorer.SubnetID{explorer.DenseID}, func(m *Model, id explorer.SubnetID) tea.Cmd {
		m.masks().other = id
		return nil
	})
}

// steps shows the undo and redo stacks.
func (s *masksScreen) steps(m *Model) tea.Cmd {
	return m.pick("steps", func(m *Model) []choice {
		d := m.snap.Draft
		var out []choice
		add := func(st explorer.Step, detail string) {
			if st.Author != "" {
				detail += " " + st.Author
			}
			out = append(out, choice{title: st.Summary, detail: detail, run: func(*Model) tea.Cmd { return nil }})
		}
		for i := len(d.Steps) - 1; i >= 0; i-- {
			add(d.Steps[i], d.Steps[i].At.Local().Format("15:04:05"))
		}
		for i := len(d.Undone) - 1; i >= 0; i-- {
			add(d.Undone[i], "undone")
		}
		if len(out) == 0 {
			out = append(out, choice{title: "no steps yet", run: func(*Model) tea.Cmd { return nil }})
		}
		return out
	})
}
