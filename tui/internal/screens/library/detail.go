package library

import (
	"fmt"
	"strings"

	"github.com/lathe-llm/lathe/explorer/format"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

func (s *Screen) drawDetail(t *theme.Theme, w, h int) []string {
	n, ok := s.selected()
	title, note := "subnet", ""
	if ok {
		title, note = text.Line(n.Name), string(n.ID)
	}
	return widget.Box(t, paint.Frame{Title: title, Note: note}, w, h, func(w, h int) []string {
		if !ok {
			return widget.Paragraph(w, t.Dim, "Details of the selected subnet appear here.")
		}
		return s.subnetRows(t, n, w, h)
	})
}

// subnetRows returns the facts about a subnet, most important first.
func (s *Screen) subnetRows(t *theme.Theme, n explorer.Subnet, w, h int) []string {
	snap := s.snap()
	var rows []string
	add := func(label string, forms ...string) { rows = append(rows, widget.Fact(t, w, label, forms...)...) }
	add("lineage", lineage(snap, n))
	add("ratio", fmt.Sprintf("%.3f of block parameters, %.3f of all", n.Size.Ratio, n.Size.RatioAll), fmt.Sprintf("%.3f (%.3f of all)", n.Size.Ratio, n.Size.RatioAll))
	size := fmt.Sprintf("%s, KV %s", format.Bytes(float64(n.Bytes)), format.Bytes(float64(n.Size.KVBytesPerToken)))
	if n.Size.ZeroedParams > 0 {
		zeroed := ", " + format.Count(float64(n.Size.ZeroedParams)) + " parameters only zeroed"
		add("size", size+"/token"+zeroed, size+zeroed)
	} else {
		add("size", size+"/token", size)
	}
	for i, k := range n.Measurements {
		if i == 3 {
			break
		}
		v := text.Perplexity(k.Perplexity) + " ppl"
		if r := k.Relative(); r > 0 {
			v = text.Relative(r) + " × dense, " + v
		}
		full := v
		c := k.Conditions
		if c.Stride > 0 {
			full += fmt.Sprintf(", stride %d", c.Stride)
		}
		on := fmt.Sprintf(" on %s tokens of %s", format.Count(float64(c.Tokens)), baseName(c.Text.Path))
		label := ""
		if i == 0 {
			label = "quality"
		}
		add(label, full+on+", "+c.Type, full+on, v+on, v)
		if d := k.Distance; d != nil {
			pm := t.Glyph.PlusMinus
			kl, same := fmt.Sprintf("KL %.3f %s %.3f nats", d.KL, pm, d.KLError), fmt.Sprintf("top-1 %.1f %s %.1f %%", 100*d.Agreement, pm, 100*d.AgreementError)
			from := "from " + text.Line(baseName(d.From))
			add(from, kl+", "+same, fmt.Sprintf("KL %.3f, top-1 %.1f %%", d.KL, 100*d.Agreement))
		}
	}
	key := s.host.Key("library.measure")
	switch held := heldOut(n); {
	case len(n.Measurements) > 0:
		add("held-out", held...)
	case held != nil: // measured when it was made
		add("quality", held...)
		add("", "measured when it was made; "+key+" measures more", key+" measures more")
	default:
		add("quality", "not measured: "+key+" measures it", "none yet: "+key+" measures it")
	}
	if k := n.HeldOut; k.GeneralDense > 0 {
		both := fmt.Sprintf("%s × dense, %s ppl", text.Relative(k.General/k.GeneralDense), text.Perplexity(k.General))
		add("general", both+" on the default text", both)
	}
	switch other, ok := snap.Refitted(n); {
	case n.Method.Kept != "":
		rows = append(rows, widget.Line(w).Col(t.Dim, "weights", widget.FactLabel).Put(t.Bad, n.Method.Kept+": a re-fit was worse").String())
	case n.Refitted():
		add("weights", weights(n))
	case ok:
		add("weights", "not re-fitted; "+text.Line(other.Name)+" has the same masks, re-fitted", "not re-fitted; "+text.Line(other.Name)+" is", "not re-fitted")
	default:
		add("weights", "not re-fitted")
	}
	if u := n.Method.Tune; u != nil {
		from := fmt.Sprintf("divergence %.3f %s %.3f", u.Before, t.Glyph.Right, u.After)
		in := from + " in " + subnets.TunedBy(u)
		add("tuned", in+", lower is closer to dense", in, from)
	}
	if types := n.TypesText(); types != "" {
		add("types", "mixed: "+types, "mixed")
	}
	add("method", subnets.Making(n))
	if n.Method.Windows > 0 {
		windows := fmt.Sprintf("%d × %d tokens", n.Method.Windows, n.Method.Seq)
		add("calibration", windows+" of "+baseName(n.Method.Text.Path), windows)
	}
	add("note", text.Line(n.Note))
	if n.Author != "" {
		add("made", text.Date(n.Created)+" by "+text.Line(n.Author))
	} else {
		add("made", text.Date(n.Created))
	}
	if n.Masks.Layers() > 0 && len(rows)+4 <= h {
		if len(rows)+5 <= h {
			rows = append(rows, paint.Blank(w))
		}
		rows = append(rows, subnets.Strips(t, n.Masks, w)...)
	}
	return rows
}

// heldOut describes the held-out perplexity that the making of a subnet measured, in shorter and shorter forms.
func heldOut(n explorer.Subnet) []string {
	k := n.HeldOut
	if k.Perplexity <= 0 {
		return nil
	}
	after, before := text.Perplexity(k.Perplexity)+" ppl", ""
	if r := k.Relative(); r > 0 {
		after = text.Relative(r) + " × dense, " + after
	}
	if k.Unfitted > 0 && k.Unfitted != k.Perplexity {
		before = ", " + text.Perplexity(k.Unfitted) + " before re-fitting"
	}
	if k.Rejected > 0 {
		before = ", " + text.Perplexity(k.Rejected) + " with the re-fit"
	}
	on := fmt.Sprintf(" on %d tokens", explorer.HeldOutTokens)
	return []string{after + before + "," + on + " of " + baseName(n.Method.Text.Path), after + before + "," + on, after + on, after}
}

func baseName(path string) string {
	if path == "" {
		return "the default text"
	}
	return text.Line(path[strings.LastIndexAny(path, `/\`)+1:])
}

// lineage describes how a subnet was made, from itself back to the first.
func lineage(snap *explorer.Snapshot, n explorer.Subnet) string {
	parts := []string{string(n.Origin)}
	for range 8 {
		if n.Parent == "" || n.Parent == explorer.DenseID {
			break
		}
		p, ok := snap.Subnet(n.Parent)
		if !ok {
			parts = append(parts, "a deleted subnet")
			break
		}
		parts = append(parts, text.Line(p.Name))
		n = p
	}
	return strings.Join(parts, " from ")
}

// details opens all facts about a subnet, its layers included.
func (s *Screen) details() tea.Cmd {
	n, _ := s.selected()
	do := func(id string) func() tea.Cmd {
		return func() tea.Cmd { return s.host.Perform(id) }
	}
	s.host.Open(&widget.Pager{Title: text.Line(n.Name), Width: 100, Lines: func(w int) []string {
		t := s.host.Theme()
		rows := append(widget.Fact(t, w, "id", string(n.ID)+", its name on the command line"), s.subnetRows(t, n, w, 99)...)
		if n.Masks.Layers() > 0 {
			rows = append(rows, paint.Blank(w), widget.Line(w).Put(t.Title, "masks").String())
			for i := range n.Masks.Layers() {
				rows = append(rows, subnets.LayerRow(t, n.Masks, i, w))
			}
		}
		return rows
	}, More: []widget.PagerAction{{Key: "c", Label: "chat", Run: do("library.chat")}, {Key: "m", Label: "edit masks", Run: do("library.edit")}, {Key: "r", Label: "reform", Run: do("library.reform")}, {Key: "b", Label: "bench", Run: do("library.bench")}, {Key: "e", Label: "export", Run: do("library.export")}}})
	return nil
}

// compare opens two subnets side by side: numbers first, then the layers that differ.
func (s *Screen) compare(a, b explorer.SubnetID) tea.Cmd {
	am, okA := subnets.Masks(s.snap(), a)
	bm, okB := subnets.Masks(s.snap(), b)
	if !okA || !okB {
		s.host.Note(explorer.Warning, "one of the two subnets has no masks")
		return nil
	}
	s.host.Open(&widget.Pager{Title: subnets.Name(s.snap(), a) + " and " + subnets.Name(s.snap(), b), Width: 110, Lines: func(w int) []string {
		return s.compareRows(s.host.Theme(), a, b, am, bm, w)
	}})
	return nil
}

func (s *Screen) compareRows(t *theme.Theme, a, b explorer.SubnetID, am, bm subnet.Masks, w int) []string {
	snap := s.snap()
	col := max(10, (w-14)/3)
	rows := []string{widget.Line(w).Col(t.Dim, "", 12).Num(t.Strong, text.Clip(subnets.Name(snap, a), col-1), col).Num(t.Strong, text.Clip(subnets.Name(snap, b), col-1), col).Num(t.Dim, "change", col).String()}
	row := func(k, x, y, change string, better int) {
		style := t.Dim
		switch better {
		case 1:
			style = t.Good
		case -1:
			style = t.Bad
		}
		rows = append(rows, widget.Line(w).Col(t.Dim, k, 12).Num(t.Text, x, col).Num(t.Text, y, col).Num(style, change, col).String())
	}
	number := func(k string, x, y float64, format func(float64) string, higher ...bool) { // higher: more is better

		if x <= 0 || y <= 0 {
			none := func(v float64) string {
				if v <= 0 {
					return text.None
				}
				return format(v)
			}
			row(k, none(x), none(y), "", 0)
			return
		}
		better := 0
		switch {
		case y < x:
			better = 1
		case y > x:
			better = -1
		}
		if len(higher) > 0 {
			better = -better
		}
		row(k, format(x), format(y), text.Signed(100*(y/x-1), 1)+" %", better)
	}
	ac, bc := s.cost(am), s.cost(bm)
	number("ratio", ac.Size.Ratio, bc.Size.Ratio, func(v float64) string { return text.Fixed(v, 3) })
	number("GGUF", float64(ac.Bytes), float64(bc.Bytes), format.Bytes[float64])
	number("KV/token", float64(ac.Size.KVBytesPerToken), float64(bc.Size.KVBytesPerToken), format.Bytes[float64])
	number("FLOPs/token", ac.FLOPs, bc.FLOPs, format.SI[float64])
	number("prefill", ac.Prefill, bc.Prefill, format.SI[float64])
	ap, bp, same := comparablePerplexities(snap, a, b)
	number("× dense", relativeOf(snap, a), relativeOf(snap, b), text.Relative)
	number("ppl", ap, bp, text.Perplexity)
	number("tok/s", speedOf(snap, a), speedOf(snap, b), func(v float64) string { return text.Fixed(v, 1) }, true)
	if !same && ap > 0 && bp > 0 {
		rows = append(rows, widget.Line(w).Put(t.Warn, "the two perplexities were measured under different conditions").String())
	}
	rows = append(rows, paint.Blank(w))
	edits := subnet.Diff(am, bm)
	if len(edits) == 0 {
		return append(rows, widget.Line(w).Put(t.Dim, "the masks are the same").String())
	}
	half := (w - 4 - 16) / 2
	rows = append(rows, paint.NewRow(w, theme.Style{}).Pad(4).Col(t.Title, text.Clip(subnets.Name(snap, a), half-1), half).Col(t.Title, text.Clip(subnets.Name(snap, b), half-1), half).
		Put(t.Dim, "change").String())
	for i := range am.Layers() {
		rows = append(rows, subnets.PairRow(t, am, bm, i, w))
	}
	for _, e := range edits {
		if e.Kind == subnet.QK || e.Kind == subnet.VO {
			what := fmt.Sprintf("layer %d, %s channels of group %d", e.Layer, e.Kind, e.Group)
			rows = append(rows, widget.Line(w).Col(t.Text, what, 36).Put(t.Added, fmt.Sprintf("+%d ", e.Added.Len())).Put(t.Removed, fmt.Sprintf("-%d", e.Dropped.Len())).String())
		}
	}
	return rows
}

// relativeOf returns the perplexity of a subnet over that of the dense model, 0 if it is not known.
func relativeOf(snap *explorer.Snapshot, id explorer.SubnetID) float64 {
	if id == explorer.DenseID {
		return 1
	}
	n, _ := snap.Subnet(id)
	return n.Figure().Relative
}

// comparablePerplexities returns the perplexities of two subnets, under equal conditions where possible.
func comparablePerplexities(snap *explorer.Snapshot, a, b explorer.SubnetID) (x, y float64, same bool) {
	of := func(id explorer.SubnetID) []explorer.Measurement {
		n, _ := snap.Subnet(id)
		return n.Measurements
	}
	am, bm := of(a), of(b)
	for _, k := range am {
		for _, l := range bm {
			if k.Conditions == l.Conditions {
				return k.Perplexity, l.Perplexity, true
			}
		}
	}
	if len(am) > 0 {
		x = am[0].Perplexity
	}
	if len(bm) > 0 {
		y = bm[0].Perplexity
	}
	return x, y, false
}
