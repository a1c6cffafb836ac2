package masks

import (
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/explorer/format"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// drawDetail draws the block under the cursor: the units kept, their importance, and the actions on it.
func (s *Screen) drawDetail(t *theme.Theme, w, h int) []string {
	masks := s.masks()
	if masks.Layers() == 0 {
		return widget.Box(t, paint.Frame{Title: "detail"}, w, h, func(int, int) []string { return nil })
	}
	i := s.layer.At
	set := s.units()
	return widget.Box(t, paint.Frame{Title: fmt.Sprintf("layer %d · %s", i, s.block.short())}, w, h, func(w, h int) []string {
		r := widget.Line(w).Put(t.Strong, fmt.Sprintf("%d of %d kept", set.Len(), set.N()))
		switch s.block.kind {
		case subnet.Heads:
			lg := masks.Geometry().Layers[i]
			r.Put(t.Dim, fmt.Sprintf(" in %d of %s", masks.Layer(i).Groups(lg).Len(), format.Counted(lg.KVHeads, "group")))
		case subnet.Channels:
			r.Put(t.Dim, fmt.Sprintf(" (step %d)", s.step))
		default: // nothing for the others
		}
		rows := []string{r.String()}
		rows = append(rows, s.drawSensitivity(t, w, h)...)
		rows = append(rows, s.drawDiff(t, masks, w)...)
		hints := s.detailHints(t, w)
		room := h - len(rows) - len(hints) - 1
		if scores := s.block.importance(s.snap().Statistics, i); len(scores) == set.N() && len(scores) > 0 && room >= 3 {
			if s.snap().Statistics.ByNorms && room >= 5 {
				rows = append(rows, widget.Paragraph(w, t.Warn, "Ranked by weight norms alone: "+subnets.StatisticsState(s.host)+".")...)
				room = h - len(rows) - len(hints) - 1
			}
			rows = append(rows, drawRanks(t, set, scores, w, min(room, 14))...)
		} else if room >= 2 && s.block.importance(s.snap().Statistics, i) == nil && (s.block.kind == subnet.Channels || s.block.kind == subnet.Heads) {
			rows = append(rows, paint.Blank(w))
			rows = append(rows, widget.Paragraph(w, t.Dim, "Not ranked yet: "+subnets.StatisticsState(s.host)+".")...)
		}
		if s.zoom == zoomUnits && room >= 2 {
			rows = append(rows, s.drawUnit(t, w))
		}
		for len(rows) < h-len(hints) {
			rows = append(rows, paint.Blank(w))
		}
		return append(rows[:max(0, min(len(rows), h-len(hints)))], hints...)
	})
}

// drawSensitivity draws the predicted rise of the loss when the whole block is dropped.
func (s *Screen) drawSensitivity(t *theme.Theme, w, h int) []string {
	if s.layer.At >= len(s.snap().Statistics.Sensitivity) {
		return nil
	}
	of := s.snap().Statistics.Sensitivity[s.layer.At]
	v := of.Attention
	what := "attention"
	if s.block.kind == subnet.Channels {
		v, what = of.MLP, "mlp"
	}
	label, value, unit := "sensitivity ", text.Small(v), " nats/token"
	if text.Width(what+" "+label+value+unit) < w {
		label = what + " " + label
	}
	rows := []string{widget.Line(w).Put(t.Text, label+value).Put(t.Dim, unit).String()}
	if s.zoom == zoomModel && h >= 20 {
		rows = append(rows, widget.Paragraph(w, t.Dim, "sensitivity: rise of the loss without it")...)
	}
	return rows
}

// drawDiff draws how the block differs from that of the subnet it is compared with.
func (s *Screen) drawDiff(t *theme.Theme, masks subnet.Masks, w int) []string {
	o, ok := subnets.Masks(s.snap(), s.other)
	if s.other == "" || !ok {
		return nil
	}
	mine, theirs := s.block.set(masks, s.layer.At), s.block.set(o, s.layer.At)
	added, removed := mine.Minus(theirs).Len(), theirs.Minus(mine).Len()
	r := widget.Line(w).Put(t.Dim, "against "+subnets.Name(s.snap(), s.other)+": ").Put(t.Added, fmt.Sprintf("+%d", added)).Put(t.Removed, fmt.Sprintf(" -%d", removed))
	return []string{r.String()}
}

// drawRanks draws the importance of units, the most important first, in different styles for kept and dropped.
func drawRanks(t *theme.Theme, set subnet.Set, scores []float64, w, h int) []string {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case scores[a] > scores[b]:
			return -1
		case scores[a] < scores[b]:
			return 1
		}
		return 0
	})
	n := max(1, w-2)
	values := make([]float64, len(order))
	kept := make([]float64, len(order))
	highest := scores[order[0]]
	for i, u := range order {
		values[i] = math.Sqrt(max(0, scores[u]) / max(highest, math.SmallestNonzeroFloat64))
		if set.Has(u) {
			kept[i] = 1
		}
	}
	values, kept = chart.Resample(values, n), chart.Resample(kept, n)
	for i, top := 0, max(slices.Max(values), math.SmallestNonzeroFloat64); i < len(values); i++ {
		values[i] /= top // a column is many units: one that towers above all must not flatten the rest
	}
	height := h - 2
	rows := []string{widget.Line(w).Put(t.Dim, "importance by rank, square root").String()}
	for y := height - 1; y >= 0; y-- {
		r := widget.Line(w)
		for x, v := range values {
			level := v*float64(height) - float64(y)
			style := t.Kept
			if kept[x] < 0.5 {
				style = t.Dropped
			}
			switch {
			case level <= 0 && y > 0:
				r.Put(t.Text, " ")
			case level >= 1:
				r.Put(style, t.Glyph.Full)
			default:
				r.Put(style, t.Glyph.Bar(level))
			}
		}
		rows = append(rows, r.String())
	}
	share := float64(set.Len()) / float64(max(1, set.N()))
	mark := layout.Clamp(int(share*float64(len(values))), 0, max(0, len(values)-1))
	r := widget.Line(w)
	if set.IsFull() {
		return append(rows, r.Right(t.Kept, "all kept ").String())
	}
	if mark > 6 {
		r.Pad(1+mark-5).Put(t.Kept, "kept ")
	} else {
		r.Pad(1 + mark)
	}
	r.Put(t.Axis, t.Glyph.V)
	if label := " dropped"; r.Room() >= len(label) {
		r.Put(t.Dropped, label)
	}
	return append(rows, r.String())
}

// drawUnit describes the unit under the cursor.
func (s *Screen) drawUnit(t *theme.Theme, w int) string {
	chosen := s.chosenUnits()
	if len(chosen) == 0 {
		return paint.Blank(w)
	}
	set := s.units()
	if len(chosen) > 1 {
		kept := 0
		for _, u := range chosen {
			if set.Has(u) {
				kept++
			}
		}
		return widget.Line(w).Put(t.Text, fmt.Sprintf("%s selected, %d kept", format.Counted(len(chosen), "unit"), kept)).String()
	}
	u := chosen[0]
	state, style := "dropped", t.Removed
	if set.Has(u) {
		state, style = "kept", t.Kept
	}
	r := widget.Line(w).Put(t.Text, fmt.Sprintf("unit %d ", u)).Put(style, state)
	if scores := s.block.importance(s.snap().Statistics, s.layer.At); len(scores) == set.N() {
		rank := 1
		for _, v := range scores {
			if v > scores[u] {
				rank++
			}
		}
		rating := fmt.Sprintf(", rank %d of %d", rank, set.N())
		if score := fmt.Sprintf(", score %.3g", scores[u]); r.Room() >= text.Width(rating+score) {
			rating += score
		}
		r.Put(t.Dim, rating)
	}
	return r.String()
}

// detailHints are the keys that make sense at this zoom, in two columns.
func (s *Screen) detailHints(t *theme.Theme, w int) []string {
	ids := []string{"masks.shrink", "masks.top", "masks.drop", "undo", "masks.restore", "masks.like"}
	switch s.zoom {
	case zoomLayer:
		ids = []string{"masks.in", "masks.shrink", "masks.drop", "undo", "masks.restore", "masks.invert"}
	case zoomUnits:
		ids = []string{"masks.toggle", "masks.range", "masks.invert", "undo", "masks.restore", "masks.sort"}
	default: // nothing for the others
	}
	var rows []string
	for i := 0; i < len(ids); i += 2 {
		r := widget.Line(w)
		for k := i; k < min(i+2, len(ids)); k++ {
			hint := s.host.Hint(ids[k])
			if ids[k] == "undo" {
				hint.Label = s.UndoLabel()
			}
			keyStyle, style := t.Key, t.KeyText
			if s.host.Blocked(hint.Action) != "" {
				keyStyle, style = t.KeyOff, t.KeyOff
			}
			r.Pad(1+(k-i)*(w/2)).Put(keyStyle, hint.Key).Put(style, " "+text.Clip(hint.Label, max(0, w/2-text.Width(hint.Key)-3)))
		}
		rows = append(rows, r.String())
	}
	return rows
}

// drawTotals draws the costs of the draft and its estimated and measured perplexity.
func (s *Screen) drawTotals(t *theme.Theme, w, h int) []string {
	snap, d := s.snap(), s.snap().Draft
	masks := s.masks()
	if masks.Layers() == 0 {
		return nil
	}
	base, ok := subnets.Masks(snap, d.Base)
	if !ok {
		base = subnet.Dense(masks.Geometry())
	}
	origin := widget.Segment{Style: t.Dim, Text: "as " + subnets.Name(snap, d.Base)}
	if n, ok := snap.Saved(); ok {
		origin = widget.Segment{Style: t.Good, Text: "saved as " + text.Clip(text.Line(n.Name), max(24, w/3))}
	} else if n := len(d.Steps); n > 0 {
		origin = widget.Segment{Style: t.Warn, Text: format.Counted(n, "change")}
		if w >= 110 {
			origin.Text = "edited: " + origin.Text + " since " + subnets.Name(snap, d.Base)
		}
	}
	costs := append([]widget.Segment{origin}, s.costSegments(t, base, masks, w)...)
	rows := widget.Flow(t, w, costs, 3)
	if len(rows) > max(1, h-1) {
		rows = rows[:max(1, h-1)]
	}
	return append(rows, widget.Flow(t, w, s.quality(t, w), 3)...)
}

// costSegments are the costs of the draft, and those of its base where they differ.
func (s *Screen) costSegments(t *theme.Theme, base, masks subnet.Masks, w int) []widget.Segment {
	was, now, dense := s.cost(base), s.cost(masks), s.cost(subnet.Dense(masks.Geometry()))
	change := func(label, a, b string) widget.Segment {
		if a != b {
			b = a + " " + t.Glyph.Right + " " + b
		}
		return widget.Segment{Style: t.Text, Text: label + " " + b}
	}
	out := []widget.Segment{
		change("ratio", fmt.Sprintf("%.3f", was.Size.Ratio), fmt.Sprintf("%.3f", now.Size.Ratio)),
		change("GGUF", format.Bytes(float64(was.Bytes)), format.Bytes(float64(now.Bytes))),
		change("KV/token", format.Bytes(float64(was.Size.KVBytesPerToken)), format.Bytes(float64(now.Size.KVBytesPerToken))),
		change("FLOPs/token", text.Percent(was.FLOPs/dense.FLOPs), text.Percent(now.FLOPs/dense.FLOPs)),
	}
	if s.snap().RefittedBefore(masks) {
		words := "re-fitted before the edits: " + s.host.Key("masks.reform") + " re-fits again"
		if w < 110 {
			words = "edits not re-fitted"
		}
		out = append(out, widget.Segment{Style: t.Warn, Text: words})
	}
	if z := now.Size.ZeroedParams; z > 0 {
		out = append(out, widget.Segment{Style: t.Warn, Text: format.Count(float64(z)) + " only zeroed"})
	}
	why := explorer.NotSmaller(base, masks, was.Bytes, now.Bytes)
	if whole := subnet.Dense(masks.Geometry()); why == "" {
		why = explorer.NotSmaller(whole, masks, dense.Bytes, now.Bytes)
	}
	if file := &out[1]; why != "" && w >= 76 {
		file.Style, file.Text = t.Warn, file.Text+" ("+why+")"
	}
	return out
}

// quality is the estimated perplexity with its typical error, and the measured one. Narrow rows get shorter words.
func (s *Screen) quality(t *theme.Theme, w int) []widget.Segment {
	d := s.snap().Draft
	_, ahead, _ := s.host.DraftMasks()
	narrow := w < 76
	var out []widget.Segment
	switch e := d.Estimate; {
	case ahead:
		out = append(out, widget.Segment{Style: t.Dim, Text: "estimating"})
	case e.Valid:
		est := "est. " + text.Relative(math.Exp(e.Loss)) + " × dense"
		if e.Perplexity > 0 && !narrow {
			est += ", " + text.Perplexity(e.Perplexity) + " ppl"
		}
		out = append(out, widget.Segment{Style: t.Strong, Text: est + accuracy(t, e, narrow)})
	default:
		out = append(out, widget.Segment{Style: t.Dim, Text: "no estimate: " + subnets.StatisticsState(s.host)})
	}
	j, measures := s.snap().Measures(explorer.DraftID)
	switch k := d.Measured; {
	case measures:
		out = append(out, widget.Segment{Style: t.Pending, Text: s.measuring(j)})
	case k != nil && d.MeasuredVersion == d.Version && !ahead:
		truth := t.Glyph.Check + " true " + relative(k)
		if !narrow {
			truth += fmt.Sprintf(", %s tokens, %s", format.Count(float64(k.Conditions.Tokens)), k.At.Local().Format("15:04"))
		}
		out = append(out, widget.Segment{Style: t.Good, Text: truth})
	case k != nil:
		out = append(out, widget.Segment{Style: t.Dim, Text: "true " + relative(k) + " before the last edit"})
	default:
		out = append(out, widget.Segment{Style: t.Dim, Text: s.host.Key("masks.measure") + " measures it"})
	}
	return out
}

// measuring is what a measurement of the draft that has not ended does, or what it waits for.
func (s *Screen) measuring(j explorer.Job) string {
	switch what := s.snap().Awaits(j); {
	case what != "":
		return "the measurement waits for " + text.Line(what)
	case j.State == explorer.Paused:
		return "the measurement is paused: " + s.host.Key("jobs") + " resumes it"
	case j.State != explorer.Running:
		return "the measurement waits"
	}
	return "measuring the true perplexity"
}

// relative is the measured perplexity relative to the dense model's, or alone where that is not known.
func relative(k *explorer.Measurement) string {
	if r := k.Relative(); r > 0 {
		return text.Relative(r) + " × dense, " + text.Perplexity(k.Perplexity) + " ppl"
	}
	return text.Perplexity(k.Perplexity) + " ppl"
}

// accuracy describes the typical error of estimates of this kind. Before one was compared with a measurement it is that
// on another model, which is valid for re-fitted masks only.
func accuracy(t *theme.Theme, e explorer.Estimate, short bool) string {
	switch {
	case e.High != 0:
		return fmt.Sprintf(", 9 of 10 within %s to %s", text.Relative(math.Exp(e.Low)), text.Relative(math.Exp(e.High)))
	case e.Compared == 0 && short:
		return ", untested here"
	case e.Compared == 0 && !e.Refitted:
		return ", assumes a re-fit, untested here"
	case e.Compared == 0:
		return fmt.Sprintf(", half within %.0f %%, 9 of 10 within %.0f %% on SmolLM2-135M", 100*explorer.TriedHalf, 100*explorer.TriedMost)
	case short:
		return fmt.Sprintf(" %s %.0f %% (n=%d)", t.Glyph.PlusMinus, 100*e.Spread, e.Compared)
	}
	return fmt.Sprintf(", typically %.0f %% off (n=%d)", 100*e.Spread, e.Compared)
}
