// Package masks is the screen that edits the draft.
package masks

import (
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/explorer/draft"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// zoom is the level of detail.
type zoom int

const (
	zoomModel zoom = iota // all layers, one row each
	zoomLayer             // the blocks of one layer
	zoomUnits             // the units of one block
)

// A block is a set of units of one layer: the query heads, the MLP channels, or the channels inside the heads of a KV group.
type block struct {
	kind  subnet.Kind
	group int
}

// A Screen edits the masks of the draft.
type Screen struct {
	costs   subnets.Costs
	host    screen.Host
	zoom    zoom
	layer   widget.List
	anchor  int          // other end of a range of layers; -1 without one
	marked  map[int]bool // layers marked one by one
	block   block
	unit    widget.List // cursor among the units, in the order they are shown
	from    int         // other end of a range of units; -1 without one
	sorted  bool
	step    int // units that the cut moves by
	other   explorer.SubnetID
	brush   brush
	strokes int // grows with every change of the brush, for caches
	find    string
}

// New returns the screen.
func New(host screen.Host) screen.Screen {
	return &Screen{host: host, anchor: -1, from: -1, marked: map[int]bool{}, block: block{kind: subnet.Channels}, sorted: true, step: 32}
}

// Name is the screen's name.
func (s *Screen) Name() string { return "masks" }

// Title is the name of its tab.
func (s *Screen) Title() string { return "Masks" }

func (s *Screen) snap() *explorer.Snapshot { return s.host.Snapshot() }

// cost returns what masks of the model cost.
func (s *Screen) cost(masks subnet.Masks) subnets.Cost {
	return s.costs.Of(masks, &s.snap().Model)
}

// masks are the draft's masks as they will be once all queued edits have arrived.
func (s *Screen) masks() subnet.Masks {
	masks, _, _ := s.host.DraftMasks()
	return masks
}

// Answer goes to a layer, or takes a subnet's masks into the editor, as one step that can be undone.
func (s *Screen) Answer(r screen.Request) (tea.Cmd, bool) {
	if show, ok := r.(screen.ShowLayer); ok {
		s.zoom, s.layer.At = zoomModel, layout.Clamp(show.Layer, 0, max(0, s.masks().Layers()-1))
		return s.host.Show(s.Name()), true
	}
	edit, ok := r.(screen.EditMasks)
	if !ok {
		return nil, false
	}
	cmd, d := s.host.Show(s.Name()), s.snap().Draft
	if edit.Subnet == explorer.DraftID || edit.Subnet == d.Base && !d.Dirty() {
		return cmd, true
	}
	return tea.Batch(cmd, s.checkout(edit.Subnet)), true
}

// found reports whether the text to find is in the row of a layer.
func (s *Screen) found(i int) bool {
	masks := s.masks()
	l := masks.Layer(i)
	row := fmt.Sprintf("layer %d", i)
	if l.Heads.IsEmpty() {
		row += " no attention"
	}
	if l.Channels.IsEmpty() {
		row += " no mlp"
	}
	if !l.Equal(subnet.Dense(masks.Geometry()).Layer(i)) {
		row += " cut"
	}
	if s.isSelected(i) {
		row += " selected"
	}
	return widget.Contains(row, s.find)
}

// Find goes to the first layer that contains a text: "12", "cut", "no mlp", "selected".
func (s *Screen) Find(text string) {
	if s.find = text; text != "" && s.layer.At < s.masks().Layers() && !s.found(s.layer.At) {
		s.Next(1)
	}
}

// Found returns the text that layers are found by.
func (s *Screen) Found() (text string, n, of int) {
	of = s.masks().Layers()
	for i := range of {
		if s.found(i) {
			n++
		}
	}
	return s.find, n, of
}

// Next goes to the next layer that is found.
func (s *Screen) Next(by int) {
	s.layer.At = widget.NextMatch(s.layer.At, by, s.masks().Layers(), s.found)
}

// checkout replaces the draft by a subnet's masks; a draft with edits stays reachable by undo.
func (s *Screen) checkout(id explorer.SubnetID) tea.Cmd {
	return s.host.EditDraft(explorer.Checkout{Subnet: id, Keep: s.snap().Draft.Dirty()})
}

// UndoLabel is the footer's word for undo here.
func (s *Screen) UndoLabel() string { return "undo" }

// CannotUndo returns why no step can be undone, or "".
func (s *Screen) CannotUndo() string {
	if len(s.snap().Draft.Steps) == 0 {
		return "the draft has no steps to undo"
	}
	return ""
}

// Undo takes back the last step on the draft.
func (s *Screen) Undo() tea.Cmd { return s.host.EditDraft(explorer.Undo{}) }

// RedoLabel is the footer's word for redo here.
func (s *Screen) RedoLabel() string { return "redo" }

// CannotRedo returns why no step can be redone, or "".
func (s *Screen) CannotRedo() string {
	if len(s.snap().Draft.Undone) == 0 {
		return "the draft has no steps to redo"
	}
	return ""
}

// Redo repeats the step on the draft that was undone last.
func (s *Screen) Redo() tea.Cmd { return s.host.EditDraft(explorer.Redo{}) }

// edit queues mutations as one step.
func (s *Screen) edit(mutations ...draft.Mutation) tea.Cmd {
	if len(mutations) == 0 {
		return nil
	}
	return s.host.EditDraft(explorer.Edit{Mutations: mutations})
}

// selection returns the layers that actions apply to, in order: the marked ones and the range, or the one under the cursor.
func (s *Screen) selection() []int {
	if s.zoom != zoomModel {
		return []int{s.layer.At}
	}
	var out []int
	for l, on := range s.marked {
		if on {
			out = append(out, l)
		}
	}
	if s.anchor >= 0 {
		for l := min(s.anchor, s.layer.At); l <= max(s.anchor, s.layer.At); l++ {
			if !s.marked[l] {
				out = append(out, l)
			}
		}
	}
	if len(out) == 0 {
		return []int{s.layer.At}
	}
	slices.Sort(out)
	return out
}

func (s *Screen) isSelected(layer int) bool {
	return s.marked[layer] || s.anchor >= 0 && layer >= min(s.anchor, s.layer.At) && layer <= max(s.anchor, s.layer.At)
}

// part is the part of a layer that the cursor is on.
func (s *Screen) part() draft.Module {
	if s.block.kind == subnet.Channels {
		return draft.MLP
	}
	return draft.Attention
}

// blocks are the blocks of a layer, in the order they are listed.
func blocks(g subnet.LayerGeometry) []block {
	out := []block{{kind: subnet.Heads}, {kind: subnet.Channels}}
	for _, k := range []subnet.Kind{subnet.QK, subnet.VO} {
		for i := range g.KVHeads {
			out = append(out, block{k, i})
		}
	}
	return out
}

// set is the set of units of a block.
func (b block) set(masks subnet.Masks, layer int) subnet.Set {
	l := masks.Layer(layer)
	switch b.kind {
	case subnet.Heads:
		return l.Heads
	case subnet.Channels:
		return l.Channels
	case subnet.QK:
		return l.QKOf(b.group, masks.Geometry().HeadDim)
	default: // nothing for the others
	}
	return l.VOOf(b.group, masks.Geometry().HeadDim)
}

// with is the mutation that gives a block another set.
func (b block) with(layer int, set subnet.Set) draft.Mutation {
	switch b.kind {
	case subnet.Heads:
		return draft.SetHeads{Layer: layer, Set: set}
	case subnet.Channels:
		return draft.SetChannels{Layer: layer, Set: set}
	default: // nothing for the others
	}
	return draft.SetHeadChannels{Layer: layer, Group: b.group, VO: b.kind == subnet.VO, Set: set}
}

func (b block) name() string {
	switch b.kind {
	case subnet.Heads:
		return "query heads"
	case subnet.Channels:
		return "mlp channels"
	case subnet.QK:
		return fmt.Sprintf("q/k channels of group %d", b.group)
	default: // nothing for the others
	}
	return fmt.Sprintf("v/o channels of group %d", b.group)
}

// short is its name where there is little room.
func (b block) short() string {
	switch b.kind {
	case subnet.QK:
		return fmt.Sprintf("q/k, group %d", b.group)
	case subnet.VO:
		return fmt.Sprintf("v/o, group %d", b.group)
	default: // nothing for the others
	}
	return b.name()
}

// importance are the scores of a block's units, or nil where there are none.
func (b block) importance(st explorer.Statistics, layer int) []float64 {
	if layer >= len(st.Importance) {
		return nil
	}
	switch b.kind {
	case subnet.Heads:
		return st.Importance[layer].Heads
	case subnet.Channels:
		return st.Importance[layer].Channels
	default: // nothing for the others
	}
	return nil
}

// order is the order in which the units of the current block are shown: unit numbers, the most important first when they
// are sorted and scored.
func (s *Screen) order() []int {
	n := s.units().N()
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	scores := s.block.importance(s.snap().Statistics, s.layer.At)
	if s.sorted && len(scores) == n {
		slices.SortStableFunc(out, func(a, b int) int {
			switch {
			case scores[a] > scores[b]:
				return -1
			case scores[a] < scores[b]:
				return 1
			}
			return 0
		})
	}
	return out
}

// units is the set of the current block, including the stroke under way.
func (s *Screen) units() subnet.Set {
	if s.brush.down {
		return s.brush.set
	}
	masks := s.masks()
	if s.layer.At >= masks.Layers() {
		return subnet.Set{}
	}
	return s.block.set(masks, s.layer.At)
}

// chosenUnits returns the units that actions apply to: the range, or the one under the cursor.
func (s *Screen) chosenUnits() []int {
	order := s.order()
	if len(order) == 0 {
		return nil
	}
	lo, hi := s.unit.At, s.unit.At
	if s.from >= 0 {
		lo, hi = min(lo, s.from), max(hi, s.from)
	}
	return order[layout.Clamp(lo, 0, len(order)-1) : layout.Clamp(hi, 0, len(order)-1)+1]
}

// Follow keeps the cursors inside the model.
func (s *Screen) Follow() {
	n := s.snap().Draft.Masks.Layers()
	s.layer.At = layout.Clamp(s.layer.At, 0, max(0, n-1))
	if s.anchor >= n {
		s.anchor = -1
	}
	if _, ok := subnets.Masks(s.snap(), s.other); s.other != "" && !ok {
		s.other = ""
	}
}

// Status returns live numbers for the footer.
func (s *Screen) Status() string {
	if n := len(s.selection()); s.zoom == zoomModel && n > 1 {
		return fmt.Sprintf("%s  step %d", format.Counted(n, "layer"), s.step)
	}
	return fmt.Sprintf("step %d", s.step)
}

// Back clears the selection or zooms out.
func (s *Screen) Back() (bool, tea.Cmd) {
	s.brush = brush{}
	switch {
	case s.zoom == zoomUnits && s.from >= 0:
		s.from = -1
	case s.zoom != zoomModel:
		s.zoom--
	case s.anchor >= 0 || len(s.marked) > 0:
		s.anchor = -1
		clear(s.marked)
	default:
		return false, nil
	}
	return true, nil
}

// masksCursor is the state that the panes of the screen depend on.
type masksCursor struct {
	zoom       zoom
	layer      widget.List
	block      block
	unit       widget.List
	anchor     int
	from, step int
	sorted     bool
	other      explorer.SubnetID
	marks      string
	owner      *Screen // set while edits are this viewer's alone
	revision   int     // of the queue of edits, and of the brush
	strokes    int
}

func (s *Screen) state() masksCursor {
	c := masksCursor{zoom: s.zoom, layer: s.layer, block: s.block, unit: s.unit, anchor: s.anchor, from: s.from, step: s.step, sorted: s.sorted, other: s.other}
	if len(s.marked) > 0 {
		c.marks = fmt.Sprint(s.marked)
	}
	if _, ahead, revision := s.host.DraftMasks(); ahead || s.brush.down {
		c.owner, c.revision, c.strokes = s, revision, s.strokes
	}
	return c
}

// Panes lays the screen out.
func (s *Screen) Panes(area layout.Rect) []screen.Pane {
	snap := s.snap()
	l := layout.NewMasks(area, s.zoom != zoomModel)
	rev := max(snap.Sections[explorer.SectionDraft], snap.Sections[explorer.SectionStatistics], snap.Sections[explorer.SectionModel])
	masks := s.masks()
	visible := l.Layers.H - 3
	if masks.TrimsVocab() {
		visible-- // its row
	}
	if s.other != "" || masks.TrimsVocab() {
		rev = max(rev, snap.Sections[explorer.SectionSubnets])
	}
	s.layer.Clamp(masks.Layers(), max(1, visible))
	if s.zoom == zoomUnits {
		r := s.unitsRect(l)
		newGrid(s.units().N(), r.W-2, r.H-2).follow(&s.unit)
	}
	state := s.state()
	detail := struct {
		masksCursor
		statistics string // what it shows while they are missing
	}{masksCursor: state}
	if !snap.Statistics.Ready {
		detail.statistics = subnets.StatisticsState(s.host)
	}
	left := func(t *theme.Theme, w, h int) []string { return s.drawLayers(t, w, h) }
	right := func(t *theme.Theme, w, h int) []string { return s.drawDetail(t, w, h) }
	switch s.zoom {
	case zoomLayer:
		left = func(t *theme.Theme, w, h int) []string { return s.drawBlocks(t, w, h) }
	case zoomUnits:
		left = func(t *theme.Theme, w, h int) []string { return s.drawUnits(t, w, h) }
	default: // nothing for the others
	}
	if l.Layers.Empty() { // one pane: zoomed in, what would be on the left is what matters
		l.Layers, l.Detail = l.Detail, layout.Rect{}
	}
	return []screen.Pane{
		{ID: "masks.left", Rect: l.Layers, Rev: rev, State: state, Draw: left},
		{ID: "masks.detail", Rect: l.Detail, Rev: rev, State: detail, Draw: right},
		{ID: "masks.totals", Rect: l.Totals, Rev: max(rev, snap.Sections[explorer.SectionSubnets], snap.Sections[explorer.SectionJobs]), State: state, Draw: func(t *theme.Theme, w, h int) []string { return s.drawTotals(t, w, h) }},
	}
}

// unitsRect is where the units are drawn, with or without a second pane.
func (s *Screen) unitsRect(l layout.Masks) layout.Rect {
	if l.Layers.Empty() {
		return l.Detail
	}
	return l.Layers
}
