// Package chat is the screen that shows the same chat with several subnets side by side.
package chat

import (
	"slices"
	"strconv"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// A Screen shows a chat with one or more subnets side by side.
type Screen struct {
	prose   *prose
	host    screen.Host
	id      explorer.ChatID // the chat on the screen; "" is the newest
	prompt  widget.Field
	focused bool // the prompt has the keys
	editing bool // the prompt replaces the last one instead of following it
	sending bool
	column  int // position of the column under the cursor, from the left
	alone   bool
	plain   bool // replies are shown as Markdown, not by their words
	up      int  // rows scrolled up from the end; 0 follows the end
}

var (
	_ screen.TextInput = (*Screen)(nil)
	_ screen.Hinter    = (*Screen)(nil)
	_ screen.Answerer  = (*Screen)(nil)
)

// New returns the screen.
func New(host screen.Host) screen.Screen {
	return &Screen{host: host, prompt: widget.NewField("", true), prose: newProse()}
}

// Name is the screen's name.
func (s *Screen) Name() string { return "chat" }

// Title is the name of its tab.
func (s *Screen) Title() string { return "Chat" }

func (s *Screen) snap() *explorer.Snapshot { return s.host.Snapshot() }

// current is the chat on the screen; ok is false when there is none.
func (s *Screen) current(snap *explorer.Snapshot) (explorer.Chat, bool) {
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

// Answer goes to a chat, or to one of the dense model beside a subnet: the newest one, or a new one.
func (s *Screen) Answer(r screen.Request) (tea.Cmd, bool) {
	if show, ok := r.(screen.ShowChat); ok {
		s.enter(show.Chat)
		s.focused = false
		return s.host.Show(s.Name()), true
	}
	with, ok := r.(screen.ChatWith)
	if !ok {
		return nil, false
	}
	want := []explorer.SubnetID{explorer.DenseID, with.Subnet}
	if with.Subnet == explorer.DenseID {
		want = want[:1]
	}
	for _, c := range s.snap().Chats {
		if slices.Equal(columns(c), want) && !c.Blind {
			s.enter(c.ID)
			return s.host.Show(s.Name()), true
		}
	}
	if why := s.host.Blocked("chat.new"); why != "" {
		s.host.Note(explorer.Info, "chat: "+why)
		return nil, true
	}
	return s.host.Do(explorer.OpenChat{Subnets: want}, func(r explorer.Receipt) tea.Cmd {
		s.enter(r.Chat)
		return s.host.Show(s.Name())
	}), true
}

// enter goes to a chat, ready to type.
func (s *Screen) enter(id explorer.ChatID) {
	if s.id != id {
		s.up, s.column, s.editing = 0, 0, false
	}
	s.id, s.focused = id, s.host.Blocked("chat.write") == ""
	if c, ok := s.current(s.snap()); ok {
		s.column = layout.Clamp(len(c.Columns)-1, 0, 1)
	}
}

// column returns the column whose reply to a prompt is shown at a position.
func column(c explorer.Chat, prompt, position int) explorer.Column {
	return c.Columns[c.Order(prompt)[position]]
}

// last is the last prompt of a chat.
func last(c explorer.Chat) int { return len(c.Prompts) - 1 }

// columnName is what a column is called: its subnet, or a letter while the chat is blind.
func columnName(c explorer.Chat, position int) string {
	if c.Blind {
		return string(rune('A' + position))
	}
	return text.Line(c.Columns[position].Label)
}

// shown are the positions of the columns on the screen.
func (s *Screen) shown(c explorer.Chat, fit int) []int {
	n := len(c.Columns)
	if s.alone {
		fit = 1
	}
	first := layout.Clamp(s.column-fit+1, 0, max(0, n-fit))
	var out []int
	for i := first; i < min(n, first+fit); i++ {
		out = append(out, i)
	}
	return out
}

func (s *Screen) layout(area layout.Rect) (layout.Chat, explorer.Chat, []int) {
	c, ok := s.current(s.snap())
	rows, _, _ := s.prompt.Rows(area.W - 4)
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
	chat     explorer.ChatID
	position int
	focused  bool
	up       int
	only     bool // other columns are hidden
	plain    bool
	clock    int64
}

// Panes lays the screen out.
func (s *Screen) Panes(area layout.Rect) []screen.Pane {
	l, c, shown := s.layout(area)
	rev := max(s.snap().Sections[explorer.SectionChats], s.snap().Sections[explorer.SectionModel])
	out := []screen.Pane{{ID: "chat.head", Rect: l.Head, Rev: max(rev, s.snap().Sections[explorer.SectionJobs]), State: struct {
		id    explorer.ChatID
		plain bool
	}{c.ID, s.plain}, Draw: func(t *theme.Theme, w, _ int) []string { return s.drawHead(t, c, w) }}}
	if len(shown) == 0 {
		r := l.Columns[0]
		r.W = area.W
		out = append(out, screen.Pane{ID: "chat.none", Rect: r, Rev: rev, Draw: func(t *theme.Theme, w, h int) []string { return s.drawNone(t, w, h) }})
	}
	for i, position := range shown {
		if i >= len(l.Columns) {
			break
		}
		st := chatState{chat: c.ID, position: position, focused: position == s.column, up: s.up, only: len(shown) < len(c.Columns), plain: s.plain}
		if c.Busy {
			st.clock = s.host.Now().UnixMilli() / screen.ClockEvery.Milliseconds()
		}
		out = append(out, screen.Pane{ID: "chat.column" + strconv.Itoa(i), Rect: l.Columns[i], Rev: rev, State: st,
			Draw: func(t *theme.Theme, w, h int) []string { return s.drawColumn(t, c, st, w, h) }})
	}
	pr := struct {
		owner            *Screen
		prompt           widget.FieldState
		focused, editing bool
		sending, busy    bool
	}{s, s.prompt.State(), s.focused, s.editing, s.sending, c.Busy}
	return append(out, screen.Pane{ID: "chat.prompt", Rect: l.Prompt, Rev: rev, State: pr, Draw: func(t *theme.Theme, w, h int) []string { return s.drawPrompt(t, w, h) }})
}

// Follow adjusts the screen to a new snapshot.
func (s *Screen) Follow() {
	c, ok := s.current(s.snap())
	if s.id != "" && ok && c.ID != s.id {
		s.id = ""
	}
	s.column = layout.Clamp(s.column, 0, max(0, len(c.Columns)-1))
}

// Status returns live numbers for the footer.
func (s *Screen) Status() string {
	c, ok := s.current(s.snap())
	if !ok || c.Blind {
		return ""
	}
	var parts []string
	for _, col := range c.Columns {
		if k := len(col.Replies); k > 0 && col.Replies[k-1].TokensPerSecond > 0 {
			parts = append(parts, speedText(col.Replies[k-1]))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, " / ") + " tok/s"
}

// Back stops a running reply, leaves the prompt, scrolls to the end, or shows all columns.
func (s *Screen) Back() (bool, tea.Cmd) {
	if c, ok := s.current(s.snap()); ok && c.Busy && s.host.Blocked("chat.stop") == "" {
		return true, s.stopReply(c.ID)
	}
	switch {
	case s.editing:
		s.editing = false
		s.prompt.Set("")
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

// Typing reports whether the prompt has the keys.
func (s *Screen) Typing() bool { return s.focused }

// Typed takes a key for the prompt.
func (s *Screen) Typed(k tea.KeyPressMsg) tea.Cmd {
	switch k.String() {
	case "enter":
		return s.send()
	case "up", "down":
		by := 1
		if k.String() == "up" {
			by = -1
		}
		if !s.prompt.Vertical(s.host.Body().W-4, by) {
			return s.scroll(by)
		}
		return nil
	}
	s.prompt.Key(k)
	return nil
}

// Pasted inserts pasted text into the prompt and returns how many characters there is no room for.
func (s *Screen) Pasted(str string) (lost int) {
	if s.host.Blocked("chat.write") != "" {
		return 0
	}
	s.focused = true
	return s.prompt.Insert(str)
}

// Cursor returns the position of the cursor of the prompt.
func (s *Screen) Cursor(area layout.Rect) (int, int, bool) {
	l, _, _ := s.layout(area)
	w := l.Prompt.W - 4
	_, x, y := s.prompt.Rows(w)
	top := s.promptTop(w, l.Prompt.H-2)
	if l.Prompt.H < 3 {
		return 0, 0, false
	}
	return l.Prompt.X + 2 + x, l.Prompt.Y + 1 + y - top, true
}

// promptTop is the first visible row of the prompt.
func (s *Screen) promptTop(w, h int) int {
	_, _, y := s.prompt.Rows(w)
	return max(0, y-h+1)
}

// send sends the prompt to all columns.
func (s *Screen) send() tea.Cmd {
	words := s.prompt.String()
	c, ok := s.current(s.snap())
	switch {
	case strings.TrimSpace(words) == "" || s.sending:
		return nil
	case ok && c.Busy:
		s.host.Note(explorer.Info, "a reply is being generated: esc stops it")
		return nil
	case !ok:
		s.sending = true
		return s.host.Try(explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID}}, func(r explorer.Receipt) tea.Cmd {
			s.sending = false
			s.enter(r.Chat)
			return s.send()
		}, s.notSent)
	}
	var cmd explorer.Command = explorer.Say{Chat: c.ID, Text: words}
	if s.editing {
		cmd = explorer.EditPrompt{Chat: c.ID, Text: words}
	}
	s.sending = true
	return s.host.Try(cmd, func(explorer.Receipt) tea.Cmd {
		s.sending, s.editing, s.up = false, false, 0
		s.prompt.Set("")
		return nil
	}, s.notSent)
}

// notSent ends sending after an error, which is shown.
func (s *Screen) notSent(error) bool {
	s.sending = false
	return false
}

// scroll scrolls the columns.
func (s *Screen) scroll(by int) tea.Cmd {
	s.up = layout.Clamp(s.up-by, 0, s.longest())
	return nil
}

// longest is the number of rows that the columns can be scrolled up.
func (s *Screen) longest() int {
	l, c, shown := s.layout(s.host.Body())
	most := 0
	for i, position := range shown {
		if i < len(l.Columns) {
			r := l.Columns[i]
			most = max(most, len(s.columnRows(s.host.Theme(), c, position, max(1, r.W-2)))-(r.H-2))
		}
	}
	return max(0, most)
}

// Mouse handles a mouse event inside a pane.
func (s *Screen) Mouse(p screen.Pane, e screen.MouseEvent) tea.Cmd {
	switch {
	case e.Kind == screen.Wheel && p.ID != "chat.prompt":
		return s.scroll(3 * e.Delta)
	case e.Kind != screen.Click:
	case p.ID == "chat.prompt":
		return s.host.Perform("chat.write")
	case strings.HasPrefix(p.ID, "chat.column"):
		if st, ok := p.State.(chatState); ok {
			s.column, s.focused = st.position, false
		}
	}
	return nil
}

// Hints are those of the prompt while it has the keys.
func (s *Screen) Hints() []screen.Hint {
	if !s.focused {
		return nil
	}
	c, ok := s.current(s.snap())
	var other []screen.Hint
	if len(c.Columns) > 1 {
		other = []screen.Hint{{Key: "tab", Label: "other column", Action: "chat.next"}}
	}
	if ok && c.Busy {
		return append([]screen.Hint{widget.EscHint("stop")}, other...)
	}
	out := append([]screen.Hint{{Key: s.host.Theme().Glyph.Return, Label: "send"}, {Key: "alt+" + s.host.Theme().Glyph.Return, Label: "new line"}, widget.EscHint("other keys")}, other...)
	return append(out, screen.Hint{Key: "ctrl+p", Label: "commands", Action: "palette"})
}
