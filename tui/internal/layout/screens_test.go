package layout

import "testing"

// inside fails unless the rectangles lie in the area and do not overlap.
func inside(t *testing.T, name string, area Rect, parts ...Rect) {
	t.Helper()
	for i, p := range parts {
		if p.W < 0 || p.H < 0 {
			t.Fatalf("%s: part %d has a negative size: %v", name, i, p)
		}
		if p.Empty() {
			continue
		}
		if p.X < area.X || p.Y < area.Y || p.X+p.W > area.X+area.W || p.Y+p.H > area.Y+area.H {
			t.Fatalf("%s: part %d %v leaves %v", name, i, p, area)
		}
		for k, q := range parts[:i] {
			if !q.Empty() && p.X < q.X+q.W && q.X < p.X+p.W && p.Y < q.Y+q.H && q.Y < p.Y+p.H {
				t.Fatalf("%s: parts %d %v and %d %v overlap in %v", name, k, q, i, p, area)
			}
		}
	}
}

func TestLayoutsStayInsideAtEverySize(t *testing.T) {
	for w := 0; w <= 500; w += 1 + w/40 {
		for h := 0; h <= 200; h += 1 + h/20 {
			for n := range 4 {
				f := NewFrame(w, h, n)
				all := Rect{0, 0, w, h}
				inside(t, "frame", all, f.Head, f.HeadRule, f.Body, f.Notes, f.FootRule, f.Foot)
				sum := f.Head.H + f.HeadRule.H + f.Body.H + f.Notes.H + f.FootRule.H + f.Foot.H
				if w > 0 && sum != h {
					t.Fatalf("frame of %d rows fills %d", h, sum)
				}
				if f.TooSmall {
					continue
				}
				if !Single(f.Body) {
					for _, answers := range []bool{false, true} {
						s := NewSearch(f.Body, answers)
						inside(t, "search", f.Body, s.Stack, s.Chart, s.History, s.Population, s.Events, s.Answers)
						if s.Answers.Empty() == answers {
							t.Fatalf("answers %v at %d×%d take %+v", answers, w, h, s.Answers)
						}
					}
				}
				for _, detail := range []bool{false, true} {
					m := NewMasks(f.Body, detail)
					inside(t, "masks", f.Body, m.Layers, m.Detail, m.Totals)
					if m.Layers.Empty() && m.Detail.Empty() {
						t.Fatalf("masks shows nothing at %d×%d", w, h)
					}
				}
				a, b := Side(f.Body, 44, 8)
				inside(t, "side", f.Body, a, b)
				for cols := 1; cols <= 3; cols++ {
					c := NewChat(f.Body, cols, 1+n)
					inside(t, "chat", f.Body, append([]Rect{c.Head, c.Prompt}, c.Columns...)...)
					if c.Columns[0].Empty() {
						t.Fatalf("chat shows no column at %d×%d", w, h)
					}
				}
			}
		}
	}
}

func TestSizesThatMustShowEverything(t *testing.T) {
	for _, c := range []struct {
		w, h   int
		single bool
	}{{60, 18, true}, {80, 24, false}, {120, 40, false}, {200, 60, false}} {
		if got := Single(NewFrame(c.w, c.h, 0).Body); got != c.single {
			t.Errorf("Single at %d×%d = %v", c.w, c.h, got)
		}
	}
	if c := NewChat(NewFrame(80, 24, 0).Body, 2, 1); len(c.Columns) != 2 {
		t.Errorf("chat at 80×24 shows %d columns", len(c.Columns))
	}
}
