package layout

// The floor: the smallest terminal on which every screen is complete. On smaller ones the interface only shows a notice.
const (
	FloorW = 40
	FloorH = 10
)

// A Frame is the part common to all screens: a head line, the body, messages and a foot line. Rules between them are left out
// of low terminals.
type Frame struct {
	Head, HeadRule Rect
	Body           Rect
	Notes          Rect
	FootRule, Foot Rect
	TooSmall       bool // the body is the whole terminal and holds a notice only
}

// NewFrame lays out a terminal of w × h cells with room for n messages, or as many as a third of the body takes.
func NewFrame(w, h, n int) Frame {
	all := Rect{0, 0, max(w, 0), max(h, 0)}
	if w < FloorW || h < FloorH {
		return Frame{Body: all, TooSmall: true}
	}
	var f Frame
	f.Head, all = all.CutTop(1)
	all, f.Foot = all.CutBottom(1)
	if h >= 20 {
		f.HeadRule, all = all.CutTop(1)
		all, f.FootRule = all.CutBottom(1)
	}
	f.Body, f.Notes = all.CutBottom(min(n, all.H/3))
	return f
}
