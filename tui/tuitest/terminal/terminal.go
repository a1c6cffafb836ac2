// Package terminal is a terminal for tests: a pseudo-terminal with an emulator at its other end, so that a program runs
// exactly as it does for people, and a test reads the screen.
//
// Nothing here sleeps: a test waits for a condition on the screen (Terminal.Wait), and every byte that arrives wakes it.
package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
)

// A Terminal is an emulated terminal. Its methods may be called from any goroutine.
type Terminal struct {
	// TTY is the program's end: its input and its output.
	TTY *os.File
	// Patience is how long Wait waits at most.
	Patience time.Duration

	master *os.File
	mu     sync.Mutex
	screen sync.Mutex // guards emu's cells, of which the emulator hands out pointers
	emu    *vt.SafeEmulator
	news   chan struct{} // closed and replaced when output arrived
	tap    func(at time.Time, output []byte)
	done   sync.WaitGroup
}

// patience is the Patience of new terminals.
const patience = 60 * time.Second

// New opens a terminal of w × h cells. tap, which may be nil, is given all output as it arrives.
func New(w, h int, tap func(at time.Time, output []byte)) (*Terminal, error) {
	master, tty, err := pty.Open()
	if err != nil {
		return nil, err
	}
	t := &Terminal{TTY: tty, Patience: patience, master: master, emu: vt.NewSafeEmulator(w, h), news: make(chan struct{}), tap: tap}
	if err := t.size(w, h); err != nil {
		return nil, err
	}
	t.done.Go(t.output)
	t.done.Go(t.replies)
	return t, nil
}

// Environ is the environment of a program in the terminal.
func (t *Terminal) Environ() []string { return []string{"TERM=xterm-256color", "COLORTERM=truecolor"} }

// output feeds the program's output to the emulator.
func (t *Terminal) output() {
	buf := make([]byte, 64<<10)
	for {
		n, err := t.master.Read(buf)
		if n > 0 {
			if t.tap != nil {
				t.tap(time.Now(), buf[:n])
			}
			t.screen.Lock()
			_, _ = t.emu.Write(buf[:n]) // an emulator takes everything
			t.screen.Unlock()
			t.mu.Lock()
			close(t.news)
			t.news = make(chan struct{})
			t.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// replies feeds the emulator's answers and the keys sent to it to the program.
func (t *Terminal) replies() {
	buf := make([]byte, 4<<10)
	for {
		n, err := t.emu.Read(buf)
		if n > 0 {
			if _, err := t.master.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (t *Terminal) size(w, h int) error {
	return pty.Setsize(t.master, &pty.Winsize{Cols: uint16(w), Rows: uint16(h)})
}

// Resize changes the size and signals this process, as a window does.
func (t *Terminal) Resize(w, h int) error {
	t.screen.Lock()
	t.emu.Resize(w, h)
	t.screen.Unlock()
	if err := t.size(w, h); err != nil {
		return err
	}
	return syscall.Kill(os.Getpid(), syscall.SIGWINCH)
}

// Size is the size in cells.
func (t *Terminal) Size() (w, h int) { return t.emu.Width(), t.emu.Height() }

// Press presses keys, named as bubbletea names them: "a", "enter", "ctrl+p", "shift+down", "f3".
func (t *Terminal) Press(keys ...string) error {
	for _, k := range keys {
		if err := t.Type(Sequence(k)); err != nil {
			return err
		}
	}
	return nil
}

// Type writes bytes as if they were typed.
func (t *Terminal) Type(s string) error {
	_, err := t.master.WriteString(s)
	return err
}

// Click presses and releases the left button at a cell.
func (t *Terminal) Click(x, y int) error {
	return t.Type(fmt.Sprintf("\x1b[<0;%d;%dM\x1b[<0;%d;%dm", x+1, y+1, x+1, y+1))
}

// Cell is the cell at a position of the screen; nil outside it.
func (t *Terminal) Cell(x, y int) *uv.Cell {
	t.screen.Lock()
	defer t.screen.Unlock()
	c := t.emu.CellAt(x, y)
	if c != nil {
		c = c.Clone()
	}
	return c
}

// Screen is the text on the screen, without trailing blanks.
func (t *Terminal) Screen() string {
	t.screen.Lock()
	defer t.screen.Unlock()
	w, h := t.Size()
	rows := make([]string, h)
	for y := range h {
		var b strings.Builder
		for x := 0; x < w; x++ {
			c := t.emu.CellAt(x, y)
			if c == nil || c.Content == "" {
				b.WriteByte(' ')
				continue
			}
			b.WriteString(c.Content)
			x += max(1, c.Width) - 1
		}
		rows[y] = strings.TrimRight(b.String(), " ")
	}
	return strings.Join(rows, "\n")
}

// Wait returns once done holds for the screen, looking again whenever output arrives and ten times a second otherwise.
func (t *Terminal) Wait(what string, done func(screen string) bool) error {
	limit := time.NewTimer(t.Patience)
	defer limit.Stop()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		t.mu.Lock()
		news := t.news
		t.mu.Unlock()
		s := t.Screen()
		if done(s) {
			return nil
		}
		select {
		case <-news:
		case <-again.C:
		case <-limit.C:
			return fmt.Errorf("%s did not appear; on the screen:\n%s", what, s)
		}
	}
}

// See waits until a text is on the screen.
func (t *Terminal) See(s string) error {
	return t.Wait(fmt.Sprintf("%q", s), func(screen string) bool { return strings.Contains(screen, s) })
}

// Close closes both ends and waits until nothing is read any more.
func (t *Terminal) Close() error {
	err := errors.Join(t.TTY.Close(), t.master.Close())
	if c, ok := t.emu.InputPipe().(io.Closer); ok { // what replies reads from
		err = errors.Join(err, c.Close())
	}
	t.done.Wait()
	return err
}

// Sequence returns what a terminal sends for a key: xterm's codes, except for esc, which is sent in the form that cannot be
// mistaken for the beginning of the next key.
func Sequence(name string) string {
	mod := 1
	for _, m := range []struct {
		prefix string
		bit    int
	}{{"shift+", 1}, {"alt+", 2}, {"ctrl+", 4}} {
		if rest, ok := strings.CutPrefix(name, m.prefix); ok && rest != "" {
			mod += m.bit
			name = rest
		}
	}
	for final, keys := range map[string]string{"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end"} {
		if name != keys {
			continue
		}
		if mod == 1 {
			return "\x1b[" + final
		}
		return fmt.Sprintf("\x1b[1;%d%s", mod, final)
	}
	simple := map[string]string{"enter": "\r", "esc": "\x1b[27u", "tab": "\t", "backspace": "\x7f", "space": " ", "delete": "\x1b[3~", "pgup": "\x1b[5~", "pgdown": "\x1b[6~",
		"f1": "\x1bOP", "f2": "\x1bOQ", "f3": "\x1bOR", "f4": "\x1bOS", "f5": "\x1b[15~", "f6": "\x1b[17~"}
	s, ok := simple[name]
	switch {
	case name == "tab" && mod == 2:
		return "\x1b[Z"
	case !ok && (mod-1)&4 != 0: // ctrl and a letter
		s = string(rune(name[0] & 0x1f))
	case !ok:
		s = name
	}
	if (mod-1)&2 != 0 {
		s = "\x1b" + s
	}
	return s
}
