package tui

import (
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/tui/internal/text"
)

// key takes a key press: ctrl+c and esc first, then the overlay or text field that has the keys, then the actions.
func (m *Model) key(k tea.KeyPressMsg) tea.Cmd {
	name := k.String()
	if name == "ctrl+c" {
		return tea.Quit
	}
	if name == "esc" {
		return m.escape()
	}
	if n := len(m.overlays); n > 0 {
		top := m.overlays[n-1]
		if !top.typing() || chord(k) {
			if a := m.keys.lookup(everywhere, name); a != nil && strings.HasPrefix(a.id, "screen.") {
				return m.perform(a)
			}
		}
		return top.key(m, k)
	}
	if m.typing() && !chord(k) {
		return m.screens[m.active].(typist).typed(m, k)
	}
	if a := m.actionFor(name); a != nil {
		return m.perform(a)
	}
	if m.typing() {
		return m.screens[m.active].(typist).typed(m, k)
	}
	return nil
}

// chord reports whether a key can be an action while a text field has the keys: function keys, tab and what is pressed
// together with ctrl or alt, unless it edits text.
func chord(k tea.KeyPressMsg) bool {
	switch name := k.String(); name {
	case "tab", "shift+tab", "pgup", "pgdown":
		return true
	case "ctrl+a", "ctrl+e", "ctrl+b", "ctrl+f", "ctrl+k", "ctrl+u", "ctrl+w", "ctrl+d", "ctrl+h", "ctrl+j", "ctrl+left", "ctrl+right", "alt+left",
		"alt+right", "alt+b", "alt+f", "alt+d", "alt+backspace", "alt+enter", "ctrl+enter", "ctrl+backspace", "ctrl+delete":
		return false
	}
	if k.Code >= tea.KeyF1 && k.Code <= tea.KeyF63 {
		return true
	}
	return k.Mod&(tea.ModCtrl|tea.ModAlt|tea.ModMeta|tea.ModSuper) != 0
}

// escape goes back one step: closes the top overlay, leaves a text field or a zoom level, or puts messages away.
func (m *Model) escape() tea.Cmd {
	if n := len(m.overlays); n > 0 {
		m.overlays = m.overlays[:n-1]
		return nil
	}
	if m.typing() {
		if ok, cmd := m.screens[m.active].back(m); ok {
			return cmd
		}
	}
	if m.dismissNotes() {
		return nil
	}
	_, cmd := m.screens[m.active].back(m)
	return cmd
}

func (m *Model) paste(s string) tea.Cmd {
	s = text.Block(s)
	if n := len(m.overlays); n > 0 {
		m.overlays[n-1].paste(m, s)
		return nil
	}
	if t, ok := m.screens[m.active].(typist); ok {
		return t.pasted(m, s)
	}
	return nil
}

// pointer takes a mouse message: overlays first, then the frame, then the pane under the pointer.
func (m *Model) pointer(msg tea.MouseMsg) tea.Cmd {
	if m.mouseOff {
		return nil
	}
	at := msg.Mouse()
	e := mouseEvent{button: at.Button, shift: at.Mod&tea.ModShift != 0}
	switch msg.(type) {
	case tea.MouseClickMsg:
		e.kind = mouseClick
	case tea.MouseMotionMsg:
		e.kind = mouseDrag
	case tea.MouseReleaseMsg:
		e.kind = mouseRelease
	case tea.MouseWheelMsg:
		e.kind = mouseWheel
		switch at.Button {
		case tea.MouseWheelUp:
			e.delta = -1
		case tea.MouseWheelDown:
			e.delta = 1
		default:
			return nil
		}
	default:
		return nil
	}
	f := m.area()
	if n := len(m.overlays); n > 0 {
		top := m.overlays[n-1]
		r := top.place(m, f.Body)
		if !r.Contains(at.X, at.Y) {
			if e.kind == mouseClick {
				m.overlays = m.overlays[:n-1]
			}
			return nil
		}
		e.x, e.y = at.X-r.X, at.Y-r.Y
		return top.mouse(m, e)
	}
	switch {
	case f.Head.Contains(at.X, at.Y) && e.kind == mouseClick:
		if id, ok := m.tabAt(at.X); ok {
			return m.show(id)
		}
		return nil
	case f.Foot.Contains(at.X, at.Y) && e.kind == mouseClick:
		if a := m.footerAt(at.X); a != nil {
			return m.perform(a)
		}
		return nil
	case f.Notes.Contains(at.X, at.Y) && e.kind == mouseClick:
		m.dismissNotes()
		return nil
	}
	for _, p := range m.screens[m.active].panes(m, f.Body) {
		if p.rect.Contains(at.X, at.Y) {
			e.x, e.y = at.X-p.rect.X, at.Y-p.rect.Y
			return m.screens[m.active].mouse(m, p, e)
		}
	}
	return nil
}
