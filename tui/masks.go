package tui

import (
	"fmt"
	"slices"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// zoom is how close the Masks screen looks.
type zoom int

const (
	zoomModel zoom = iota // all layers, one row each
	zoomLayer             // the blocks of one layer
	zoomUnits             // the units of one block
)

// A block is a set of units of one layer: the query heads, the MLP channels, or the channels inside the heads of a group.
type block struct {
	kind  subnet.Kind
	group int
}

// masksScreen edits the masks in work.
type masksScreen struct {
	zoom   zoom
	layer  list
	anchor int          // other end of a range of layers; -1 without one
	marked map[int]bool // layers marked one by one
	block  block
	unit   list // cursor among the units, in the order they are shown
	from   int  // other end of a range of units; -1 without one
	sorted bool
	step   int // units that the cut moves by
	other  explorer.SubnetID
	brush  brush

	// Commands on the draft go out one at a time, so that fast keys neither overtake each other nor meet a stale version.
	waiting []explorer.Command
	sent    bool
	version uint64       // of the draft that the next command is meant for
	preview subnet.Masks // the draft with what waits and what was sent; valid while ahead
	ahead   bool
	changes int // grows with every change of the fields above, for caches
}

func newMasksScreen() *masksScreen {
	return &masksScreen{anchor: -1, from: -1, marked: map[int]bool{}, block: block{kind: subnet.Channels}, sorted: true, step: 32}
}

// masks are the masks as they will be once everything typed has arrived.
func (s *masksScreen) masks(m *Model) subnet.Masks {
	if s.ahead {
		return s.preview
	}
	return m.snap.Draft.Masks
}

// queue gives a command on the draft after those that wait.
func (s *masksScreen) queue(m *Model, c explorer.Command) tea.Cmd {
	s.changes++
	if !s.sent && len(s.waiting) == 0 {
		s.version = m.snap.Draft.Version
		s.preview = m.snap.Draft.Masks
	}
	if e, ok := c.(explorer.Edit); ok {
		next, err := explorer.Apply(s.masks(m), m.snap.Statistics, e.Mutations...)
		if err != nil {
			m.fail(err)
			return nil
		}
		s.preview, s.ahead = next, true
		if k := len(s.waiting) - 1; k >= 0 { // fast keys become one step
			if last, ok := s.waiting[k].(explorer.Edit); ok {
				last.Mutations = slices.Concat(last.Mutations, e.Mutations)
				s.waiting[k] = last
				return nil
			}
		}
	}
	s.waiting = append(s.waiting, c)
	return s.next(m)
}

// next sends the next command that waits.
func (s *masksScreen) next(m *Model) tea.Cmd {
	if s.sent || len(s.waiting) == 0 {
		return nil
	}
	c := s.waiting[0]
	s.waiting = s.waiting[1:]
	s.sent = true
	switch k := c.(type) {
	case explorer.Edit:
		k.Version = s.version
		c = k
	case explorer.Undo:
		k.Version = s.version
		c = k
	case explorer.Redo:
		k.Version = s.version
		c = k
	case explorer.Checkout:
		k.Version = s.version
		c = k
	}
	return m.do(c, nil)
}

// settled takes in the outcome of a command, if it was one of the draft's. A failure drops what waits behind it: it was
// meant for masks that are not there.
func (s *masksScreen) settled(_ *Model, msg doneMsg) {
	switch msg.command.(type) {
	case explorer.Edit, explorer.Undo, explorer.Redo, explorer.Checkout:
	default:
		return
	}
	s.changes++
	s.sent = false
	if msg.err != nil {
		s.waiting = nil
	}
	s.version = msg.receipt.Version
	if len(s.waiting) == 0 {
		s.ahead = false
	}
}

// edit queues mutations as one step.
func (s *masksScreen) edit(m *Model, mutations ...explorer.Mutation) tea.Cmd {
	if len(mutations) == 0 {
		return nil
	}
	return s.queue(m, explorer.Edit{Mutations: mutations})
}

// selection are the layers that an action is about, in order: the marked ones and the range, or the one under the cursor.
func (s *masksScreen) selection() []int {
	if s.zoom != zoomModel {
		return []int{s.layer.at}
	}
	var out []int
	for l, on := range s.marked {
		if on {
			out = append(out, l)
		}
	}
	if s.anchor >= 0 {
		for l := min(s.anchor, s.layer.at); l <= max(s.anchor, s.layer.at); l++ {
			if !s.marked[l] {
				out = append(out, l)
			}
		}
	}
	if len(out) == 0 {
		return []int{s.layer.at}
	}
	slices.Sort(out)
	return out
}

func (s *masksScreen) isSelected(layer int) bool {
	return s.marked[layer] || s.anchor >= 0 && layer >= min(s.anchor, s.layer.at) && layer <= max(s.anchor, s.layer.at)
}

// part is the part of a layer that the cursor is on.
func (s *masksScreen) part() explorer.Part {
	if s.block.kind == subnet.Channels {
		return explorer.MLP
	}
	return explorer.Attention
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
	}
	return l.VOOf(b.group, masks.Geometry().HeadDim)
}

// with is the mutation that gives a block another set.
func (b block) with(layer int, set subnet.Set) explorer.Mutation {
	switch b.kind {
	case subnet.Heads:
		return explorer.SetHeads{Layer: layer, Set: set}
	case subnet.Channels:
		return explorer.SetChannels{Layer: layer, Set: set}
	}
	return explorer.SetHeadChannels{Layer: layer, Group: b.group, VO: b.kind == subnet.VO, Set: set}
}

func (b block) name() string {
	switch b.kind {
	case subnet.Heads:
		return "query heads"
	case subnet.Channels:
		return "mlp channels"
	case subnet.QK:
		return fmt.Sprintf("q/k channels of group %d", b.group)
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
	}
	return nil
}

// order is the order in which the units of the current block are shown: unit numbers, the most important first when they
// are sorted and scored.
func (s *masksScreen) order(m *Model) []int {
	n := s.units(m).N()
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	scores := s.block.importance(m.snap.Statistics, s.layer.at)
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

// units is the set of the current block, with what is being painted.
func (s *masksScreen) units(m *Model) subnet.Set {
	if s.brush.down {
		return s.brush.set
	}
	masks := s.masks(m)
	if s.layer.at >= masks.Layers() {
		return subnet.Set{}
	}
	return s.block.set(masks, s.layer.at)
}

// chosenUnits are the units that an action is about: the range, or the one under the cursor.
func (s *masksScreen) chosenUnits(m *Model) []int {
	order := s.order(m)
	if len(order) == 0 {
		return nil
	}
	lo, hi := s.unit.at, s.unit.at
	if s.from >= 0 {
		lo, hi = min(lo, s.from), max(hi, s.from)
	}
	return order[clamp(lo, 0, len(order)-1) : clamp(hi, 0, len(order)-1)+1]
}

// follow keeps the cursors inside the model.
func (s *masksScreen) follow(m *Model) {
	n := m.snap.Draft.Masks.Layers()
	s.layer.at = clamp(s.layer.at, 0, max(0, n-1))
	if s.anchor >= n {
		s.anchor = -1
	}
	if _, ok := masksOf(m.snap, s.other); s.other != "" && !ok {
		s.other = ""
	}
}

func (s *masksScreen) status(m *Model) string {
	if n := len(s.selection()); s.zoom == zoomModel && n > 1 {
		return fmt.Sprintf("%d layers  step %d", n, s.step)
	}
	return fmt.Sprintf("step %d", s.step)
}

// back zooms out, or forgets the selection first.
func (s *masksScreen) back(*Model) (bool, tea.Cmd) {
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
	layer      list
	block      block
	unit       list
	anchor     int
	from, step int
	sorted     bool
	other      explorer.SubnetID
	marks      string
	owner      *masksScreen // set while the preview is this viewer's own
	changes    int
}

func (s *masksScreen) state() masksCursor {
	c := masksCursor{zoom: s.zoom, layer: s.layer, block: s.block, unit: s.unit, anchor: s.anchor, from: s.from, step: s.step, sorted: s.sorted, other: s.other}
	if len(s.marked) > 0 {
		c.marks = fmt.Sprint(s.marked)
	}
	if s.ahead || s.brush.down {
		c.owner, c.changes = s, s.changes
	}
	return c
}

func (s *masksScreen) panes(m *Model, area layout.Rect) []pane {
	snap := m.snap
	l := layout.NewMasks(area, s.zoom != zoomModel)
	rev := max(snap.Sections[explorer.SectionDraft], snap.Sections[explorer.SectionStatistics], snap.Sections[explorer.SectionModel])
	if s.other != "" {
		rev = max(rev, snap.Sections[explorer.SectionSubnets])
	}
	n := s.masks(m).Layers()
	s.layer.clamp(n, max(1, l.Layers.H-3))
	if s.zoom == zoomUnits {
		r := s.unitsRect(l)
		newGrid(s.units(m).N(), r.W-2, r.H-2).follow(&s.unit)
	}
	state := s.state()
	left := func(t *theme.Theme, w, h int) []string { return s.drawLayers(m, t, w, h) }
	right := func(t *theme.Theme, w, h int) []string { return s.drawDetail(m, t, w, h) }
	switch s.zoom {
	case zoomLayer:
		left = func(t *theme.Theme, w, h int) []string { return s.drawBlocks(m, t, w, h) }
	case zoomUnits:
		left = func(t *theme.Theme, w, h int) []string { return s.drawUnits(m, t, w, h) }
	}
	if l.Layers.Empty() { // one pane: zoomed in, what would be on the left is what matters
		l.Layers, l.Detail = l.Detail, layout.Rect{}
	}
	return []pane{
		{id: "masks.left", rect: l.Layers, rev: rev, state: state, draw: left},
		{id: "masks.detail", rect: l.Detail, rev: rev, state: state, draw: right},
		{id: "masks.totals", rect: l.Totals, rev: max(rev, snap.Sections[explorer.SectionSubnets], snap.Sections[explorer.SectionJobs]), state: state, draw: func(t *theme.Theme, w, h int) []string { return s.drawTotals(m, t, w, h) }},
	}
}

// unitsRect is where the units are drawn, whether or not there is a second pane.
func (s *masksScreen) unitsRect(l layout.Masks) layout.Rect {
	if l.Layers.Empty() {
		return l.Detail
	}
	return l.Layers
}
