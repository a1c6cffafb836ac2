package search

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// An accepted move glows for some steps of time after the best subnet has changed.
const (
	glowSteps = 3
	glowStep  = time.Second
)

// seen is the best subnet as it was seen last, and when each layer of it changed.
type seen struct {
	job     explorer.JobID
	id      int
	masks   subnet.Masks
	changed []time.Time
}

// watchBest notes which layers a new best subnet changes.
func (s *Screen) watchBest() {
	sr := s.snap().Search
	switch {
	case sr.Best == nil || sr.Job != s.seen.job:
		s.seen = seen{job: sr.Job}
	case sr.Best.ID == s.seen.id:
		return
	}
	if sr.Best == nil {
		return
	}
	before, now := s.seen.masks, sr.Best.Masks
	if n := now.Layers(); s.seen.id != 0 && before.Layers() == n {
		if len(s.seen.changed) != n {
			s.seen.changed = make([]time.Time, n)
		}
		for i := range n {
			if !before.Layer(i).Equal(now.Layer(i)) {
				s.seen.changed[i] = s.host.Now()
			}
		}
	}
	s.seen.id, s.seen.masks = sr.Best.ID, now
}

// glow returns how much each layer still glows, a digit for each; "" while none does, and while no search runs: nothing changes
// on a screen at rest.
func (s *Screen) glow() string {
	if !s.running() || s.chosen != 0 {
		return ""
	}
	now, lit := s.host.Now(), false
	out := make([]byte, len(s.seen.changed))
	for i, at := range s.seen.changed {
		left := 0
		if !at.IsZero() {
			left = max(0, glowSteps-int(now.Sub(at)/glowStep))
		}
		out[i] = '0' + byte(left)
		lit = lit || left > 0
	}
	if !lit {
		return ""
	}
	return string(out)
}

// tried returns the candidates that are being scored, in order.
func tried(sr explorer.Search) []explorer.Candidate {
	least := math.MaxInt
	for _, c := range sr.Population {
		if c.Tier < c.Tiers {
			least = min(least, c.Tier)
		}
	}
	var out []explorer.Candidate
	for _, c := range sr.Population {
		if c.Tier == least {
			out = append(out, c)
		}
	}
	return out
}

// stackState is what the picture of the model depends on besides the snapshot.
type stackState struct {
	searchCursor
	beat   int64 // of the flicker; -1 while nothing is tried
	second int64 // of the time in the phase bar; 0 while no search runs
	glow   string
}

func (s *Screen) stackState() stackState {
	st := stackState{searchCursor: s.state(partStack), beat: -1, glow: s.glow()}
	_, measuring := s.measured()
	if s.running() {
		st.second = s.host.Now().Unix()
	}
	if s.running() && (measuring || s.chosen == 0 && len(tried(s.snap().Search)) > 0) {
		st.beat = s.host.Now().UnixMilli() / screen.ClockEvery.Milliseconds()
	}
	return st
}

// A measure is what is known of the modules before there are candidates.
type measure struct {
	name   string
	values []float64 // of attention and MLP of each layer; NaN where not measured
	at     int       // the module that is measured now; -1 for none
}

// measured returns what to show of the modules while there is no candidate; ok is false once there is one.
func (s *Screen) measured() (m measure, ok bool) {
	snap := s.snap()
	j, runs := s.job()
	if runs && snap.Search.Job == j.ID && snap.Search.Best != nil {
		return measure{}, false
	}
	m.at = -1
	if p := snap.Preparation; runs && p.Job == j.ID && len(p.Modules) > 0 {
		m.name = "output lost at half the width, as prepared"
		rises := slices.ContainsFunc(p.Modules, func(p explorer.Prepared) bool { return p.Measured })
		if rises {
			m.name = "sensitivity: loss at half the width"
		}
		for _, one := range p.Modules {
			v := math.NaN()
			switch {
			case rises && one.Measured:
				v = one.Rise
			case !rises && one.Levels > 0:
				v = one.Lost
			}
			m.values = append(m.values, v)
		}
		switch j.Progress.Phase.Name {
		case "levels":
			m.at = p.Last + 1
		case "sensitivity":
			m.at = p.Last - 1
		}
		return m, true
	}
	if !runs && snap.Search.Best != nil {
		return measure{}, false
	}
	m.name = "sensitivity: loss without the module"
	for _, one := range snap.Statistics.Sensitivity {
		m.values = append(m.values, one.Attention, one.MLP)
	}
	if len(m.values) > 0 {
		return m, true
	}
	m.name = "not measured yet"
	for _, j := range snap.Jobs {
		if j.Kind == explorer.JobStatistics && j.State == explorer.Running && j.Progress.Unit == "layers" {
			m.name, m.at = "statistics", subnet.Modules*int(j.Progress.Done)
		}
	}
	m.values = slices.Repeat([]float64{math.NaN()}, subnet.Modules*snap.Model.Layers)
	return m, true
}

// stackColumns lay a row of the picture out: layers in several columns where they do not fit below one another.
type stackColumns struct {
	columns, rows, w       int // of the layers, and the width of a column
	per                    int // layers on a row, where even columns do not fit them all
	attention, attentionW  int // in a column
	mlp, mlpW, loss, lossW int // lossW is 0 without room for numbers
}

// leastStack is the least width of a column: a number, groups and a bar.
const leastStack = 14

func newStackColumns(g *subnet.Geometry, w, h int) stackColumns {
	n := len(g.Layers)
	most := max(1, w/leastStack)
	c := stackColumns{columns: min(most, (n+max(h, 1)-1)/max(h, 1)), per: 1}
	c.columns = max(1, c.columns)
	for c.columns*max(h, 1)*c.per < n {
		c.per++
	}
	c.rows = (n + c.columns*c.per - 1) / (c.columns * c.per)
	c.w = w / c.columns
	c.attention = 4
	c.attentionW = subnets.AttentionWidth(g, c.w)
	c.mlp = c.attention + c.attentionW + 1
	c.mlpW = c.w - c.mlp - 1
	if c.mlpW >= 18 {
		c.lossW = 6
		c.mlpW -= c.lossW + 1
		c.loss = c.mlp + c.mlpW + 1
	}
	c.mlpW = max(1, c.mlpW)
	return c
}

// drawStack draws the model as a stack of layers: those of the candidate, or what is measured before there is one.
func (s *Screen) drawStack(t *theme.Theme, st stackState, w, h int) []string {
	snap := s.snap()
	g := snap.Model.Geometry
	c, found := s.selected(snap)
	m, measuring := s.measured()
	frame := paint.Frame{Title: "layers", Focused: s.focus == partStack}
	switch {
	case measuring:
	case s.chosen != 0 && found:
		frame.Title = fmt.Sprintf("candidate #%d", c.ID)
	case found:
		frame.Title = "best at " + explorer.TargetName(snap.Search.Target)
	}
	return widget.Box(t, frame, w, h, func(w, h int) []string {
		if g == nil || len(g.Layers) == 0 {
			return widget.Paragraph(w, t.Dim, "No model is open.")
		}
		var facts []string
		if j, runs := s.job(); runs {
			if j.Reason != "" {
				facts = s.drawReason(t, j, w)
			}
			facts = append(facts, s.phaseBar(t, j, w))
		}
		if !measuring && found {
			facts = append(facts, s.candidateFacts(t, c, w)...)
		} else {
			facts = append(facts, widget.Line(w).Put(t.Dim, text.Clip(m.name, w-2)).String())
		}
		const least = 3 // facts that come before rows of layers
		room := max(h-len(facts), min(len(g.Layers)+1, h-min(len(facts), least)))
		cols := newStackColumns(g, w, room)
		var rows []string
		if cols.columns == 1 && cols.per == 1 && cols.rows < room {
			rows = append(rows, s.stackHead(t, cols, w, measuring))
		}
		draw := func(r *paint.Row, x, layer int) { s.stackMask(r, t, cols, c.Masks, nil, st, x, layer) }
		if measuring {
			draw = func(r *paint.Row, x, layer int) { s.stackMeasure(r, t, cols, m, st, x, layer) }
		} else if now := tried(snap.Search); st.beat >= 0 && st.beat%2 == 0 && len(now) > 0 {
			candidate := now[int(st.beat/2)%len(now)].Masks
			draw = func(r *paint.Row, x, layer int) { s.stackMask(r, t, cols, c.Masks, &candidate, st, x, layer) }
		}
		for y := range cols.rows {
			r := paint.NewRow(w, theme.Style{})
			for k := range cols.columns {
				if layer := (k*cols.rows + y) * cols.per; layer < len(g.Layers) {
					r.Pad(k * cols.w)
					draw(r, k*cols.w, layer)
				}
			}
			rows = append(rows, r.String())
		}
		rows = append(rows, facts[:min(len(facts), max(0, h-len(rows)))]...)
		if left := h - len(rows); left >= 9 && len(snap.Statistics.Sensitivity) > 1 {
			rows = append(rows, paint.Blank(w))
			rows = append(rows, s.sensitivityPlot(t).Draw(t, w, left-1)...)
		}
		return rows
	})
}

// stackHead names the columns.
func (s *Screen) stackHead(t *theme.Theme, c stackColumns, w int, measuring bool) string {
	r := paint.NewRow(w, theme.Style{}).Put(t.Dim, "  L").Pad(c.attention).Put(t.Dim, text.Clip("attention", c.attentionW)).Pad(c.mlp).Put(t.Dim, text.Clip("mlp", c.mlpW))
	if c.lossW > 0 && !measuring {
		r.Pad(c.loss).Num(t.Dim, "cut", c.lossW)
	}
	return r.String()
}

// stackMask draws one layer: heads, the channels that are kept, and those that a candidate that is tried adds or drops.
func (s *Screen) stackMask(r *paint.Row, t *theme.Theme, c stackColumns, masks subnet.Masks, candidate *subnet.Masks, st stackState, x, layer int) {
	g := masks.Geometry()
	if layer >= masks.Layers() {
		return
	}
	l := masks.Layer(layer)
	mark, number, kept := " ", t.Dim, t.Kept
	if layer < len(st.glow) && st.glow[layer] > '0' {
		left := int(st.glow[layer] - '0')
		mark = []string{t.Glyph.Divider, t.Glyph.Ring, t.Glyph.Dot}[min(left, glowSteps)-1]
		number, kept = t.Accent, []theme.Style{t.Good, t.Warn, t.Focus}[min(left, glowSteps)-1]
	}
	r.Num(number, strconv.Itoa(layer), 3).Put(t.Accent, mark)
	subnets.AttentionRun(r, t, masks, candidate, layer, c.attentionW)
	r.Pad(x + c.mlp)
	v := subnets.Kept(l.Channels)
	to := v
	if candidate != nil && layer < candidate.Layers() {
		to = subnets.Kept(candidate.Layer(layer).Channels)
	}
	solid, pending := min(v, to), max(v, to)
	bar := strings.TrimRight(t.Glyph.HBar(solid, c.mlpW), " ") // in ASCII parts of a cell are blank
	r.Put(kept, bar)
	used := text.Width(bar)
	if pending > solid {
		n := max(1, int(pending*float64(c.mlpW)+0.5)-used)
		n = min(n, c.mlpW-used)
		r.Put(t.Pending, strings.Repeat(t.Glyph.Shades[2], n))
		used += n
	}
	if n := c.mlpW - used; n > 0 {
		r.Put(t.Dropped, strings.Repeat(t.Glyph.Shades[1], n))
	}
	if c.lossW > 0 {
		attention, ffn := g.ModuleParams(layer)
		cut := 1 - float64(l.Params(g, layer))/float64(max(1, attention+ffn))
		r.Pad(x+c.loss).Num(t.HeatAt(cut), text.Percent(cut), c.lossW)
	}
}

// stackMeasure draws what was measured of one layer: bars by the square root of the value, coloured by it too.
func (s *Screen) stackMeasure(r *paint.Row, t *theme.Theme, c stackColumns, m measure, st stackState, x, layer int) {
	highest := 0.0
	for _, v := range m.values {
		if v > highest && !math.IsInf(v, 0) {
			highest = v
		}
	}
	mark := " "
	if m.at >= 0 && m.at/subnet.Modules == layer && st.beat >= 0 {
		mark = t.Glyph.Spinner[int(st.beat)%len(t.Glyph.Spinner)]
	}
	r.Num(t.Dim, strconv.Itoa(layer), 3).Put(t.Pending, mark)
	for module, w := range [subnet.Modules]int{c.attentionW, c.mlpW} {
		if module > 0 {
			r.Pad(x + c.mlp)
		}
		at := layer*subnet.Modules + module
		if at >= len(m.values) {
			continue
		}
		v := m.values[at]
		if math.IsNaN(v) {
			style, glyph := t.Dropped, t.Glyph.Shades[1]
			if at == m.at && st.beat%2 == 0 {
				style, glyph = t.Pending, t.Glyph.Shades[2]
			} else if m.name == "statistics" && at < m.at {
				style, glyph = t.Partial, t.Glyph.Shades[2]
			}
			r.Put(style, strings.Repeat(glyph, w))
			continue
		}
		size := 0.0
		if highest > 0 {
			size = math.Sqrt(max(0, v) / highest)
		}
		bar := t.Glyph.HBar(size, w)
		if bar == "" {
			bar = t.Glyph.Divider
		}
		r.Put(t.HeatAt(size), bar)
	}
	if at := layer*subnet.Modules + 1; c.lossW > 0 && at < len(m.values) && !math.IsNaN(m.values[at]+m.values[at-1]) {
		r.Pad(x+c.loss).Num(t.Dim, text.Small(m.values[at]+m.values[at-1]), c.lossW)
	}
}

// sensitivityPlot charts the sensitivity of the modules by layer.
func (s *Screen) sensitivityPlot(t *theme.Theme) chart.Plot {
	var attention, mlp []chart.Point
	for i, v := range s.snap().Statistics.Sensitivity {
		attention = append(attention, chart.Point{X: float64(i), Y: v.Attention})
		mlp = append(mlp, chart.Point{X: float64(i), Y: v.MLP})
	}
	return chart.Plot{
		X: chart.Axis{Label: "layer", Integer: true}, Y: chart.Axis{Label: "sensitivity, nats per token", Zero: true}, Legend: true,
		Series: []chart.Series{{Name: "attention", Style: t.SeriesAt(2), Points: attention, Join: true}, {Name: "mlp", Style: t.SeriesAt(0), Points: mlp, Join: true}},
	}
}

// phaseBar draws how far a job is: a segment for each of its phases, and the time that is left of all of them.
func (s *Screen) phaseBar(t *theme.Theme, j explorer.Job, w int) string {
	p := j.Progress
	r := widget.Line(w)
	of, at, name := max(1, p.Phase.Of), max(1, p.Phase.Number), p.Phase.Name
	end := ""
	switch d, what := p.Clock(s.host.Now()); {
	case j.State != explorer.Running && s.snap().Awaits(j) != "":
		end = "waits for " + text.Line(s.snap().Awaits(j))
	case j.State != explorer.Running:
		end = string(j.State)
	case d > 0:
		end = format.Clock(d) + " " + what
		if strings.HasSuffix(what, name) { // "left of levels"
			name = ""
		}
	case p.Total > 0:
		end = text.Percent(p.Fraction())
	}
	if of > 1 && j.State != explorer.Queued {
		end = strings.TrimSpace(fmt.Sprintf("%d/%d %s  %s", at, of, name, end))
	}
	segment := max(2, min(8, (w-text.Width(end)-4)/of))
	for i := range of {
		done := 0
		switch {
		case i+1 < at:
			done = segment - 1
		case i+1 == at:
			done = int(p.Fraction()*float64(segment-1) + 0.5)
		}
		r.Put(t.Accent, strings.Repeat(t.Glyph.Full, done)).Put(t.Dropped, strings.Repeat(t.Glyph.Shades[1], segment-1-done)).Put(t.Text, " ")
	}
	return r.Put(t.Dim, text.Clip(end, max(0, r.Room()-1))).String()
}
