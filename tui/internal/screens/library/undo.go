package library

import (
	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/text"
)

// UndoLabel is the footer's word for undo here.
func (s *Screen) UndoLabel() string { return "undelete" }

// RedoLabel is the footer's word for redo here.
func (s *Screen) RedoLabel() string { return "delete again" }

// CannotUndo returns why no deletion can be undone, or "".
func (s *Screen) CannotUndo() string {
	if len(s.snap().Trash) == 0 {
		return "nothing was deleted"
	}
	return ""
}

// Undo restores the subnet that was deleted last.
func (s *Screen) Undo() tea.Cmd {
	gone := s.snap().Trash[0]
	return s.host.Do(explorer.RestoreSubnet{Subnet: gone.ID}, func(explorer.Receipt) tea.Cmd {
		s.restored = append(s.restored, gone.ID)
		s.host.Note(explorer.Info, "restored "+text.Line(gone.Name)+"; "+s.host.Key("redo")+" deletes it again")
		return nil
	})
}

// again returns the subnet that was restored last, unless it is gone since.
func (s *Screen) again() (explorer.Subnet, bool) {
	if len(s.restored) == 0 {
		return explorer.Subnet{}, false
	}
	n, ok := s.snap().Subnet(s.restored[len(s.restored)-1])
	return n, ok && n.Deleted.IsZero()
}

// CannotRedo returns why no deletion can be done again, or "".
func (s *Screen) CannotRedo() string {
	if _, ok := s.again(); !ok {
		return "no deletion was undone"
	}
	return ""
}

// Redo deletes the subnet that was restored last again.
func (s *Screen) Redo() tea.Cmd {
	n, _ := s.again()
	return s.host.Do(explorer.DeleteSubnet{Subnet: n.ID}, func(explorer.Receipt) tea.Cmd {
		s.restored = s.restored[:len(s.restored)-1]
		s.host.Note(explorer.Info, text.Line(n.Name)+" is in the trash again; "+s.host.Key("undo")+" restores it")
		return nil
	})
}
