package tui

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/tui/internal/action"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// A note is a message to this viewer alone.
type note struct {
	level explorer.MessageLevel
	text  string
	at    time.Time
	more  int  // messages like it that it stands for
	stays bool // until it is dismissed, whatever its level
}

// fadeAfter is how long a message stays on the screen, 0 for until it is dismissed. All stay in the list of messages.
func fadeAfter(l explorer.MessageLevel) time.Duration {
	switch l {
	case explorer.Info:
		return 10 * time.Second
	case explorer.Warning:
		return time.Minute
	default: // nothing for the others
	}
	return 0
}

// left is how long a note stays on the screen from now on, and false where it stays until it is dismissed.
func (n note) left(now time.Time) (time.Duration, bool) {
	if n.stays {
		return 0, false
	}
	d := fadeAfter(n.level)
	return d - now.Sub(n.at), d > 0
}

// kind is what messages that differ in numbers alone have in common.
func (n note) kind() string {
	number := false
	return strings.Map(func(r rune) rune {
		was := number
		number = unicode.IsDigit(r)
		switch {
		case number && was:
			return -1
		case number:
			return '0'
		}
		return r
	}, n.text)
}

// shownNotes is the number of messages on the screen at once; the others follow when these are dismissed.
const shownNotes = 3

// note shows a message until it fades or is dismissed. Of informational messages only the newest stays.
func (m *Model) note(level explorer.MessageLevel, s string) {
	m.addNote(note{level: level, text: text.Line(s), at: m.now()})
}

// noteEnd shows what a job ended with. After one that a user may have left alone it stays until it is dismissed.
func (m *Model) noteEnd(j explorer.Job, s string) {
	m.addNote(note{level: explorer.Info, text: text.Line(s), at: m.now(), stays: j.Author != "" && j.Ended.Sub(j.Created) > fadeAfter(explorer.Info)})
}

// addNote adds a message to those on the screen and to the list.
func (m *Model) addNote(n note) {
	passing := func(n note) bool { return n.level == explorer.Info && !n.stays }
	for i, old := range m.notes {
		if old.level == n.level && old.text == n.text || passing(n) && passing(old) {
			m.notes = append(m.notes[:i:i], m.notes[i+1:]...)
			break
		}
	}
	const kept = 50
	last := func(notes []note) []note { return notes[max(0, len(notes)-kept):] }
	m.notes, m.noted = last(append(m.notes, n)), last(append(m.noted, n))
	m.dirty = true
}

// fail shows the error of a command.
func (m *Model) fail(err error) {
	switch {
	case errors.Is(err, explorer.ErrStale):
		m.note(explorer.Warning, "not done: "+format.Error(err)+"; check the screen and try again")
	default:
		for _, a := range m.actions {
			if a.Remedies != nil && errors.Is(err, a.Remedies) {
				scope := m.screens[m.screenNamed(a.Scope)].Title()
				m.note(explorer.Warning, fmt.Sprintf("%s: %s on %s: %s", format.Error(err), m.keyOf(a), scope, action.LowerFirst(a.Title)))
				return
			}
		}
		m.note(explorer.Failure, format.Error(err))
	}
}

// visibleNotes are the messages on the screen, oldest first: unread ones of the exploration and those to this viewer.
func (m *Model) visibleNotes() []note {
	all := m.unread()
	if len(all) > shownNotes {
		all = all[len(all)-shownNotes:]
	}
	return all
}

func (m *Model) unread() []note {
	var all []note
	for _, msg := range m.snap.Messages {
		if msg.ID <= m.readUpTo {
			continue
		}
		n := note{level: msg.Level, text: text.Line(msg.Text), at: msg.At}
		if msg.Author != "" && msg.Author != m.actor.Name {
			n.text = text.Line(msg.Author) + ": " + n.text
		}
		if k := len(all); k > 0 && n.level == explorer.Info && all[k-1].level == explorer.Info {
			all[k-1] = n
			continue
		}
		all = append(all, n)
	}
	return m.folded(append(all, m.notes...))
}

// folded are the notes that have not faded, one for each kind: the newest of it.
func (m *Model) folded(all []note) []note {
	now, out, at := m.now(), all[:0:0], map[string]int{}
	for _, n := range all {
		if left, fades := n.left(now); fades && left <= 0 {
			continue
		}
		if i, ok := at[n.kind()]; ok && out[i].level == n.level {
			n.more = out[i].more + 1
			out[i] = n
			continue
		}
		at[n.kind()] = len(out)
		out = append(out, n)
	}
	return out
}

// fadedMsg is sent when a note is to leave the screen.
type fadedMsg struct{}

// fading waits for the first note that is to leave the screen.
func (m *Model) fading() tea.Cmd {
	if m.fades {
		return nil
	}
	now, first := m.now(), time.Duration(-1)
	for _, n := range m.unread() {
		if left, fades := n.left(now); fades && (first < 0 || left < first) {
			first = left
		}
	}
	if first < 0 {
		return nil
	}
	m.fades = true
	ctx := m.ctx
	return func() tea.Msg {
		t := time.NewTimer(first)
		defer t.Stop()
		select {
		case <-t.C:
			return fadedMsg{}
		case <-ctx.Done():
			return nil
		}
	}
}

// messages are those of the exploration and those to this viewer, dismissed ones too, newest first.
func (m *Model) messages() []note {
	all := slices.Clone(m.noted)
	for _, msg := range m.snap.Messages {
		all = append(all, note{level: msg.Level, text: text.Line(msg.Text), at: msg.At})
	}
	slices.SortStableFunc(all, func(a, b note) int { return a.at.Compare(b.at) })
	slices.Reverse(all)
	return all
}

// dismissNotes marks every message as read and reports whether there was one.
func (m *Model) dismissNotes() bool {
	had := len(m.unread()) > 0
	m.notes = nil
	if n := len(m.snap.Messages); n > 0 {
		m.readUpTo = m.snap.Messages[n-1].ID
	}
	return had
}

// drawNotes draws the messages that fit h rows.
func (m *Model) drawNotes(w, h int) []string {
	all := m.unread()
	shown := m.visibleNotes()
	if len(shown) > h {
		shown = shown[len(shown)-h:]
	}
	var rows []string
	for i, n := range shown {
		style, mark := m.noteLook(n.level)
		if n.more > 0 {
			n.text = fmt.Sprintf("(%d like it) ", n.more) + n.text
		}
		r := paint.NewRow(w, theme.Style{})
		end := ""
		if i == len(shown)-1 {
			end = "esc dismiss"
			if more := len(all) - len(shown); more > 0 {
				end = fmt.Sprintf("esc dismiss (%d more)", more)
			}
		}
		r.Put(style, " "+mark+" ")
		if room := r.Room() - text.Width(end) - 2; text.Width(n.text) > room && end != "" {
			end = host{m}.Key("messages") + " in full  " + end
		}
		r.Put(style, text.Clip(n.text, max(0, r.Room()-text.Width(end)-2))).Right(m.theme.Dim, end+" ")
		rows = append(rows, r.String())
	}
	return rows
}

func (m *Model) noteLook(level explorer.MessageLevel) (theme.Style, string) {
	switch level {
	case explorer.Failure:
		return m.theme.Bad, m.theme.Glyph.Cross
	case explorer.Warning:
		return m.theme.Warn, m.theme.Glyph.Bang
	default: // nothing for the others
	}
	return m.theme.Info, m.theme.Glyph.Note
}
