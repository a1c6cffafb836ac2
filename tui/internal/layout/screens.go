package layout

// Below these sizes a body has no room for panes side by side: it shows one at a time under a line of tabs.
const (
	splitW = 76
	splitH = 16
)

// Single reports whether a body shows one pane at a time.
func Single(r Rect) bool { return r.W < splitW || r.H < splitH }

// Tabs splits a body into a line of tabs and the pane below.
func Tabs(r Rect) (tabs, rest Rect) { return r.CutTop(1) }

// Search is the layout of the Search screen: the model on the left, the chart beside it, tables and progress where they fit.
// Without room, Population takes turns with History and Events, and where there are answers they take the place of History.
type Search struct{ Stack, Chart, Population, History, Events, Answers Rect }

// NewSearch lays out the Search screen, with answers of candidates or without.
func NewSearch(r Rect, answers bool) Search {
	var s Search
	if r.W >= 150 {
		cols := r.Columns(8, 9, 7)
		s.Stack = cols[0]
		middle, right := cols[1].Rows(3, 2), cols[2].Rows(3, 2)
		if answers {
			right = cols[2].Rows(4, 4, 2)
			s.Answers, right = right[1], []Rect{right[0], right[2]}
		}
		s.Chart, s.History, s.Population, s.Events = middle[0], middle[1], right[0], right[1]
		return s
	}
	s.Stack, r = r.CutLeft(Clamp(r.W/2, 38, 66))
	if answers {
		weights := []int{5, 4, 4}
		if r.H < 30 {
			weights = []int{8, 6, 7}
		}
		rows := r.Rows(weights...)
		s.Chart, s.Population, s.Answers = rows[0], rows[1], rows[2]
		return s
	}
	if r.H < 30 {
		rows := r.Rows(11, 9)
		s.Chart, s.Population = rows[0], rows[1]
		return s
	}
	rows := r.Rows(5, 4, 4)
	s.Chart, s.Population, s.History = rows[0], rows[1], rows[2]
	return s
}

// Masks is the layout of the Masks screen: the layers, the detail of one, and rows about the whole below both.
type Masks struct{ Layers, Detail, Totals Rect }

// NewMasks lays out the Masks screen. With little room it has either layers or detail.
func NewMasks(r Rect, detail bool) Masks {
	var m Masks
	lines := 2
	switch {
	case r.W < 110 && r.H >= 19:
		lines = 4
	case r.H >= 15:
		lines = 3
	}
	r, m.Totals = r.CutBottom(lines)
	switch {
	case r.W >= splitW:
		m.Layers, m.Detail = r.CutLeft(Clamp(r.W*11/20, 42, 110))
	case detail:
		m.Detail = r
	default:
		m.Layers = r
	}
	return m
}

// Side is a layout of two columns, the first w cells wide where possible; below splitW they are stacked, the first h rows
// high.
func Side(r Rect, w, h int) (first, second Rect) {
	if r.W >= splitW {
		return r.CutLeft(min(w, r.W/2))
	}
	return r.CutTop(min(h, r.H*3/5))
}

// Chat is the layout of the Chat screen: a line on top, one or two columns, the prompt below.
type Chat struct {
	Head    Rect
	Columns []Rect // as many as fit, of those asked for
	Prompt  Rect
}

// NewChat lays out n columns above a prompt of some rows. Where they do not fit side by side only one is shown.
func NewChat(r Rect, n, prompt int) Chat {
	var c Chat
	c.Head, r = r.CutTop(1)
	r, c.Prompt = r.CutBottom(Clamp(prompt, 1, max(1, r.H/3)) + 2)
	fit := max(1, min(n, r.W/36))
	weights := make([]int, fit)
	for i := range weights {
		weights[i] = 1
	}
	c.Columns = r.Columns(weights...)
	return c
}

// Clamp returns the value in [lo, hi] nearest to v.
func Clamp(v, lo, hi int) int { return max(lo, min(v, hi)) }
