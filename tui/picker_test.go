package tui

import (
	"slices"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// picked returns the highlighted row of the list with a title, without its mark, and the row's place on the screen.
func picked(l *loop, title string) (row string, x, y int) {
	left := -1
	for y, line := range strings.Split(l.screen(), "\n") {
		cells := []rune(line)
		if i := strings.Index(line, "╭ "+title); left < 0 && i >= 0 {
			left = len([]rune(line[:i]))
			continue
		}
		if left >= 0 && len(cells) > left+4 && string(cells[left:left+3]) == "│▸ " {
			return strings.TrimSpace(string(cells[left+3:])), left + 4, y
		}
	}
	return "", 0, 0
}

// TestPickersActOnTheHighlightedChoice opens every list to choose from by the key of its action, and chooses each of its rows with the arrows, with the
// mouse and by typing: what runs is what is highlighted.
func TestPickersActOnTheHighlightedChoice(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	explorertest.Do(t, ex, explorer.OpenChat{Name: "second words", Subnets: []explorer.SubnetID{explorer.DenseID}})
	rec := &recorder{Exploration: ex}
	var opened []string
	for _, a := range allActions() {
		if a.ID == "quit" || len(a.Keys) == 0 {
			continue
		}
		l := newLoopOver(t, ex, b, 140, 60, func(o *Options) {
			if slices.Contains([]string{"search", "masks", "reform", "chat", "bench", "library"}, a.Scope) {
				o.Screen = a.Scope
			}
		})
		l.m.ex = rec
		ran := ""
		open := func() *widget.Picker {
			l.press("esc", "esc")
			if !allowed(l, a.ID) {
				return nil
			}
			l.press(a.Keys[0])
			n := len(l.m.overlays)
			if n == 0 {
				return nil
			}
			p, ok := l.m.overlays[n-1].(*widget.Picker)
			if !ok {
				return nil
			}
			choices := p.Choices
			p.Choices = func() []widget.Choice {
				list := choices()
				for i := range list {
					list[i].Run = func() tea.Cmd { ran = list[i].Title; return nil }
				}
				return list
			}
			return p
		}
		p := open()
		if p == nil {
			continue
		}
		opened = append(opened, a.ID)
		list := p.Choices()
		for row := range min(len(list), 30) {
			for _, by := range []string{"arrows", "mouse", "typing"} {
				if p = open(); p == nil {
					t.Fatalf("%s opens no list again", a.ID)
				}
				ran = ""
				if by == "typing" {
					l.write(list[row].Title[:min(len(list[row].Title), 6)])
				} else {
					for range row {
						l.press("down")
					}
				}
				shown, x, y := picked(l, p.Title)
				if by == "mouse" {
					l.press("up", "up") // the click moves the cursor by itself
					l.send(tea.MouseClickMsg{X: x, Y: y, Button: tea.MouseLeft})
					l.send(tea.MouseReleaseMsg{X: x, Y: y, Button: tea.MouseLeft})
				} else {
					l.press("enter")
				}
				off := slices.ContainsFunc(list, func(c widget.Choice) bool { return c.Off != "" && strings.HasPrefix(shown, c.Title) })
				if shown == "" || off != (ran == "") || ran != "" && !strings.HasPrefix(shown, strings.TrimSuffix(ran[:min(len(ran), 20)], "…")) {
					t.Errorf("%s: by %s, %q is highlighted, %q ran", a.ID, by, shown, ran)
				}
			}
		}
	}
	for _, id := range []string{"chat.list", "chat.columns", "chat.add", "chat.new", "chat.probe", "chat.export", "reform.subnet", "masks.open", "masks.diff", "masks.steps", "bench.list", "bench.export", "library.compare", "palette", "jobs"} {
		if !slices.Contains(opened, id) {
			t.Errorf("%s opens no list", id)
		}
	}
}

// TestChoicesDoWhatTheirTitlesName chooses each row of lists of subnets and chats: the command, or what is shown afterwards, is about the row.
func TestChoicesDoWhatTheirTitlesName(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	explorertest.Do(t, ex, explorer.OpenChat{Name: "second words", Subnets: []explorer.SubnetID{explorer.DenseID}})
	rec := &recorder{Exploration: ex}
	for scope, ids := range map[string][]string{"chat": {"chat.new", "chat.columns", "chat.add", "chat.probe", "chat.list"}, "reform": {"reform.subnet"}, "masks": {"masks.open"}} {
		for _, id := range ids {
			for row := 0; ; row++ {
				l := newLoopOver(t, ex, b, 140, 60, func(o *Options) { o.Screen = scope })
				l.m.ex = rec
				l.press("esc", "esc", keyOf(l, id))
				p, ok := l.m.overlays[len(l.m.overlays)-1].(*widget.Picker)
				if !ok {
					t.Fatalf("%s opens no list", id)
				}
				list := p.Choices()
				if row == len(list) {
					break
				}
				title := list[row].Title
				for range row {
					l.press("down")
				}
				rec.take()
				l.press("enter")
				switch id {
				case "chat.list":
					l.sees(" " + title)
				case "reform.subnet":
					l.sees("subnet      " + title[:min(len(title), 24)])
				default:
					var got []string
					l.until(id, func() bool {
						if c := rec.take(); c != nil {
							got = subjectOf(l.m.snap, c)
						}
						return got != nil || strings.Contains(l.screen(), title+" is already in the chat")
					})
					if got != nil && !slices.Contains(got, title) {
						t.Errorf("%s: %s is chosen, the command is about %v", id, title, got)
					}
				}
			}
		}
	}
}

// TestReformShowsTheHighlightedLayer moves over all layers of a re-fit: the details below the list are those of the row with the mark.
func TestReformShowsTheHighlightedLayer(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Filled(t, b), b, 120, 40, func(o *Options) { o.Screen = "reform" })
	l.press("esc")
	seen := make(map[string]bool)
	for range l.m.snap.Model.Layers + 2 {
		at, _ := highlighted(l, "error of each block")
		if at == "" || !strings.Contains(l.screen(), "╭ layer "+at+" ─") {
			t.Fatalf("layer %q is highlighted on\n%s", at, l.screen())
		}
		seen[at] = true
		l.press("down")
	}
	if len(seen) != l.m.snap.Model.Layers {
		t.Errorf("%d of %d layers", len(seen), l.m.snap.Model.Layers)
	}
}

// TestChatActsOnTheHighlightedColumn moves over the columns of a chat: the one in the colour of the focus is shown alone, copied and removed.
func TestChatActsOnTheHighlightedColumn(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	s := ex.Snapshot()
	ids := []explorer.SubnetID{explorer.DenseID, s.Subnets[0].ID, s.Subnets[1].ID}
	titles := []string{"dense", s.Subnets[0].Name, s.Subnets[1].Name}
	explorertest.Do(t, ex, explorer.OpenChat{Name: "three", Subnets: ids})
	rec := &recorder{Exploration: ex}
	for column := range ids {
		l := newLoopOver(t, ex, b, 180, 40, func(o *Options) { o.Screen = "chat" })
		l.m.ex = rec
		l.press("esc")
		for range column {
			l.press("tab")
		}
		focused := l.focusedTitle(titles)
		if focused != titles[column] {
			t.Errorf("after %d steps %q is in the colour of the focus", column, focused)
		}
		l.press(keyOf(l, "chat.alone"))
		for i, title := range titles {
			if shown := strings.Contains(l.screen(), "╭ "+title+" ("); shown != (i == column) {
				t.Errorf("with %s highlighted, %s is shown alone: %v", focused, title, shown)
			}
		}
		l.press(keyOf(l, "chat.alone"))
		rec.take()
		l.press(keyOf(l, "chat.remove"))
		var left []explorer.SubnetID
		l.until("the command", func() bool {
			c, ok := rec.take().(explorer.SetColumns)
			left = c.Subnets
			return ok
		})
		if len(left) != 2 || slices.Contains(left, ids[column]) {
			t.Errorf("with %s highlighted, %v remain", focused, left)
		}
	}
}

// focusedTitle returns the title of the one frame whose corner has another colour than those of the others.
func (l *loop) focusedTitle(titles []string) string {
	l.t.Helper()
	styles := make(map[string][]string) // titles by the style of the corner before them
	for _, row := range strings.Split(l.m.View().Content, "\n") {
		for _, title := range titles {
			i := strings.Index(row, title)
			corner := -1
			if i >= 0 {
				corner = strings.LastIndex(row[:i], "╭")
			}
			if corner < 0 || i-corner > 40 {
				continue
			}
			style := row[:corner]
			style = style[strings.LastIndex(style, "\x1b[")+1:]
			if !slices.Contains(styles[style], title) {
				styles[style] = append(styles[style], title)
			}
		}
	}
	for _, of := range styles {
		if len(of) == 1 {
			return of[0]
		}
	}
	return ""
}
