package tui

import (
	"context"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/tui/internal/text"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC // screens show local times
	os.Exit(m.Run())
}

// A loop runs a model the way bubbletea does, but without a terminal: commands run in goroutines, and their messages are
// taken in when the test waits.
type loop struct {
	t    testing.TB
	m    *Model
	ex   *explorer.Exploration
	b    *explorertest.Backend
	msgs chan tea.Msg
	ctx  context.Context
	busy sync.WaitGroup // commands that run
	quit bool
	copy string // what was last sent to the terminal's clipboard
	done int    // commands that were carried out or refused
}

// newLoop is a loop over a filled exploration on a terminal of w × h cells.
func newLoop(t testing.TB, w, h int, change func(*Options)) *loop {
	t.Helper()
	b := explorertest.New()
	return newLoopOver(t, explorertest.Filled(t, b), b, w, h, change)
}

func newLoopOver(t testing.TB, ex *explorer.Exploration, b *explorertest.Backend, w, h int, change func(*Options)) *loop {
	t.Helper()
	o := Options{Actor: explorertest.Owner, Now: b.Clock.Now, Color: ColorTrue, Files: true, Folder: "/home/ada"}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l := &loop{t: t, m: New(ctx, ex, o), ex: ex, b: b, msgs: make(chan tea.Msg, 1024), ctx: ctx}
	t.Cleanup(func() { // nothing outlives its test: commands write files and talk to the exploration
		cancel()
		l.busy.Wait()
	})
	l.run(l.m.watch(0))
	l.send(tea.WindowSizeMsg{Width: w, Height: h})
	return l
}

// run starts a command.
func (l *loop) run(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	l.busy.Go(func() {
		msg := cmd()
		if msg == nil {
			return
		}
		select {
		case l.msgs <- msg:
		case <-l.ctx.Done():
		}
	})
}

// send takes one message in and draws.
func (l *loop) send(msg tea.Msg) {
	switch msg := msg.(type) {
	case tea.BatchMsg:
		for _, c := range msg {
			l.run(c)
		}
		return
	case tea.QuitMsg:
		l.quit = true
		return
	case doneMsg:
		l.done++
	}
	if v := reflect.ValueOf(msg); v.Kind() == reflect.Slice && v.Type().Elem() == reflect.TypeFor[tea.Cmd]() { // a sequence
		for i := range v.Len() {
			l.run(v.Index(i).Interface().(tea.Cmd))
		}
		return
	}
	if v := reflect.ValueOf(msg); v.Kind() == reflect.String {
		l.copy = v.String()
	}
	_, cmd := l.m.Update(msg)
	l.run(cmd)
	l.check()
}

// check checks the size of the frame and that the cursor is inside it.
func (l *loop) check() {
	l.t.Helper()
	v := l.m.View()
	if l.m.w <= 0 || l.m.h <= 0 {
		return
	}
	rows := strings.Split(v.Content, "\n")
	if len(rows) != l.m.h {
		l.t.Fatalf("%d×%d on %s: the frame has %d rows", l.m.w, l.m.h, l.m.active().Name(), len(rows))
	}
	for y, r := range rows {
		if n := text.Width(r); n != l.m.w {
			l.t.Fatalf("%d×%d on %s: row %d is %d cells wide: %q", l.m.w, l.m.h, l.m.active().Name(), y, n, ansi.Strip(r))
		}
	}
	if c := v.Cursor; c != nil && (c.X < 0 || c.Y < 0 || c.X >= l.m.w || c.Y >= l.m.h) {
		l.t.Fatalf("%d×%d on %s: the cursor is at %d, %d", l.m.w, l.m.h, l.m.active().Name(), c.X, c.Y)
	}
}

// press presses keys, named as in the key map; what is no key name is typed letter by letter.
func (l *loop) press(keys ...string) {
	l.t.Helper()
	for _, k := range keys {
		l.send(keyMsg(k))
	}
}

// write types text.
func (l *loop) write(s string) {
	for _, r := range s {
		l.send(tea.KeyPressMsg{Text: string(r), Code: r})
	}
}

// until handles messages until a condition is true.
func (l *loop) until(what string, done func() bool) {
	l.t.Helper()
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	for !done() {
		select {
		case msg := <-l.msgs:
			l.send(msg)
		case <-limit.C:
			l.t.Fatalf("waiting for %s; on the screen:\n%s", what, l.screen())
		}
	}
}

// sees waits until a text is on the screen.
func (l *loop) sees(s string) {
	l.t.Helper()
	l.until("the screen to show "+s, func() bool { return strings.Contains(l.screen(), s) })
}

// screen is the text on the screen.
func (l *loop) screen() string {
	rows := strings.Split(ansi.Strip(l.m.View().Content), "\n")
	for i := range rows {
		rows[i] = strings.TrimRight(rows[i], " ")
	}
	return strings.Join(rows, "\n")
}

// keyMsg is the message of a key by its name.
func keyMsg(name string) tea.KeyPressMsg {
	special := map[string]rune{"up": tea.KeyUp, "down": tea.KeyDown, "left": tea.KeyLeft, "right": tea.KeyRight, "enter": tea.KeyEnter, "esc": tea.KeyEscape, "tab": tea.KeyTab,
		"backspace": tea.KeyBackspace, "delete": tea.KeyDelete, "home": tea.KeyHome, "end": tea.KeyEnd, "pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown}
	var k tea.KeyPressMsg
	for {
		if rest, ok := strings.CutPrefix(name, "ctrl+"); ok && rest != "" {
			k.Mod |= tea.ModCtrl
			name = rest
			continue
		}
		if rest, ok := strings.CutPrefix(name, "alt+"); ok && rest != "" {
			k.Mod |= tea.ModAlt
			name = rest
			continue
		}
		if rest, ok := strings.CutPrefix(name, "shift+"); ok && rest != "" {
			k.Mod |= tea.ModShift
			name = rest
			continue
		}
		break
	}
	switch {
	case name == "space":
		k.Code = tea.KeySpace
		if k.Mod == 0 {
			k.Text = " "
		}
	case special[name] != 0:
		k.Code = special[name]
	case len(name) > 1 && name[0] == 'f':
		k.Code = tea.KeyF1 + rune(name[1]-'1')
	default:
		k.Code = []rune(name)[0]
		if k.Mod&(tea.ModCtrl|tea.ModAlt) == 0 {
			k.Text = name
		}
	}
	return k
}
