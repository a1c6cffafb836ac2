package tui

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/action"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// key handles a key press: ctrl+c and esc first, then the overlay or text field that has the keys, then the actions.
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
		if !top.Typing() || chord(k) {
			if a := m.keys.Lookup(action.Everywhere, name); a != nil && strings.HasPrefix(a.ID, "screen.") {
				return m.perform(a)
			}
		}
		return top.Key(host{m}, k)
	}
	if m.typing() && !chord(k) {
		return m.input().Typed(k)
	}
	if !m.typing() && m.findNext(name) {
		return nil
	}
	for _, scope := range []string{m.active().Name(), action.Everywhere} {
		if a := m.keys.Lookup(scope, name); a != nil {
			return m.perform(a)
		}
	}
	if m.typing() {
		return m.input().Typed(k)
	}
	return nil
}

// chord reports whether a key can be an action while a text field has the keys: function keys, tab, and keys with ctrl or
// alt that do not edit text.
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

// escape goes back one step: it closes the top overlay, leaves a text field or a zoom level, or dismisses messages.
func (m *Model) escape() tea.Cmd {
	if n := len(m.overlays); n > 0 {
		top := m.overlays[n-1]
		if e, ok := top.(interface{ Escaped() (kept bool) }); ok && e.Escaped() {
			return nil
		}
		m.overlays = m.overlays[:n-1]
		return nil
	}
	if m.typing() {
		if ok, cmd := m.active().Back(); ok {
			return cmd
		}
	}
	if m.dismissNotes() || m.showAll() {
		return nil
	}
	_, cmd := m.active().Back()
	return cmd
}

// paste inserts text into the field that has the keys.
func (m *Model) paste(s string) {
	lost := 0
	if n := len(m.overlays); n > 0 {
		lost = m.overlays[n-1].Paste(s)
	} else if in := m.input(); in != nil {
		lost = in.Pasted(s)
	}
	if lost > 0 {
		m.note(explorer.Warning, fmt.Sprintf("the text is too long: its last %d characters were left out, a field holds %d", lost, widget.MaxField))
	}
}

// pointer handles a mouse message: overlays first, then the frame, then the pane under the pointer.
func (m *Model) pointer(msg tea.MouseMsg) tea.Cmd {
	if m.mouseOff {
		return nil
	}
	at := msg.Mouse()
	e := screen.MouseEvent{Shift: at.Mod&tea.ModShift != 0}
	switch msg.(type) {
	case tea.MouseClickMsg:
		e.Kind = screen.Click
	case tea.MouseMotionMsg:
		e.Kind = screen.Drag
	case tea.MouseReleaseMsg:
		e.Kind = screen.Release
	case tea.MouseWheelMsg:
		e.Kind = screen.Wheel
		switch at.Button {
		case tea.MouseWheelUp:
			e.Delta = -1
		case tea.MouseWheelDown:
			e.Delta = 1
		default:
			return nil
		}
	default:
		return nil
	}
	f := m.area()
	if n := len(m.overlays); n > 0 {
		top := m.overlays[n-1]
		r := top.Place(host{m}, f.Body)
		if !r.Contains(at.X, at.Y) {
			if e.Kind == screen.Click {
				m.overlays = m.overlays[:n-1]
			}
			return nil
		}
		e.X, e.Y = at.X-r.X, at.Y-r.Y
		return top.Mouse(host{m}, e)
	}
	switch {
	case f.Head.Contains(at.X, at.Y) && e.Kind == screen.Click:
		if i, ok := m.tabAt(at.X); ok {
			return m.show(i)
		}
		return nil
	case f.Foot.Contains(at.X, at.Y) && e.Kind == screen.Click:
		if id := m.footerAt(at.X); id != "" {
			return m.perform(m.action(id))
		}
		return nil
	case f.Notes.Contains(at.X, at.Y) && e.Kind == screen.Click:
		m.dismissNotes()
		return nil
	}
	for _, p := range m.active().Panes(f.Body) {
		if p.Rect.Contains(at.X, at.Y) {
			e.X, e.Y = at.X-p.Rect.X, at.Y-p.Rect.Y
			return m.active().Mouse(p, e)
		}
	}
	return nil
}
