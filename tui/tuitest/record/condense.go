package record

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/x/vt"
)

// Condense rewrites a session to what its movie shows, in the time that the movie takes: the rows that change from frame to frame. The
// movie of the result is the same.
func Condense(w io.Writer, cast io.Reader) error {
	var frames [][]string
	m, title, err := play(cast, Dark(), func(emu *vt.Emulator) { frames = append(frames, strings.Split(emu.Render(), "\n")) })
	if err != nil {
		return err
	}
	c, at := NewCast(m.w, m.h, title), time.Unix(1, 0)
	c.Mark(at, MarkFrames)
	shown := make([]string, m.h)
	for i, frame := range frames {
		var b strings.Builder
		if i == 0 {
			b.WriteString("\x1b[?25l\x1b[m\x1b[2J")
		}
		for y, row := range frame {
			if y < len(shown) && row != shown[y] {
				fmt.Fprintf(&b, "\x1b[%d;1H\x1b[m\x1b[K%s\x1b[m", y+1, strings.TrimRight(row, "\r"))
				shown[y] = row
			}
		}
		c.Output(at, []byte(b.String()))
		at = at.Add(time.Duration(m.ticks[i]) * tick)
	}
	c.Mark(at, MarkSkip)
	_, err = c.WriteTo(w)
	return err
}
