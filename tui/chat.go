package tui

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// chatScreen talks to one or more subnets at once, side by side.
type chatScreen struct {
	id      explorer.ChatID // the chat on the screen; "" is the newest
	prompt  field
	focused bool // the prompt has the keys
	editing bool // the prompt replaces the last one instead of following it
	sending bool
	column  int // place of the column under the cursor, from the left
	alone   bool
	up      int // rows scrolled up from the end; 0 follows the end
}

var (
	_ typist = (*chatScreen)(nil)
	_ hinter = (*chatScreen)(nil)
)

func newChatScreen() *chatScreen { return &chatScreen{prompt: newField("", true)} }

// current is the chat on the screen; ok is false when there is none.
func (s *chatScreen) current(snap *explorer.Snapshot) (explorer.Chat, bool) {
	if s.id != "" {
		if c, ok := snap.Chat(s.id); ok {
			return c, true
		}
	}
	if len(snap.Chats) > 0 {
		return snap.Chats[0], true
	}
	return explorer.Chat{}, false
}

// enter goes to a chat, ready to type.
func (s *chatScreen) enter(m *Model, id explorer.ChatID) {
	if s.id != id {
		s.up, s.column, s.editing = 0, 0, false
	}
	s.id, s.focused = id, m.actor.Role >= explorer.RoleEditor && !m.snap.Workspace.ReadOnly
	if c, ok := s.current(m.snap); ok {
		s.column = clamp(len(c.Columns)-1, 0, 1)
	}
}

// order is the order in which the columns are shown: theirs, or one that tells nothing while the chat is blind.
func order(c explorer.Chat) []int {
	out := make([]int, len(c.Columns))
	for i := range out {
		out[i] = i
	}
	if c.Blind {
		h := fnv.New32a()
		h.Write([]byte(c.ID))
		if h.Sum32()%2 == 1 {
			slices.Reverse(out)
		}
	}
	return out
}

// columnName is what a column is called: its subnet, or a letter while the chat is blind.
func columnName(c explorer.Chat, place int) string {
	if c.Blind {
		return string(rune('A' + place))
	}
	return text.Line(c.Columns[order(c)[place]].Label)
}

// shown are the places of the columns on the screen.
func (s *chatScreen) shown(c explorer.Chat, fit int) []int {
	n := len(c.Columns)
	if s.alone {
		fit = 1
	}
	first := clamp(s.column-fit+1, 0, max(0, n-fit))
	var out []int
	for i := first; i < min(n, first+fit); i++ {
		out = append(out, i)
	}
	return out
}

func (s *chatScreen) layout(m *Model, area layout.Rect) (layout.Chat, explorer.Chat, []int) {
	c, ok := s.current(m.snap)
	rows, _, _ := s.prompt.rows(area.W - 4)
	n := max(1, len(c.Columns))
	if s.alone {
		n = 1
	}
	l := layout.NewChat(area, n, len(rows))
	if !ok {
		return l, c, nil
	}
	return l, c, s.shown(c, len(l.Columns))
}

// chatState is what a column depends on besides the snapshot.
type chatState struct {
	chat    explorer.ChatID
	place   int
	focused bool
	up      int
	only    bool // other columns are hidden
	clock   int64
}

func (s *chatScreen) panes(m *Model, area layout.Rect) []pane {
	l, c, shown := s.layout(m, area)
	rev := max(m.snap.Sections[explorer.SectionChats], m.snap.Sections[explorer.SectionModel])
	out := []pane{{id: "chat.head", rect: l.Head, rev: max(rev, m.snap.Sections[explorer.SectionJobs]), state: c.ID, draw: func(t *theme.Theme, w, _ int) []string { return s.drawHead(m, t, c, w) }}}
	if len(shown) == 0 {
		r := l.Columns[0]
		r.W = area.W
		out = append(out, pane{id: "chat.none", rect: r, rev: rev, draw: func(t *theme.Theme, w, h int) []string { return s.drawNone(m, t, w, h) }})
	}
	for i, place := range shown {
		if i >= len(l.Columns) {
			break
		}
		st := chatState{chat: c.ID, place: place, focused: place == s.column, up: s.up, only: len(shown) < len(c.Columns)}
		if c.Busy {
			st.clock = m.now().UnixMilli() / clockEvery.Milliseconds()
		}
		out = append(out, pane{id: "chat.column" + itoa(i), rect: l.Columns[i], rev: rev, state: st,
			draw: func(t *theme.Theme, w, h int) []string { return s.drawColumn(m, t, c, st, w, h) }})
	}
	pr := struct {
		owner            *chatScreen
		version          int
		focused, editing bool
		sending, busy    bool
		at               int
	}{s, s.prompt.version, s.focused, s.editing, s.sending, c.Busy, s.prompt.at}
	return append(out, pane{id: "chat.prompt", rect: l.Prompt, rev: rev, state: pr, draw: func(t *theme.Theme, w, h int) []string { return s.drawPrompt(m, t, w, h) }})
}

func (s *chatScreen) follow(m *Model) {
	c, ok := s.current(m.snap)
	if s.id != "" && ok && c.ID != s.id {
		s.id = ""
	}
	s.column = clamp(s.column, 0, max(0, len(c.Columns)-1))
}

func (s *chatScreen) status(m *Model) string {
	c, ok := s.current(m.snap)
	if !ok || c.Blind {
		return ""
	}
	var parts []string
	for _, i := range order(c) {
		col := c.Columns[i]
		if k := len(col.Replies); k > 0 && col.Replies[k-1].TokensPerSecond > 0 {
			parts = append(parts, fmt.Sprintf("%.1f", col.Replies[k-1].TokensPerSecond))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, " / ") + " tok/s"
}

// back stops a running reply, gives the keys back to the actions, or ends looking back in the chat.
func (s *chatScreen) back(m *Model) (bool, tea.Cmd) {
	if c, ok := s.current(m.snap); ok && c.Busy && m.blocked(m.action("chat.stop")) == "" {
		return true, m.stopReply(c.ID)
	}
	switch {
	case s.editing:
		s.editing = false
		s.prompt.set("")
	case s.focused:
		s.focused = false
	case s.up > 0:
		s.up = 0
	case s.alone:
		s.alone = false
	default:
		return false, nil
	}
	return true, nil
}

func (s *chatScreen) typing() bool { return s.focused }

// typed takes a key for the prompt.
func (s *chatScreen) typed(m *Model, k tea.KeyPressMsg) tea.Cmd {
	switch k.String() {
	case "enter":
		return s.send(m)
	case "up", "down":
		by := 1
		if k.String() == "up" {
			by = -1
		}
		if !s.prompt.vertical(m.area().Body.W-4, by) {
			return s.scroll(m, by)
		}
		return nil
	}
	s.prompt.key(k)
	return nil
}

func (s *chatScreen) pasted(m *Model, str string) tea.Cmd {
	if why := m.blocked(m.action("chat.write")); why != "" {
		return nil
	}
	s.focused = true
	s.prompt.insert(str)
	return nil
}

func (s *chatScreen) cursor(m *Model, area layout.Rect) (int, int, bool) {
	l, _, _ := s.layout(m, area)
	w := l.Prompt.W - 4
	_, x, y := s.prompt.rows(w)
	top := s.promptTop(w, l.Prompt.H-2)
	if l.Prompt.H < 3 {
		return 0, 0, false
	}
	return l.Prompt.X + 2 + x, l.Prompt.Y + 1 + y - top, true
}

// promptTop is the first visible row of the prompt.
func (s *chatScreen) promptTop(w, h int) int {
	_, _, y := s.prompt.rows(w)
	return max(0, y-h+1)
}

// send says what was typed to all columns.
func (s *chatScreen) send(m *Model) tea.Cmd {
	words := strings.TrimSpace(s.prompt.String())
	c, ok := s.current(m.snap)
	switch {
	case words == "" || s.sending:
		return nil
	case ok && c.Busy:
		m.say(levelInfo, "still answering: esc stops it")
		return nil
	case !ok:
		s.sending = true
		return m.try(explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID}}, func(m *Model, r explorer.Receipt) tea.Cmd {
			s.sending = false
			s.enter(m, r.Chat)
			return s.send(m)
		}, func(*Model) { s.sending = false })
	}
	var cmd explorer.Command = explorer.Say{Chat: c.ID, Text: words}
	if s.editing {
		cmd = explorer.EditPrompt{Chat: c.ID, Text: words}
	}
	s.sending = true
	return m.try(cmd, func(*Model, explorer.Receipt) tea.Cmd {
		s.sending, s.editing, s.up = false, false, 0
		s.prompt.set("")
		return nil
	}, func(*Model) { s.sending = false })
}

// scroll looks back, or forward again.
func (s *chatScreen) scroll(m *Model, by int) tea.Cmd {
	s.up = clamp(s.up-by, 0, s.longest(m))
	return nil
}

// longest is how far the columns can be scrolled up.
func (s *chatScreen) longest(m *Model) int {
	l, c, shown := s.layout(m, m.area().Body)
	most := 0
	for i, place := range shown {
		if i < len(l.Columns) {
			r := l.Columns[i]
			most = max(most, len(s.columnRows(m, m.theme, c, place, max(1, r.W-2)))-(r.H-2))
		}
	}
	return max(0, most)
}

func (s *chatScreen) mouse(m *Model, p pane, e mouseEvent) tea.Cmd {
	switch {
	case e.kind == mouseWheel && p.id != "chat.prompt":
		return s.scroll(m, 3*e.delta)
	case e.kind != mouseClick:
	case p.id == "chat.prompt":
		return m.perform(m.action("chat.write"))
	case strings.HasPrefix(p.id, "chat.column"):
		if st, ok := p.state.(chatState); ok {
			s.column, s.focused = st.place, false
		}
	}
	return nil
}

// hints are those of the prompt while it has the keys.
func (s *chatScreen) hints(m *Model) []hint {
	if !s.focused {
		return nil
	}
	c, ok := s.current(m.snap)
	var other []hint
	if len(c.Columns) > 1 {
		other = []hint{{key: "tab", label: "other column", action: m.action("chat.next")}}
	}
	if ok && c.Busy {
		return append([]hint{closeHint("stop")}, other...)
	}
	out := append([]hint{{key: m.keyLabel("enter"), label: "send"}, {key: "alt+" + m.keyLabel("enter"), label: "new line"}, closeHint("other keys")}, other...)
	return append(out, hint{key: "ctrl+p", label: "commands", action: m.action("palette")})
}
